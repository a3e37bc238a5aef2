"""The strongest peer of ``saga_policy.py``: the tuned baseline behind circuit breakers that let sagas wait.

What belongs here: that arm. What does not: the baseline that it stands on (``_policy_arms``) and its tuning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks._policy_arms import Settings, Tuned
from examples.shop.world.policy import Coming, GiveUp, Send, Wait
from examples.shop.world.run import World


@dataclass(frozen=True)
class Caution:
    """What is tuned of the circuit breakers; the numbers are those that Resilience4j's breaker has."""

    opens: float = 0.5  # share of bad calls at which it opens
    window: int = 20  # last calls that are looked at
    fewest: int = 10  # calls until it may open
    slow: float = 20.0  # of the participant's p99: an answered call that took longer is bad too
    rests: float = 5.0  # seconds open, before calls try it
    longer: float = 1.5  # how many times as long it stays open after each trial that failed
    most_rest: float = 30.0  # seconds, the longest that it stays open
    probes: int = 3  # calls that try it, half open
    spread: float = 2.0  # seconds over which those who waited come back
    late: float = 0.5  # of the rest's usual time: a saga with less left is given up


@dataclass(slots=True)
class _Switch:
    """The breaker of one participant; ``turn`` counts its changes: ends of calls of an earlier one tell nothing."""

    recent: deque[bool]
    state: Literal["closed", "open", "half open"] = "closed"
    turn: int = 0
    rests: float = 0.0
    until: float = 0.0
    sent: int = 0
    tried: list[bool] = field(default_factory=list)

    def to(self, state: Literal["closed", "open", "half open"]) -> None:
        self.state, self.turn, self.sent = state, self.turn + 1, 0
        self.recent.clear()
        self.tried.clear()


class Breaker(Tuned):
    """Time-outs from p99, jittered pauses, a retry budget, a bulkhead, deadlines, and a breaker for each participant.

    Nobody fails for want of tokens or places: a saga waits, with jitter, until it would be too late. One that cannot be
    in time is given up before its call.
    """

    def __init__(self, settings: Settings, caution: Caution, world: World, past: Mapping[str, Any], seed: int) -> None:
        super().__init__(settings, world, past, seed)
        self._caution = caution
        window = max(2, int(caution.window))
        self._switches = {name: _Switch(deque(maxlen=window), rests=caution.rests) for name in world.plan}
        self._slow = {name: caution.slow * float(np.quantile(past[name], 0.99)) for name in world.plan}
        usual = [float(np.mean(past[name])) for name in world.plan]
        self._rest = [sum(usual[place:]) for place in range(len(usual))]
        self._begun: dict[tuple[int, int], float] = {}

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        settings, caution, name = self._settings, self._caution, coming.participant
        if coming.deadline - now < caution.late * self._rest[coming.step]:
            return GiveUp("too late")
        if coming.attempts >= settings.attempts:
            return GiveUp("attempts")
        if coming.attempts and not coming.asked:
            pause = min(settings.most, settings.backoff * 2.0 ** (coming.attempts - 1))
            return Wait(pause * self._uniform())
        held_back = self._pause(name, coming, now)
        if held_back is not None:
            return Wait(held_back)
        if coming.attempts:
            self._tokens[name] -= 1.0
        else:
            self._tokens[name] = min(self._tokens[name] + settings.ratio, 100.0)
        return Send(self._timeout[name])

    def _pause(self, name: str, coming: Coming, now: float) -> float | None:
        """Return how long a saga waits for breaker, bulkhead and budget; None where it may call."""
        uniform: Callable[[], float] = self._uniform
        settings, caution, switch = self._settings, self._caution, self._switches[name]
        if switch.state == "open":
            if now < switch.until:
                return switch.until - now + caution.spread * uniform()
            switch.to("half open")
        if switch.state == "half open" and switch.sent >= caution.probes:
            return caution.spread * uniform()
        if self._flying[name] >= self._limit[name]:
            return min(settings.most, settings.backoff * 2.0 ** min(coming.asked, 10)) * uniform()
        if coming.attempts and self._tokens[name] < 1.0:
            return settings.most * uniform()
        return None

    def sent(self, coming: Coming, now: float) -> int:
        """Count the call; its ticket is the breaker's turn."""
        super().sent(coming, now)
        switch = self._switches[coming.participant]
        switch.sent += 1
        self._begun[coming.saga, coming.step] = now
        return switch.turn

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Count it off, and let the breaker see it."""
        super().ended(coming, ticket, now, outcome)
        name, caution = coming.participant, self._caution
        switch = self._switches[name]
        took = now - self._begun.pop((coming.saga, coming.step))
        if ticket != switch.turn:
            return ()
        is_bad = outcome not in ("ok", "declined") or took > self._slow[name]
        if switch.state == "half open":
            switch.tried.append(is_bad)
            if len(switch.tried) >= max(1, int(caution.probes)):
                self._tried(switch, now)
            return ()
        switch.recent.append(is_bad)
        fewest = min(int(caution.fewest), switch.recent.maxlen or 1)
        if len(switch.recent) >= fewest and sum(switch.recent) >= caution.opens * len(switch.recent):
            switch.rests = caution.rests
            switch.until = now + switch.rests
            switch.to("open")
        return ()

    def _tried(self, switch: _Switch, now: float) -> None:
        """Close the breaker, or open it again for longer."""
        if sum(switch.tried) < self._caution.opens * len(switch.tried):
            switch.to("closed")
            return
        switch.rests = min(switch.rests * self._caution.longer, max(self._caution.most_rest, self._caution.rests))
        switch.until = now + switch.rests
        switch.to("open")
