"""When the next attempt is made: what is seen of participants across all sagas, kept for those who ask.

What belongs here: one steering for all who ask this process, those whose answer is held until their turn comes, and
figures. What does not: the decision (:mod:`ml.steering`) and HTTP (:mod:`services.orchestrator.web`).

What is known is in memory and begins anew with the process: nothing is held back until something was seen.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Annotated, Final, Literal

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field

from ml.steering.decide import Move, Steering
from ml.steering.health import ANSWERED, Outcome
from ml.timeouts.advisor import Advisor
from services.families import by, counter, gauge
from services.orchestrator.standing import Standing, Timeouts

UNKNOWN: Final = 5.0
"""Seconds that are taken for the usual time-out of a participant without a policy; what is seen moves it."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
MOST_PARTICIPANTS: Final = 1_000
WELL: Final = 0.95
"""Share of recent attempts that were answered, from which the learned time-outs speak. In trouble the steering's own
do: cut attempts look like hangs to what was learned, and short time-outs keep the trouble alive (ADR 118)."""
LONGER: Final = 0.3
"""Logarithm of steering's time-out over the usual one, up to which a participant counts as well."""
_LOST_SECONDS: Final = 600.0
"""After which an attempt whose end was not told is taken for lost; no time-out is longer."""
MOST_HELD: Final = 5_000
"""Answers that are held at a time; who comes then is told when to ask again."""


class TooManyParticipants(ValueError):
    """More participants than are kept."""


class Ended(BaseModel):
    """How an attempt ended."""

    model_config = ConfigDict(extra="forbid")

    participant: Name
    ticket: int = Field(ge=1, description="As the answer that sent it named it.")
    outcome: Literal["ok", "declined", "error", "refused", "timed_out"]


class Asked(BaseModel):
    """A saga that would make an attempt, and what came of those before."""

    model_config = ConfigDict(extra="forbid")

    saga_id: Name
    participant: Name | None = Field(default=None, description="Whom it would call; null where it only tells.")
    step: str = Field(default="", max_length=200, description="The step: with it the time-out is the learned one.")
    left_ms: float = Field(default=60_000.0, ge=0, le=86_400_000.0, description="Milliseconds that the saga has left.")
    attempts: int = Field(default=0, ge=0, le=1_000_000, description="Attempts at this step so far.")
    asked: int = Field(default=0, ge=0, le=1_000_000, description="Answers `wait` since the last attempt.")
    then: list[Name] = Field(default_factory=list, max_length=100, description="Participants of the later steps.")
    ended: list[Ended] = Field(default_factory=list, max_length=100)
    hold_ms: float = Field(
        default=0.0, ge=0, le=60_000.0, description="Milliseconds that a `wait` may be held back until the turn comes."
    )


class TurnAnswer(BaseModel):
    """The next move of a saga."""

    move: Literal["send", "wait", "stop"] = Field(description="Call; ask again after `ms`; undo what was done.")
    ms: float = Field(description="Milliseconds to wait: for the answer, or until it asks again.")
    because: str
    ticket: int | None = Field(description="Names the attempt that is to be sent; its end is told with it.")


@dataclass(frozen=True, slots=True)
class Coming:
    """An attempt that a saga would make, as :class:`Asked`; ``left`` is in seconds."""

    participant: str
    saga_id: str
    left: float
    attempts: int = 0
    asked: int = 0
    then: Sequence[str] = ()
    step: str = ""


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
        self._known = Timeouts()
        self._begun: dict[tuple[str, int], tuple[int, float]] = {}
        self._number = 0

    def take(self, timeouts: Timeouts) -> None:
        """Take what was learned anew; what was seen of participants since, and attempts under way, are kept."""
        if timeouts.at == self._known.at or timeouts.learned is None:
            return
        advisor = Advisor(timeouts.learned)
        if self._advisor is not None:
            advisor.restore(self._advisor.save())
        self._known, self._advisor = timeouts, advisor

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


