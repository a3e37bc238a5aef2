"""Committed offsets of consumer groups, kept in a journal (``offsets.jsonl``).

What belongs here: the table and its durability. What does not: who may commit (``groups``, ``transactions``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from services.embedded.broker.journal import Journal

Partition = tuple[str, int]


class Committed(NamedTuple):
    """A committed offset: the next one to read, and the client's own note."""

    offset: int
    leader_epoch: int
    metadata: str


class Offsets:
    """Group → (topic, partition) → committed offset. They stay until group or topic is deleted."""

    def __init__(self, folder: Path) -> None:
        self._groups: dict[str, dict[Partition, Committed]] = {}
        self.journal = Journal(folder / "offsets.jsonl", self._entries)
        for group, topic, index, *value in self.journal.replay():
            if value:
                self._groups.setdefault(group, {})[topic, index] = Committed(*value)
            else:
                self._forget(group, [(topic, index)])

    def _entries(self) -> Iterator[tuple[object, ...]]:
        for group, table in self._groups.items():
            for (topic, index), committed in table.items():
                yield (group, topic, index, *committed)

    def commit(self, group: str, entries: Iterable[tuple[Partition, Committed]]) -> None:
        """Remember offsets, all or none; raises :class:`BrokerError` where the disk refuses them."""
        pairs = list(entries)
        self.journal.write(*((group, *partition, *committed) for partition, committed in pairs))
        self._groups.setdefault(group, {}).update(pairs)

    def of(self, group: str) -> dict[Partition, Committed]:
        """Return a group's offsets (empty for an unknown group)."""
        return self._groups.get(group, {})

    def groups(self) -> list[str]:
        """Return the groups that have offsets."""
        return list(self._groups)

    def _forget(self, group: str, partitions: Iterable[Partition]) -> None:
        table = self._groups.get(group, {})
        for partition in partitions:
            table.pop(partition, None)
        if not table:
            self._groups.pop(group, None)

    def delete(self, group: str, partitions: Iterable[Partition] | None = None) -> None:
        """Forget a group's offsets, of some partitions or of all."""
        gone = list(self.of(group)) if partitions is None else [one for one in partitions if one in self.of(group)]
        if gone:
            self.journal.write(*((group, *partition) for partition in gone))
            self._forget(group, gone)

    def delete_topic(self, topic: str) -> None:
        """Forget all groups' offsets of a topic that was deleted: a new one of that name starts at 0."""
        for group in self.groups():
            self.delete(group, [partition for partition in self.of(group) if partition[0] == topic])
