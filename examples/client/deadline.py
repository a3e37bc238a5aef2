"""Deadlines: until when an answer is of use, and whether a call can still make it.

What belongs here: a deadline, its form on the wire, and how long a call will take by what calls took lately; pure and
with the time given. What does not: sending, and giving up on a call (:mod:`examples.client.saga`).

A call that cannot be answered in time is work that nobody waits for. Not sending it is what lets a participant in
trouble recover; a participant can do the same at its own door with the deadline that it is told.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

HEADER: Final = "isthmus-deadline-ms"
"""Header that tells a participant how many milliseconds are left. Not a moment: clocks of two machines differ."""
_MOST_MS: Final = 86_400_000.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, in seconds of the clock that made it; ``math.inf`` is none."""

    at: float = math.inf

    @classmethod
    def within(cls, seconds: float | None, now: float) -> Deadline:
        """Return the deadline ``seconds`` from ``now``; none where ``seconds`` is None."""
        return cls() if seconds is None else cls(now + seconds)

    @classmethod
    def from_header(cls, value: str | None, now: float) -> Deadline:
        """Return the deadline that a header tells; none where it is absent, and none where it is nonsense."""
        try:
            left = float(value) if value else math.inf
        except ValueError:
            return cls()
        return cls(now + left / 1000) if 0 <= left <= _MOST_MS else cls()

    def remaining(self, now: float) -> float:
        """Return the seconds that are left, 0 where it has passed."""
        return max(0.0, self.at - now)

    def earlier(self, seconds: float, now: float) -> Deadline:
        """Return this deadline, or the one ``seconds`` from ``now`` where that comes first."""
        return Deadline(min(self.at, now + seconds))

    def allows(self, expected: float | None, now: float) -> bool:
        """Return whether a call that is expected to take ``expected`` seconds (None: unknown) is worth sending."""
        left = self.remaining(now)
        return left > 0 and (expected is None or left >= expected)

    def header(self, now: float) -> dict[str, str]:
        """Return the header that passes it on; none where there is no deadline."""
        return {} if math.isinf(self.at) else {HEADER: f"{self.remaining(now) * 1000:.0f}"}


class ExpectedDuration:
    """How long a call takes, by the ``quantile`` of those that were answered within the last ``memory_seconds``.

    It says nothing until it has ``enough`` of them. That it forgets is what ends the shedding: where no call is sent,
    none is measured, and after ``memory_seconds`` calls go out again and are measured anew.
    """

    __slots__ = ("_enough", "_memory", "_quantile", "_seen", "_value")

    def __init__(self, *, quantile: float = 0.5, memory_seconds: float = 10.0, enough: int = 5, most: int = 64) -> None:
        if not (0 <= quantile <= 1 and memory_seconds > 0 and 1 <= enough <= most):
            raise ValueError("a quantile of 0 to 1, a memory above 0 s and 1 <= enough <= most are needed")
        self._quantile = quantile
        self._memory = memory_seconds
        self._enough = enough
        self._seen: deque[tuple[float, float]] = deque(maxlen=most)
        self._value: float | None = None

    def observe(self, seconds: float, now: float) -> None:
        """Count a call that was answered after ``seconds``."""
        self._seen.append((now, seconds))
        self._value = None

    def value(self, now: float) -> float | None:
        """Return the expected seconds, or None where too little is known."""
        while self._seen and self._seen[0][0] < now - self._memory:
            self._seen.popleft()
            self._value = None
        if len(self._seen) < self._enough:
            return None
        if self._value is None:
            ordered = sorted(seconds for _, seconds in self._seen)
            self._value = ordered[min(len(ordered) - 1, math.floor(self._quantile * len(ordered)))]
        return self._value
