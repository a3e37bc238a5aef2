"""Whether a saga's next attempt is made now, later, or not at all.

What belongs here: the decision from a participant's health, those who wait, and the time that a saga has left. What
does not: keeping the health (``ml.steering.health``).

- **Hold instead of fail.** A saga that meets an outage costs nothing while it waits; a failed one is compensated. So a
  participant that answers hardly anything is asked by a probe now and then, and the others wait.
- **Earliest deadline first.** Where there is room for some of those who wait, those with the least time left go
  (Liu and Layland 1973); who cannot be in time any more is given up, so that it takes no room from others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ml.steering.health import Habits, Health, Outcome
from ml.steering.line import Line


@dataclass(frozen=True, slots=True)
class Rules:
    """How cautious the decision is; tuned on the past."""

    hopeless: float = 0.0157
    """Share of successes below which sagas wait for a probe."""
    probe: float = 1.91
    """Seconds between probes."""
    pause: float = 0.0708
    """Seconds before a further attempt where half of them succeed; more where fewer do."""
    last: float = 0.687
    """Time-outs left, below which a saga tries in any case."""
    late: float = 0.175
    """Of the time that a saga's remaining steps are expected to take: with less left it is given up."""
    slack: float = 1.95
    """How many of those who wait are called for a free place: not all of them ask at that moment."""


@dataclass(frozen=True, slots=True)
class Move:
    """What a saga does next: ``send`` with a time-out of ``seconds``, ``wait`` for them and ask again, or ``stop``."""

    what: Literal["send", "wait", "stop"]
    seconds: float
    because: str


class Steering:
    """Decides on attempts at all participants; told what was sent and how it ended."""

    def __init__(
        self,
        usual: Mapping[str, float],
        uniform: Callable[[], float],
        *,
        rules: Rules | None = None,
        habits: Habits | None = None,
    ) -> None:
        """``usual``: p99 of each participant's durations in the past, seconds; ``uniform()`` draws from [0, 1)."""
        self.rules = rules or Rules()
        self.health: dict[str, Health] = {}
        self._habits = habits or Habits()
        self._lines: dict[str, Line] = {}
        self._uniform = uniform
        for name, seconds in usual.items():
            self.know(name, seconds)

    def know(self, participant: str, usual: float) -> None:
        """Take in a participant, or a new ``usual`` for one; what was seen of it stays."""
        if (known := self.health.get(participant)) is not None:
            known.usual = usual
            return
        self.health[participant] = Health(self._habits, usual)
        self._lines[participant] = Line()

    def waiting(self, participant: str) -> int:
        """Return how many stand in line."""
        return len(self._lines[participant].order)

    def decide(
        self,
        participant: str,
        saga: int,
        now: float,
        *,
        deadline: float,
        attempts: int,
        asked: int,
        then: Sequence[str] = (),
    ) -> Move:
        """Return the next move of a saga after ``attempts`` that failed.

        ``asked`` is how often it was told to wait since the last attempt, ``then`` the participants of the steps after
        this one.
        """
        rules, health, line = self.rules, self.health[participant], self._lines[participant]
        left = deadline - now
        rest = sum(self._expected(name, deadline) for name in then)
        needed = rules.late * (health.took + rest)
        line.expire(now)
        health.expire(now)
        # An idle participant loses nothing by one that comes too late, and what is known of it may be old.
        if left < needed and (health.flying or rest > left):
            line.leave(saga)
            return Move("stop", 0.0, "it cannot be in time any more")
        if attempts and not asked:
            pause = rules.pause * (0.5 / max(health.success, 0.1)) * (0.5 + self._uniform())
            return Move("wait", min(pause, left / 4), "a pause before the next attempt")
        timeout = min(health.timeout, left)
        before = line.join(saga, deadline)
        # Who sleeps past the moment from which it would be too late has no turn.
        longest = max(0.02, (left - needed) / 4)
        if health.success < rules.hopeless and left > rules.last * health.timeout + rest:
            if now - health.probed_at < rules.probe or health.flying > 0 or before > 8:
                return Move("wait", min(longest, self._turn(health, before, rules.probe)), "it answers hardly anything")
            line.leave(saga)
            return Move("send", timeout, "a probe")
        free = health.limit - health.flying
        # Those before this one may be asleep: half of the places are not kept for them.
        if free < 1.0 or (before >= max(1.0, rules.slack * free) and health.flying >= health.limit / 2):
            return Move("wait", min(longest, self._turn(health, before, 0.0)), "it has as much to do as it bears")
        line.leave(saga)
        return Move("send", timeout, "it does well" if health.success > 0.9 else "it may succeed")

    def leave(self, participant: str, saga: int) -> None:
        """Take a saga out of a participant's line: it does not come back."""
        self._lines[participant].leave(saga)

    def called(self, participant: str) -> list[int]:
        """Return the sagas in line that would be sent if they asked now, the one with the least time left first."""
        health = self.health[participant]
        free = math.floor(health.limit - health.flying)
        if free < 1 or health.success < self.rules.hopeless:
            return []
        return self._lines[participant].first(free)

    def _expected(self, participant: str, deadline: float) -> float:
        """Return how many seconds a step will take one with this deadline: its turn, and the answer."""
        health = self.health[participant]
        return health.took * (1.0 + self._lines[participant].before(deadline) / max(health.limit, 1.0))

    def sent(self, participant: str, now: float, left: float = math.inf) -> int:
        """Note that an attempt began, of a saga with ``left`` seconds; return its ticket."""
        return self.health[participant].sent(now, left)

    def ended(self, participant: str, ticket: int, now: float, outcome: Outcome) -> None:
        """Note how the attempt with ``ticket`` ended."""
        self.health[participant].ended(ticket, now, outcome)

    def _turn(self, health: Health, before: int, least: float) -> float:
        """Return after how many seconds a saga with ``before`` others before it should ask again."""
        until = health.took * (before + 1) / max(health.limit, 1.0)
        return min(max(0.02, least * 0.5, 0.5 * until), 5.0) * (0.5 + self._uniform())
