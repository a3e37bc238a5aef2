"""What is known of one participant from the attempts that were made: how it does now, and how much it bears.

What belongs here: running figures, in constant time for each attempt, with the time told. What does not: what a saga
does with them (``ml.steering.decide``).

The limit of attempts in flight moves as TCP's window does (Jacobson 1988): it grows while attempts succeed, is cut when
they are refused or time out, and after an outage begins again from one and doubles until it is near where it was cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

Outcome = Literal["ok", "declined", "error", "refused", "timed_out"]

ANSWERED: Final = ("ok", "declined")


@dataclass(frozen=True, slots=True)
class Habits:
    """How quickly figures follow what is seen; tuned on the past (``benchmarks/saga_policy.py --tune``)."""

    memory: float = 23.8
    """Attempts over which the share of successes is averaged, exponentially."""
    tail: float = 0.989
    """Share of attempts that are to end within their time-out."""
    pace: float = 0.0604
    """Step of the time-out's logarithm after an attempt that was cut."""
    cut: float = 0.682
    """What is left of the limit after a refusal or a time-out."""
    first_limit: float = 32.0
    """Attempts in flight that are allowed before anything is known."""
    longest: float = 36.4
    """A time-out is at most this many times the step's p99 of the past."""


@dataclass(slots=True)
class Health:
    """Running figures of one participant; times are seconds."""

    habits: Habits
    usual: float
    """The step's p99 of the past, seconds: where the time-out begins."""
    success: float = 1.0
    """Share of recent attempts that were answered, exponentially averaged."""
    stretch: float = 0.0
    """Logarithm of the time-out over ``usual``."""
    limit: float = 0.0
    threshold: float = math.inf
    """Limit from which growth is slow: near where it was cut."""
    cut_at: float = -math.inf
    """When the limit was cut last: attempts sent before then tell nothing new."""
    probed_at: float = -math.inf
    """When the last attempt began."""
    took: float = 0.0
    """Seconds of a usual answer, averaged."""
    in_flight: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """When each attempt began, and whether it has less than the time-out; by ticket, oldest first."""
    _tickets: int = 0

    def __post_init__(self) -> None:
        self.limit = self.limit or self.habits.first_limit
        self.took = self.took or self.usual / 4

    @property
    def flying(self) -> int:
        """Attempts in flight."""
        return len(self.in_flight)

    @property
    def timeout(self) -> float:
        """Seconds that an attempt is given."""
        return self.usual * math.exp(self.stretch)

    def sent(self, now: float, left: float = math.inf) -> int:
        """Note that an attempt began, of a saga with ``left`` seconds; return its ticket."""
        self._tickets += 1
        self.in_flight[self._tickets] = (now, left < self.timeout)
        self.probed_at = now
        return self._tickets

    def expire(self, now: float) -> None:
        """Count off attempts whose end was never told, long after their time: their caller is gone."""
        longest = 2.0 * self.usual * self.habits.longest
        while self.in_flight:
            ticket, (began, _) = next(iter(self.in_flight.items()))
            if now - began < longest:
                return
            del self.in_flight[ticket]

    def ended(self, ticket: int, now: float, outcome: Outcome) -> None:
        """Note how an attempt ended, once; an unknown ticket tells nothing.

        That an attempt with less than the time-out was cut or refused tells nothing either.
        """
        full = self.flying >= 0.7 * math.floor(self.limit)
        if (attempt := self.in_flight.pop(ticket, None)) is None:
            return
        began, cut_short = attempt
        habits = self.habits
        if outcome in ANSWERED:
            self.success += (1.0 - self.success) / habits.memory
            self.took += (now - began - self.took) / 16.0
            inside = now - began <= self.timeout
            self.stretch += habits.pace * (1.0 - habits.tail if not inside else -(1.0 - habits.tail))
            if full:
                self.limit += 1.0 if self.limit < self.threshold else 1.0 / self.limit
        elif outcome == "error":
            self.success -= self.success / habits.memory
        elif not cut_short:
            self.success -= self.success / habits.memory
            if outcome == "timed_out":
                self.stretch += habits.pace * habits.tail
            if began >= self.cut_at:
                self.threshold = max(2.0, self.limit * habits.cut)
                self.limit = max(1.0, min(self.limit, self.flying + 1.0) * habits.cut)
                self.cut_at = now
        self.stretch = min(max(self.stretch, -1.0), math.log(habits.longest))
