"""Progress: up to which offset everything is delivered, by partition, so that a commit never runs ahead.

What belongs here: counting acknowledgements. What does not: clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

Partition = tuple[str, int]


class Batch:
    """Records that were consumed together; ``pending`` counts those whose fate the broker has not acknowledged."""

    __slots__ = ("offsets", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self.offsets: Final[dict[Partition, int]] = {}
        """The next offset to read of each partition, once this batch is delivered."""


class Progress:
    """The batches in flight, oldest first. Not thread-safe: the loop and its callbacks run in one thread."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._delivered: dict[Partition, int] = {}

    def begin(self) -> Batch:
        """Return a new batch, after all others."""
        batch = Batch()
        self._batches.append(batch)
        return batch

    def delivered(self) -> dict[Partition, int]:
        """Return the offsets that may be committed and were not returned yet: those of the leading whole batches."""
        while self._batches and self._batches[0].pending == 0:
            self._delivered.update(self._batches.popleft().offsets)
        delivered, self._delivered = self._delivered, {}
        return delivered

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Leave ``partitions`` out of every later commit: they belong to another router now."""
        for partition in partitions:
            self._delivered.pop(partition, None)
            for batch in self._batches:
                batch.offsets.pop(partition, None)

    @property
    def in_flight(self) -> int:
        """Records without acknowledgement."""
        return sum(batch.pending for batch in self._batches)