class Turns(Collector):
    """Gives turns to sagas; for one thread."""

    def __init__(
        self, standing: Callable[[], Standing], *, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        # Jitter, not secrets.
        self._steering = Steering({}, random.Random(seed).random)  # noqa: S311
        self._standing = standing
        self._clock = clock
        self._read: Standing | None = None
        self._timeouts = LearnedTimeouts()
        self._usual: dict[str, float] = {}
        self._held: dict[str, dict[int, asyncio.Future[None]]] = {}
        self.given: Counter[str] = Counter()

    def ask(self, coming: Coming) -> Turn:
        """Return the next move of a saga; raises TooManyParticipants."""
        now, participant, left = self._clock(), coming.participant, coming.left
        for name in (participant, *coming.then):
            self._know(name)
        steering = self._steering
        move: Move = steering.decide(
            participant,
            hash(coming.saga_id),
            now,
            deadline=now + left,
            attempts=coming.attempts,
            asked=coming.asked,
            then=coming.then,
        )
        self.given[move.what] += 1
        if move.what != "send":
            return Turn(move.what, move.seconds, move.because, None)
        ticket = steering.sent(participant, now, left)
        learned = self._timeouts.began(participant, coming.step, ticket, now)
        health = steering.health[participant]
        is_well = health.success >= WELL and health.stretch <= LONGER
        seconds = min(learned, left) if learned is not None and is_well else move.seconds
        return Turn("send", seconds, move.because, ticket)

    async def ask_and_wait(self, coming: Coming, *, hold: float, is_gone: Callable[[], Awaitable[bool]]) -> Turn | None:
        """Return the next move of a saga, as :meth:`ask`; where it would wait, hold it for up to ``hold`` seconds.

        A saga that is held is called as soon as there is a place for it. None: whoever asked is gone, and so is the
        saga's place in line.
        """
        began, participant, saga = self._clock(), coming.participant, hash(coming.saga_id)
        for asked in count(coming.asked):
            waited = self._clock() - began
            turn = self.ask(replace(coming, left=coming.left - waited, asked=asked))
            if turn.move != "wait" or waited >= hold or self.held >= MOST_HELD:
                return turn
            await self._call(participant, saga, min(turn.seconds, hold - waited))
            if await is_gone():
                self._steering.leave(participant, saga)
                break
        return None

    @property
    def held(self) -> int:
        """Answers that are held back until a turn comes."""
        return sum(map(len, self._held.values()))

    def tell(self, participant: str, ticket: int, outcome: Outcome) -> None:
        """Note how an attempt ended; a second time, or one that is not known, tells nothing."""
        if participant not in self._steering.health:
            return
        now = self._clock()
        self._steering.ended(participant, ticket, now, outcome)
        self._timeouts.ended(participant, ticket, now, outcome)
        if held := self._held.get(participant):
            for saga in self._steering.called(participant):
                if (call := held.get(saga)) is not None and not call.done():
                    call.set_result(None)

    async def _call(self, participant: str, saga: int, seconds: float) -> None:
        """Wait until a saga is called, or ``seconds`` have passed."""
        held = self._held.setdefault(participant, {})
        mine = held[saga] = asyncio.get_running_loop().create_future()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(mine, seconds)
        finally:
            # A saga that asks twice at a time has one place: the later question took it.
            if held.get(saga) is mine:
                del held[saga]

    def collect(self) -> Iterator[Metric]:
        """Return what is known of participants as metrics."""
        known = self._steering.health
        figures: tuple[tuple[str, str, Callable[[str], float]], ...] = (
            ("success_ratio", "Share of recent attempts that were answered.", lambda name: known[name].success),
            ("limit", "Attempts in flight that it seems to bear.", lambda name: known[name].limit),
            ("in_flight", "Attempts in flight, of those that asked for a turn.", lambda name: known[name].flying),
            ("timeout_seconds", "Seconds that an attempt is given.", lambda name: known[name].timeout),
            ("waiting", "Sagas that wait for a turn.", self._steering.waiting),
        )
        for metric, text, figure in figures:
            values = by({name: figure(name) for name in known})
            yield gauge("isthmus_orchestrator_participant_", metric, text, values, ["participant"])
        yield gauge("isthmus_orchestrator_", "turns_held", "Answers held until a turn comes.", {(): self.held}, [])
        yield counter("isthmus_orchestrator_", "turns", "Turns given, by move.", by(self.given), ["move"])

    def _know(self, participant: str) -> None:
        standing = self._standing()
        if standing is not self._read:
            self._read, self._usual = standing, _usual(standing)
            for name in self._steering.health:
                self._steering.know(name, self._usual.get(name, UNKNOWN))
            self._timeouts.take(standing.timeouts)
        if participant not in self._steering.health:
            if len(self._steering.health) >= MOST_PARTICIPANTS:
                raise TooManyParticipants(f"{MOST_PARTICIPANTS:,} participants are known, and no more are kept")
            self._steering.know(participant, self._usual.get(participant, UNKNOWN))


def _usual(standing: Standing) -> dict[str, float]:
    """Return the usual time-out of each participant in the policies, seconds; the longest of its steps."""
    usual: dict[str, float] = {}
    for policy in standing.policies.values():
        for entry in policy.action["steps"]:
            seconds = float(entry["timeout_ms"]) / 1000
            usual[entry["participant"]] = max(seconds, usual.get(entry["participant"], 0.0))
    return usual
