"""One attempt: what a call is told, and what came of it.

What belongs here: the argument of a call, running it within its time, and telling its end apart. What does not: whether
there is another attempt (:mod:`examples.client.saga`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx

from examples.client.clock import Clock
from examples.client.deadline import HEADER
from examples.client.errors import Declined, Permanent

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
Status = Literal["completed", "declined", "failed", "timed_out"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a call is told. With ``headers`` a participant can recognise a repetition and shed what is too late."""

    saga_type: str
    saga_id: str
    step: str
    participant: str
    number: int
    key: str
    """The same for each attempt, also after a crash: the participant does once what it is asked twice."""
    undoes: str | None
    """For a compensation, the key of what it undoes."""
    way: str | None
    """For a compensation, the way that is advised (``void``, ``refund``); None: the call's own choice."""
    seconds: float
    """When the call is given up."""
    traceparent: str

    @property
    def headers(self) -> dict[str, str]:
        """Idempotency key, deadline and trace, as HTTP headers."""
        return {
            IDEMPOTENCY_HEADER: self.key,
            HEADER: f"{self.seconds * 1000:.0f}",
            "traceparent": self.traceparent,
        }


Call = Callable[[Attempt], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. ``error`` is a word for the events: a class or a reason, never a message."""

    status: Status
    seconds: float
    result: Any = None
    error: str | None = None
    cause: Exception | None = None

    @property
    def is_permanent(self) -> bool:
        """Whether another attempt would fail as well."""
        return isinstance(self.cause, Permanent)


async def run(call: Call, attempt: Attempt, clock: Clock) -> Outcome:
    """Return how ``call`` ended; only a cancellation of the saga itself is raised."""
    began = clock.now()

    async def called() -> Any:
        return await call(attempt)

    try:
        result: Any = await clock.within(attempt.seconds, called())
    except Declined as no:
        return Outcome("declined", clock.now() - began, error=no.reason, cause=no)
    except (TimeoutError, httpx.TimeoutException) as late:
        return Outcome("timed_out", clock.now() - began, error="DeadlineExceeded", cause=late)
    except Exception as error:  # noqa: BLE001 (whatever a participant's client raises, the attempt has failed)
        return Outcome("failed", clock.now() - began, error=type(error).__name__, cause=error)
    return Outcome("completed", clock.now() - began, result)
