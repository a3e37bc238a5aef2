"""What the tests of the client share: virtual time, an adviser that says what it is told to, participants on script."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from events.codec import Event, decode
from events.validation import check
from examples.client import Attempt, Client
from examples.client.advice import Action, Advice, PlannedUndo, StepPolicy
from examples.client.asking import Question, without_service
from examples.client.reporting import Reports
from examples.client.sinks import ListSink

T = TypeVar("T")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
POLICY = StepPolicy(timeout=1.0, attempts=3, retry_ratio=10.0, retry_window=60.0, backoff=0.1)


class StepTime:
    """Virtual time for one saga: a sleep jumps, and a call that overran its limit is given up at the limit."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        began = self.at
        try:
            result = await task
        finally:
            late = self.at > began + seconds
            self.at = min(self.at, began + seconds)
        if late:
            raise TimeoutError
        return result


class Says:
    """An adviser that takes its actions from a script; after that it says what follows without a service."""

    def __init__(self, *script: Action, policy: StepPolicy = POLICY, compensation: Sequence[PlannedUndo] = ()) -> None:
        self.script = list(script)
        self.policy = policy
        self.compensation = tuple(compensation)
        self.questions: list[Question] = []

    async def ask(self, question: Question, now: float) -> Advice:
        self.questions.append(question)
        assert question.body()
        steps = {("*", "*"): self.policy}
        action = self.script.pop(0) if self.script else without_service(question, steps, "").action
        return Advice(action, "so the script says", "service", steps, "decision-1", self.compensation)

    async def aclose(self) -> None:
        pass


class World:
    """A client in virtual time, and what it reported."""

    def __init__(self, adviser: Says | None = None, **more: Any) -> None:
        self.time = StepTime()
        self.adviser = adviser or Says()
        self.sink = ListSink()
        self.client = Client(
            "/tests/orders",
            Reports(self.sink),
            adviser=self.adviser,
            clock=self.time,
            chance=random.Random(7),
            wall=lambda: NOON + timedelta(seconds=self.time.now()),
            **more,
        )

    def events(self) -> list[Event]:
        """Close the client and return its events, each of them valid."""
        self.client.reports.close()
        values = [one.value for one in self.sink.reports]
        for value in values:
            check(value, datetime.now(UTC))
        return [decode(value) for value in values]

    def course(self) -> list[str]:
        """Close the client; return what happened, in words."""
        return [
            event.type.rpartition(".")[2]
            if not event.type.endswith(".step")
            else f"{event.data['step']} {event.data['attempt']} {event.data['status']}"
            for event in self.events()
        ]

    def call(self, *script: Any, seconds: float = 0.01) -> Participant:
        """Return a participant's call that takes ``seconds`` and gives, or raises, what the script says next."""
        return Participant(self.time, list(script), seconds)


class Participant:
    def __init__(self, time: StepTime, script: list[Any], seconds: float) -> None:
        self.time, self.script, self.seconds = time, script, seconds
        self.attempts: list[Attempt] = []

    async def __call__(self, attempt: Attempt) -> Any:
        self.attempts.append(attempt)
        await self.time.sleep(self.seconds)
        said = self.script.pop(0) if self.script else "done"
        if isinstance(said, Exception):
            raise said
        return said
