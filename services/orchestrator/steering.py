"""When the next attempt is made: what is seen of participants across all sagas, kept for those who ask.

What belongs here: one steering for all who ask this process, those whose answer is held until their turn comes, and
figures. What does not: turns themselves (:mod:`ml.steering.turns`) and HTTP (:mod:`services.orchestrator.web`).

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

from ml.steering.health import Outcome
from ml.steering.turns import Dispatcher, Turn
from services.families import by, counter, gauge
from services.orchestrator.standing import Standing

UNKNOWN: Final = 5.0
"""Seconds that are taken for the usual time-out of a participant without a policy; what is seen moves it."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
MOST_PARTICIPANTS: Final = 1_000
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


class Turns(Collector):
    """Gives turns to sagas; for one thread."""

    def __init__(
        self, standing: Callable[[], Standing], *, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        # Jitter, not secrets.
        self._dispatcher = Dispatcher({}, random.Random(seed).random)  # noqa: S311
        self._steering = self._dispatcher.steering
        self._standing = standing
        self._clock = clock
        self._read: Standing | None = None
        self._usual: dict[str, float] = {}
        self._held: dict[str, dict[int, asyncio.Future[None]]] = {}
        self.given: Counter[str] = Counter()

    def ask(self, coming: Coming) -> Turn:
        """Return the next move of a saga; raises TooManyParticipants."""
        for name in (coming.participant, *coming.then):
            self._know(name)
        turn = self._dispatcher.ask(
            coming.participant,
            coming.step,
            hash(coming.saga_id),
            self._clock(),
            left=coming.left,
            attempts=coming.attempts,
            asked=coming.asked,
            then=coming.then,
        )
        self.given[turn.move] += 1
        return turn

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
        called = self._dispatcher.tell(participant, ticket, self._clock(), outcome)
        if held := self._held.get(participant):
            for saga in called:
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
            self._dispatcher.timeouts.take(standing.timeouts.at, standing.timeouts.learned)
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
