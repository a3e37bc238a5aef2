"""Turns for attempts: whether a saga's next attempt is made now, and the time-out that it is given.

What belongs here: steering and learned time-outs together, with the rule which of them speaks; the time is told. What
does not: how either works (``ml.steering.decide``, ``ml.timeouts``), holding answers, HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ml.steering.decide import Rules, Steering
from ml.steering.health import ANSWERED, Habits, Health, Outcome
from ml.timeouts.advisor import Advisor
from ml.timeouts.learning import Learned

WELL: Final = 0.95
"""Share of recent attempts that were answered, from which the learned time-outs speak. In trouble the steering's own
do: cut attempts look like hangs to what was learned, and short time-outs keep the trouble alive (ADR 118)."""
LONGER: Final = 0.3
"""Logarithm of steering's time-out over the usual one, up to which a participant counts as well."""
_LOST_SECONDS: Final = 600.0
"""After which an attempt whose end was not told is taken for lost; no time-out is longer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The next move of a saga; ``ticket`` names the attempt where it is to be sent."""

    move: Literal["send", "wait", "stop"]
    seconds: float
    because: str
    ticket: int | None


class LearnedTimeouts:
    """Time-outs by what was learned (:mod:`ml.timeouts`), corrected by how attempts end; for one thread."""

    def __init__(self) -> None:
        self._advisor: Advisor | None = None
        self._at = ""
        self._begun: dict[tuple[str, int], tuple[int, float]] = {}
        self._number = 0

    def __len__(self) -> int:
        """Return how many attempts are under way."""
        return len(self._begun)

    def take(self, at: str, learned: Learned | None) -> None:
        """Take what was learned anew, named by ``at``; what was seen of participants since, and attempts under way,
        are kept."""
        if at == self._at or learned is None:
            return
        advisor = Advisor(learned)
        if self._advisor is not None:
            advisor.restore(self._advisor.save())
        self._at, self._advisor = at, advisor

    def began(self, participant: str, step: str, ticket: int, now: float) -> float | None:
        """Return the time-out, seconds, of an attempt that begins; None where its step was not learned."""
        if self._advisor is None:
            return None
        self._expire(now)
        self._number += 1
        advice = self._advisor.advise(self._number, participant, step, now)
        if not advice.known:
            return None
        self._begun[participant, ticket] = self._number, now
        return advice.timeout_ms / 1000

    def ended(self, participant: str, ticket: int, now: float, outcome: Outcome) -> None:
        """Note how an attempt ended."""
        begun = self._begun.pop((participant, ticket), None)
        if begun is None or self._advisor is None:
            return
        number, at = begun
        if outcome in ANSWERED:
            self._advisor.ended(number, (now - at) * 1000)
        elif outcome == "timed_out":
            self._advisor.gave_up(number, (now - at) * 1000)
        else:
            # One that failed at once says nothing about how long an answer takes.
            self._advisor.dropped(number)

    def _expire(self, now: float) -> None:
        """Let go of attempts whose end was never told: their caller is gone."""
        while self._begun:
            key, (number, at) = next(iter(self._begun.items()))
            if now - at < _LOST_SECONDS:
                return
            del self._begun[key]
            if self._advisor is not None:
                self._advisor.dropped(number)


class Dispatcher:
    """Gives turns to sagas; for one thread."""

    def __init__(
        self,
        usual: Mapping[str, float],
        uniform: Callable[[], float],
        *,
        rules: Rules | None = None,
        habits: Habits | None = None,
    ) -> None:
        """``usual`` and ``uniform`` are those of :class:`Steering`."""
        self.steering = Steering(usual, uniform, rules=rules, habits=habits)
        self.timeouts = LearnedTimeouts()

    def ask(
        self,
        participant: str,
        step: str,
        saga: int,
        now: float,
        *,
        left: float,
        attempts: int,
        asked: int,
        then: Sequence[str] = (),
    ) -> Turn:
        """Return the next move of a saga that has ``left`` seconds; a ``send`` is counted as begun."""
        steering = self.steering
        move = steering.decide(participant, saga, now, deadline=now + left, attempts=attempts, asked=asked, then=then)
        if move.what != "send":
            return Turn(move.what, move.seconds, move.because, None)
        ticket = steering.sent(participant, now, left)
        learned = self.timeouts.began(participant, step, ticket, now)
        is_learned = learned is not None and is_well(steering.health[participant])
        seconds = min(learned, left) if learned is not None and is_learned else move.seconds
        return Turn("send", seconds, move.because, ticket)

    def tell(self, participant: str, ticket: int, now: float, outcome: Outcome) -> list[int]:
        """Note how an attempt ended; return the sagas in line that there is a place for now."""
        self.steering.ended(participant, ticket, now, outcome)
        self.timeouts.ended(participant, ticket, now, outcome)
        return self.steering.called(participant)


def is_well(health: Health) -> bool:
    """Return whether a participant does so well that the learned time-outs speak for it."""
    return health.success >= WELL and health.stretch <= LONGER
