"""The landing sensor's cursor: what was requested, and which ranges had to be requested again.

What belongs here: its form in JSON and the arithmetic of attempts. What does not: the bus and the ledger. Losing it
loses nothing: the ledger says what was landed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resources.ledger import Partition, Range, Seen

_VERSION = 2
#: Seconds before a range that was not landed is requested again, doubled with each attempt.
FIRST_DELAY = 5.0
LONGEST_DELAY = 300.0


@dataclass(slots=True)
class Cursor:
    """Next offset to request of each partition, by the generation of its topic; attempts of what came back missing."""

    next: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    #: key of a missing range → (runs requested so far, time of the next one in s since 1970, excused ones of the runs)
    attempts: dict[str, tuple[int, float, int]] = field(default_factory=dict)
    #: When the oldest event that waits for its range to grow was first seen, s since 1970; 0 for none.
    waiting_since: float = 0.0
    #: What the contiguity check was last told from here, so that it is told only of changes.
    told: str = ""

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """Return the cursor that ``text`` holds; an empty one where it holds none that can be read."""
        try:
            document: dict[str, Any] = json.loads(text or "")
            if document["version"] != _VERSION:
                return cls()
            return cls(
                {
                    (topic, int(partition)): (generation, offset)
                    for topic, partitions in document["next"].items()
                    for partition, (generation, offset) in partitions.items()
                },
                {
                    key: (int(count), float(due), int(excused))
                    for key, (count, due, excused) in document["attempts"].items()
                },
                float(document["waiting_since"]),
                str(document["told"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self) -> str:
        """Return the cursor as text."""
        offsets: dict[str, dict[str, tuple[int, int]]] = {}
        for (topic, partition), at in sorted(self.next.items()):
            offsets.setdefault(topic, {})[str(partition)] = at
        return json.dumps(
            {
                "version": _VERSION,
                "next": offsets,
                "attempts": self.attempts,
                "waiting_since": self.waiting_since,
                "told": self.told,
            }
        )

    def requested(self, current: Mapping[Partition, Seen]) -> dict[Partition, int]:
        """Return the next offset of those partitions whose generation is the cursor's."""
        found = {}
        for at, seen in current.items():
            generation, offset = self.next.get(at, (-1, 0))
            if generation == seen.generation:
                found[at] = offset
        return found

    def advance(self, ranges: Iterable[Range]) -> None:
        """Note that ``ranges`` have been requested."""
        for one in ranges:
            at = (one.topic, one.partition)
            generation, offset = self.next.get(at, (one.generation, 0))
            reached = max(offset, one.to_offset) if generation == one.generation else one.to_offset
            self.next[at] = (one.generation, reached)

    def due(self, missing: Range, now: float) -> bool:
        """Return whether a missing range may be requested now."""
        return self._attempts(missing)[1] <= now

    def tried(self, missing: Range) -> int:
        """Return how often a range that begins where ``missing`` does was requested after it had come back missing."""
        return self._attempts(missing)[0]

    def in_vain(self, missing: Range, *, excused: bool) -> int:
        """Return how many of these runs count against the range; ``excused`` says whether the last one does not."""
        count, _, before = self._attempts(missing)
        return count - before - excused

    def try_again(self, missing: Range, now: float, *, excused: bool) -> int:
        """Note one more request of ``missing`` and return its number, from 1; ``excused`` as in :meth:`in_vain`."""
        count, _, before = self._attempts(missing)
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(count, 16))
        self.attempts[key(missing)] = (count + 1, now + delay, before + excused)
        return count + 1

    def _attempts(self, missing: Range) -> tuple[int, float, int]:
        return self.attempts.get(key(missing), (0, 0.0, 0))

    def keep(self, missing: Iterable[Range]) -> None:
        """Forget the attempts of every range but ``missing``: what was landed at last starts afresh."""
        keys = {key(one) for one in missing}
        self.attempts = {name: value for name, value in self.attempts.items() if name in keys}


def key(one: Range) -> str:
    """Return what a missing range is known by: where it begins, since its end moves with what is landed around it."""
    return f"{one.topic}@{one.generation}/{one.partition}/{one.from_offset}"
