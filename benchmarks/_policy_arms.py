"""Arms of ``saga_policy.py``: static defaults, a tuned baseline, Isthmus, an oracle that knows the faults.

What belongs here: policies of the world. What does not: the strongest peer (``_policy_breaker``), what Isthmus decides
(``ml.steering``), worlds, tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import numpy as np

from examples.client.turns import HOLD
from examples.shop.world.faults import Fault, Kind, Schedule
from examples.shop.world.policy import Coming, GiveUp, Send, Wait
from examples.shop.world.run import World
from ml.steering.decide import Rules
from ml.steering.health import Habits, Outcome
from ml.steering.line import Line
from ml.steering.turns import Dispatcher
from ml.timeouts.learning import Learned
from services.orchestrator.steering import MOST_HELD


class Static:
    """What a client library does when nobody has set anything: 30 s, three attempts, a second between them."""

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        if coming.attempts >= 3:
            return GiveUp("attempts")
        return Wait(1.0) if coming.attempts and not coming.asked else Send(30.0, tells=False)

    def sent(self, coming: Coming, now: float) -> int:
        """Note nothing."""
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Note nothing."""
        return ()


@dataclass(frozen=True)
class Settings:
    """What is tuned of the baseline; times are multiples of a step's p99 or seconds."""

    timeout: float = 2.0  # of the step's p99
    attempts: int = 4
    backoff: float = 0.5  # seconds before the second attempt, doubled for each further one, with full jitter
    most: float = 20.0  # seconds, the longest pause
    ratio: float = 0.2  # tokens that a first attempt brings for retries
    bulkhead: float = 10.0  # calls in flight, of the usual number, above which one is not made


class Tuned:
    """Good practice with its numbers tuned on the past.

    Time-outs from each step's p99, exponential pauses with full jitter, a retry budget by participant (token bucket), a
    bulkhead, and deadlines that participants are told.
    """

    def __init__(self, settings: Settings, world: World, past: Mapping[str, Any], seed: int) -> None:
        self._settings = settings
        self._uniform = uniforms(np.random.default_rng([seed, 77]))
        self._timeout = {name: settings.timeout * float(np.quantile(past[name], 0.99)) for name in world.plan}
        usual = {name: world.rate * float(np.mean(past[name])) for name in world.plan}
        self._limit = {name: 5.0 + settings.bulkhead * usual[name] for name in world.plan}
        self._flying = dict.fromkeys(world.plan, 0)
        self._tokens = dict.fromkeys(world.plan, 10.0)

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        settings, name = self._settings, coming.participant
        if coming.attempts >= settings.attempts:
            return GiveUp("attempts")
        if coming.attempts and not coming.asked:
            pause = min(settings.most, settings.backoff * 2.0 ** (coming.attempts - 1))
            return Wait(pause * self._uniform())
        if self._flying[name] >= self._limit[name]:
            # A bulkhead that is full is asked again like one that failed, a bounded number of times.
            if coming.asked > settings.attempts:
                return GiveUp("shed")
            return Wait(min(settings.most, settings.backoff * 2.0**coming.asked) * self._uniform())
        if coming.attempts:
            if self._tokens[name] < 1.0:
                return GiveUp("budget")
            self._tokens[name] -= 1.0
        else:
            self._tokens[name] = min(self._tokens[name] + settings.ratio, 100.0)
        return Send(self._timeout[name])

    def sent(self, coming: Coming, now: float) -> int:
        """Count the call."""
        self._flying[coming.participant] += 1
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Count it off."""
        self._flying[coming.participant] -= 1
        return ()


@dataclass(frozen=True)
class Insight:
    """What is tuned of the oracle."""

    errors: float = 0.9  # share of calls that errors and refusals hit, above which a saga waits for the fault's end
    hangs: float = 0.1  # the same, of calls that hang: they take workers with them
    crowd: float = 4.0  # calls in flight for each worker, above which one waits
    timeout: float = 4.0  # of the step's p99, stretched by what slows it down, where calls hang
    late: float = 0.5  # of the time that the remaining steps usually take: with less left a saga is given up


class Oracle:
    """Knows each fault, its kind, its severity and its end, and how many workers there are; not what a call will do.

    Who waits is called by deadline, as Isthmus does: what it has more is knowledge alone.
    """

    def __init__(self, insight: Insight, world: World, past: Mapping[str, Any], seed: int) -> None:
        self._insight = insight
        self._uniform = uniforms(np.random.default_rng([seed, 78]))
        self._schedules = {
            name: Schedule([fault for fault in world.faults if fault.participant == name]) for name in world.plan
        }
        self._p99 = {name: float(np.quantile(past[name], 0.99)) for name in world.plan}
        usual = [float(np.mean(past[name])) for name in world.plan]
        self._usual = dict(zip(world.plan, usual, strict=True))
        self._rest = [sum(usual[place + 1 :]) for place in range(len(usual))]
        self._limit = {name: insight.crowd * world.workers[name] for name in world.plan}
        self._flying = dict.fromkeys(world.plan, 0)
        self._lines = {name: Line() for name in world.plan}

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        insight, name = self._insight, coming.participant
        line, usual, left = self._lines[name], self._usual[name], coming.deadline - now
        faults = self._schedules[name].at(now)
        line.expire(now)
        if left < insight.late * (usual + self._rest[coming.step]):
            line.leave(coming.saga)
            return GiveUp("too late")
        before = line.join(coming.saga, coming.deadline)
        until = max((fault.end for fault in faults if self._stops(fault)), default=now) - now
        if until and until + usual + self._rest[coming.step] < left:
            return Wait(until + usual * before / max(self._limit[name], 1.0))
        free = self._limit[name] - self._flying[name]
        if before >= 1.5 * free:
            return Wait(min(max(0.02, 0.5 * usual * (before + 1) / self._limit[name]), 5.0) * (0.5 + self._uniform()))
        if coming.attempts and not coming.asked:
            return Wait(0.2 + 0.4 * self._uniform())
        line.leave(coming.saga)
        if not any(fault.kind is Kind.HANG for fault in faults):
            return Send(left)
        slow = float(np.prod([fault.factor for fault in faults if fault.kind in (Kind.SLOW, Kind.DELAY)]))
        return Send(insight.timeout * self._p99[name] * slow)

    def sent(self, coming: Coming, now: float) -> int:
        """Count the call."""
        self._flying[coming.participant] += 1
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Count it off."""
        self._flying[coming.participant] -= 1
        return ()

    def _stops(self, fault: Fault) -> bool:
        """Return whether sagas wait for a fault's end."""
        if fault.kind is Kind.HANG:
            return fault.share > self._insight.hangs
        return fault.kind in (Kind.ERRORS, Kind.CRASH) and fault.share > self._insight.errors


