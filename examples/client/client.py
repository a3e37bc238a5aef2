"""What all sagas of a process share: whom they ask, where they report, budgets, measured durations, time.

What belongs here: the shared parts and how sagas are made. What does not: the life of a saga
(:mod:`examples.client.saga`).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Any, Final

from examples.client.advice import Advice, Place, StepPolicy
from examples.client.asking import Adviser, HttpAdviser, NoAdviser
from examples.client.budget import RetryBudgets
from examples.client.clock import Clock, Durability, RealClock, Volatile
from examples.client.deadline import ExpectedDuration
from examples.client.errors import Backlog
from examples.client.reporting import Report, Reports, Scalars
from examples.client.saga import Saga, Started, Verdict
from examples.client.sinks import HttpSink
from examples.client.turns import HttpTurner, NoTurner, Turner

OnHold = Callable[[Saga, Advice], Awaitable[Verdict]]
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,100}")
_ID: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")
MOST_PAUSE: Final = 60.0
"""Seconds; no pause between two attempts is longer."""


class Client:
    """Makes sagas. One a process: its budgets and its buffer are what the sagas share.

    ``source`` names the orchestrator (CloudEvents ``source``): two that report with the same one must have sagas of
    different ids. ``minimum_retries`` are those that a participant gets in each window whatever its load.
    ``backlog_seconds`` is how long a new saga waits while too many events are not reported yet. ``on_hold`` asks a
    person, and says what to do: the saga waits for it. ``turner`` says when sagas with a deadline make their attempts.
    """

    def __init__(
        self,
        source: str,
        reports: Reports,
        *,
        adviser: Adviser | None = None,
        turner: Turner | None = None,
        clock: Clock | None = None,
        durability: Durability | None = None,
        on_hold: OnHold | None = None,
        minimum_retries: float = 1.0,
        undo_attempts: int = 5,
        backlog_seconds: float = 30.0,
        chance: random.Random | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if undo_attempts < 1:
            raise ValueError("at least one attempt at undoing is needed")
        self.source = source
        self.adviser = adviser or NoAdviser()
        self.turner = turner or NoTurner()
        self.clock = clock or RealClock()
        self.durability = durability or Volatile()
        self.on_hold = on_hold
        self.undo_attempts = undo_attempts
        self.reports = reports
        self.wall = wall
        self._backlog_seconds = backlog_seconds
        self._budgets = RetryBudgets(minimum_retries)
        self._expected: dict[Place, ExpectedDuration] = {}
        self._in_flight: Counter[str] = Counter()
        self._chance = chance or random.Random()  # noqa: S311 (it spreads retries, no secret hangs on it)
        self._lock = Lock()  # a durable orchestrator may run sagas in several threads

    @classmethod
    def connect(
        cls, source: str, *, advice: tuple[str, str], events: tuple[str, str], ask_seconds: float = 0.05, **more: Any
    ) -> Client:
        """Return a client of the advice service and of the router's ingestion, each (URL, token)."""
        asking: dict[str, Any] = {
            "adviser": HttpAdviser(*advice, seconds=ask_seconds),
            "turner": HttpTurner(*advice),
        }
        return cls(source, Reports(HttpSink(*events)), **asking | more)

    def saga(
        self,
        saga_type: str,
        saga_id: str,
        *,
        amount: float | None = None,
        currency: str | None = None,
        customer: str | None = None,
        customer_email: str | None = None,
        account: str | None = None,
        attributes: Scalars | None = None,
        deadline_seconds: float | None = None,
        traceparent: str | None = None,
        route: Sequence[str] = (),
    ) -> Saga:
        """Return a saga, to be entered. No call of its steps is sent that could not be answered by the deadline.

        ``route`` names the participants in the order in which they are called: with it a saga that cannot get through
        all of their lines in time is not begun in vain.
        """
        self.check_names(saga_id, saga_type)
        started = Started(amount, currency, customer, customer_email, account, attributes)
        return Saga(
            self, saga_type, saga_id, started,
            deadline_seconds=deadline_seconds, traceparent=traceparent, route=route,
        )  # fmt: skip

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, seconds: float = 10.0) -> None:
        """Report what is left, within ``seconds``; raises :class:`Undelivered` with what could not be."""
        await self.adviser.aclose()
        await self.turner.aclose()
        await asyncio.to_thread(self.reports.close, seconds)

    @staticmethod
    def check_names(saga_id: str, *names: str) -> None:
        """Raise ValueError for names that no event may have."""
        if not _ID.fullmatch(saga_id):
            raise ValueError("a saga's id has 1 to 200 characters, and no control characters")
        if not all(_NAME.fullmatch(name) for name in names):
            raise ValueError("types, steps and participants have 1 to 100 characters, and no control characters")

    def report(self, one: Report) -> None:
        """Report an event, at least once."""
        self.reports.put(one)

    async def room(self) -> None:
        """Wait until a new saga may begin; raises :class:`Backlog` where that takes too long."""
        give_up = self.clock.now() + self._backlog_seconds
        while self.reports.is_full:
            if self.clock.now() >= give_up:
                raise Backlog(f"{self.reports.waiting} events wait to be reported")
            await self.clock.sleep(0.02)

    async def settled(self) -> None:
        """Wait, as long as it takes, until all that was reported so far is acknowledged or refused."""
        taken = self.reports.taken
        while not self.reports.is_settled(taken):
            await self.clock.sleep(0.01)

    def load(self) -> dict[str, float]:
        """Return the calls of this process under way, by participant."""
        with self._lock:
            return {name: float(count) for name, count in self._in_flight.items() if count}

    @contextmanager
    def in_flight(self, participant: str) -> Iterator[float]:
        """Count a call while it is under way; gives how many there are now, this one included."""
        with self._lock:
            self._in_flight[participant] += 1
            load = float(self._in_flight[participant])
        try:
            yield load
        finally:
            with self._lock:
                self._in_flight[participant] -= 1

    def count(self, participant: str, policy: StepPolicy) -> None:
        """Count a first attempt: it earns a share of a retry."""
        with self._lock:
            self._budgets.of(participant, policy.retry_ratio, policy.retry_window).deposit(self.clock.now())

    def may_retry(self, participant: str, policy: StepPolicy) -> bool:
        """Return whether the participant may be sent another retry, and count it."""
        with self._lock:
            return self._budgets.of(participant, policy.retry_ratio, policy.retry_window).withdraw(self.clock.now())

    def expected(self, place: Place, now: float) -> float | None:
        """Return how long a call is expected to take, seconds; None where too little is known."""
        with self._lock:
            known = self._expected.get(place)
            return None if known is None else known.value(now)

    def observe(self, place: Place, seconds: float) -> None:
        """Count the duration of a call that was answered."""
        with self._lock:
            self._expected.setdefault(place, ExpectedDuration()).observe(seconds, self.clock.now())

    def jitter(self, seconds: float) -> float:
        """Return a pause from 0 to ``seconds``, all equally likely: retries of many do not come together."""
        return self._chance.uniform(0.0, min(seconds, MOST_PAUSE))
