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

_VERSION = 1
#: Seconds before a range that was not landed is requested again, doubled with each attempt.
FIRST_DELAY = 5.0
LONGEST_DELAY = 300.0


@dataclass(slots=True)
class Cursor:
    """Next offset to request of each partition, by the generation of its topic; attempts of what came back missing."""

    next: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    #: landing id of a missing range's first offset → (runs requested so far, time of the next one in s since 1970)
    attempts: dict[str, tuple[int, float]] = field(default_factory=dict)
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
                {key: (int(count), float(due)) for key, (count, due) in document["attempts"].items()},
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
        return self.attempts.get(_key(missing), (0, 0.0))[1] <= now

    def tried(self, missing: Range) -> int:
        """Return how often a range that begins where ``missing`` does was requested after it had come back missing."""
        return self.attempts.get(_key(missing), (0, 0.0))[0]

    def try_again(self, missing: Range, now: float) -> int:
        """Note one more request of ``missing`` and return its number, from 1."""
        count = self.tried(missing) + 1
        self.attempts[_key(missing)] = (count, now + min(LONGEST_DELAY, FIRST_DELAY * 2 ** (count - 1)))
        return count

    def keep(self, missing: Iterable[Range]) -> None:
        """Forget the attempts of every range but ``missing``: what was landed at last starts afresh."""
        keys = {_key(one) for one in missing}
        self.attempts = {key: value for key, value in self.attempts.items() if key in keys}


def _key(one: Range) -> str:
    return f"{one.topic}@{one.generation}/{one.partition}/{one.from_offset}"
