"""Which of the running sagas are told something new: after a failed step at once, else in turn.

What belongs here: whether an advice changed in substance, and the queue of sagas that are yet to be looked at. What
does not: clients (:mod:`services.orchestrator.stream`), and what is advised (:mod:`services.orchestrator.advice`).

A failed or timed-out step is answered as of that event, always. Whether an alarm began or ended, and what a new policy
says, is looked at saga by saga within a budget of time: each saga once, as of its newest event, however many came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from services.orchestrator.advice import Advice, advise
from services.orchestrator.running import Key, Running, Saga
from services.orchestrator.standing import Standing
from services.orchestrator.wire import Told, Trigger, advice_event

FAILED: Final = ("failed", "timed_out")


@dataclass(frozen=True, slots=True)
class Notice:
    """An advice to be told: key and value of its record."""

    trigger: Trigger
    key: bytes
    value: bytes


class Judge:
    """Compares what is advised with what was. Not thread-safe: the stream's thread alone uses it."""

    def __init__(
        self,
        running: Running,
        standing: Callable[[], Standing],
        loads: Callable[[], dict[str, float]] = dict,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._running = running
        self._standing = standing
        self._loads = loads
        self._clock = clock
        self._looked_at: Standing | None = None
        self._policies: dict[str, str] = {}
        self._waiting: dict[Key, None] = {}

    @property
    def waiting(self) -> int:
        """Sagas that are yet to be looked at."""
        return len(self._waiting)

    def heard(self, told: Told, saga: Saga, *, live: bool) -> Notice | None:
        """Take note of a saga's new event; return what is to be told at once.

        Of an event that is read back (``live`` is false) everything was told before.
        """
        standing = self._standing()
        if not saga.judged:
            policy = standing.policies.get(told.saga_type)
            saga.judged, saga.decision_id = True, policy.decision_id if policy else None
        if live and told.event.status in FAILED:
            return self._judged(saga, standing, failed=True)
        if told.saga_type in standing.champions:
            self._waiting[told.saga_type, told.event.saga_id] = None
        return None

    def in_turn(self, seconds: float) -> Iterator[Notice]:
        """Look at waiting sagas for about ``seconds``; yield what is to be told."""
        standing = self._standing()
        if standing is not self._looked_at:
            self._look_at(standing)
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            key = next(iter(self._waiting))
            del self._waiting[key]
            saga = self._running.get(key)
            notice = self._judged(saga, standing, failed=False) if saga is not None else None
            if notice is not None:
                yield notice

    def _look_at(self, standing: Standing) -> None:
        policies = {name: one.decision_id for name, one in standing.policies.items()}
        for name in {*policies, *self._policies}:
            if policies.get(name) != self._policies.get(name):
                self._waiting.update(dict.fromkeys(self._running.of_type(name)))
        self._looked_at, self._policies = standing, policies

    def _judged(self, saga: Saga, standing: Standing, *, failed: bool) -> Notice | None:
        last, now = saga.last, self._clock()
        if last is None:
            return None
        answer = advise(last.saga_type, last.event.saga_id, saga.events, standing, now=now, load=self._loads())
        trigger = _trigger(saga, answer, failed=failed)
        saga.decision_id = answer.decision_id
        # Where no model speaks, whether there is an alarm stays as it was known.
        saga.alarm = saga.alarm if answer.risk is None else answer.risk.alarm
        if trigger is None:
            return None
        if saga.missing:
            answer = replace(answer, defaults=(*answer.defaults, f"saga: {saga.missing}"))
        return Notice(trigger, last.event.saga_id.encode(), advice_event(answer, trigger, last, now))


def _trigger(saga: Saga, answer: Advice, *, failed: bool) -> Trigger | None:
    """Return what changed since the saga was told something; None for nothing of substance."""
    if failed:
        return "failed_step"
    if answer.decision_id != saga.decision_id:
        return "policy"
    if answer.risk is None or answer.risk.alarm == saga.alarm:
        return None
    return "alarm" if answer.risk.alarm else "alarm_over"