class Isthmus:
    """The advice service's turns as a policy of the world: the service's own code, and its rules for holding answers.

    As :meth:`services.orchestrator.steering.Turns.ask_and_wait` and the client (``examples.client.turns``) do: a saga
    that is to wait is held, is called when an attempt's end makes room, and asks again by itself when it was held for
    :data:`HOLD` seconds. Nothing takes time on the way.
    """

    def __init__(
        self,
        rules: Rules,
        habits: Habits,
        world: World,
        past: Mapping[str, Any],
        seed: int,
        *,
        learned: Learned | None = None,
    ) -> None:
        """``learned``: time-outs that were learned of the past."""
        usual = {name: float(np.quantile(past[name], 0.99)) for name in world.plan}
        self._dispatcher = Dispatcher(usual, uniforms(np.random.default_rng([seed, 79])), rules=rules, habits=habits)
        self._dispatcher.timeouts.take("the past", learned)
        self._plan = world.plan
        self._ticket = 0
        self._held_since: dict[int, float] = {}

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        turn = self._dispatcher.ask(
            coming.participant,
            coming.participant,
            coming.saga,
            now,
            left=coming.deadline - now,
            attempts=coming.attempts,
            asked=coming.asked,
            then=self._plan[coming.step + 1 :],
        )
        if turn.move == "wait":
            while self._held_since and now - next(iter(self._held_since.values())) > HOLD + 1.0:
                del self._held_since[next(iter(self._held_since))]  # its deadline has passed
            began = self._held_since.setdefault(coming.saga, now)
            hold = min(HOLD, coming.deadline - began) - (now - began)
            if hold > 0 and len(self._held_since) <= MOST_HELD:
                return Wait(min(turn.seconds, hold), held=True)
        self._held_since.pop(coming.saga, None)
        if turn.ticket is None:
            return Wait(turn.seconds) if turn.move == "wait" else GiveUp("too late")
        self._ticket = turn.ticket
        return Send(turn.seconds)

    def sent(self, coming: Coming, now: float) -> int:
        """Return the ticket of the turn that was given just now."""
        return self._ticket

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Tell it; return who is called."""
        # A call that a participant let go because its time was over: the caller sees a time-out.
        told = cast(Outcome, "timed_out" if outcome == "expired" else outcome)
        return self._dispatcher.tell(coming.participant, ticket, now, told)


def uniforms(random: np.random.Generator) -> Any:
    """Return a function that draws from [0, 1)."""
    return (value for _ in count() for value in random.random(4096).tolist()).__next__
