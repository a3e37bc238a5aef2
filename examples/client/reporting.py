"""What is reported of a saga: events with ids that stay the same, and the buffer between a saga and where they go.

What belongs here: the events' content and identity, the buffer, its thread, and what happens to what cannot be
delivered. What does not: the ways to send (:mod:`examples.client.sinks`).

At least once: an event is sent again until it is acknowledged. Its id is made of what it says, so that a repetition,
after a doubtful answer or by a saga that is run again after a crash, is the same event.
"""

from __future__ import annotations

import atexit
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Protocol

from events.codec import encode
from examples.client.errors import Undelivered

log = logging.getLogger("isthmus.client")

_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
Scalars = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Report:
    """One event on its way."""

    id: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a step, as it is reported and as the adviser is told it."""

    at: datetime
    step: str
    participant: str
    attempt: int
    status: str
    error: str | None = None
    duration_ms: float | None = None
    load: float | None = None
    attributes: Scalars = field(default_factory=dict)

    @property
    def ended_badly(self) -> bool:
        """Whether it is the bad end of an attempt."""
        return self.status in ("failed", "timed_out")

    def id(self, saga_id: str) -> str:
        """Return its identity: whoever reports the same thing again makes the same one."""
        return f"{saga_id}/{self.step}@{self.participant}/{self.attempt}/{self.status}"

    def told(self) -> dict[str, Any]:
        """Return what the adviser is told."""
        names = ("step", "participant", "attempt", "status", "error", "duration_ms", "load")
        return {"at": self.at.isoformat(), **_present(self, names)}

    def report(self, saga_type: str, saga_id: str, *, source: str, trace: Trace) -> Report:
        """Return the event."""
        names = ("step", "participant", "attempt", "status", "error", "duration_ms", "load")
        data = {"saga_type": saga_type, **_present(self, names)}
        if self.attributes:
            data["attributes"] = dict(self.attributes)
        name = self.id(saga_id)
        return report("isthmus.saga.step", data, saga_id, name, self.at, source=source, trace=trace)


def _present(one: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(one, name)) is not None}


@dataclass(frozen=True, slots=True)
class Trace:
    """A W3C trace; spans are named by what they are about, so that a repetition has the same one."""

    id: str
    flags: str = "01"

    @classmethod
    def of(cls, saga_id: str, parent: str | None) -> Trace:
        """Return the trace of ``parent`` (a ``traceparent``), or one of the saga's own."""
        if parent and (found := _PARENT.fullmatch(parent)):
            return cls(found[1], found[2])
        return cls(blake2b(saga_id.encode(), digest_size=16).hexdigest())

    def parent(self, name: str) -> str:
        """Return the ``traceparent`` of the span ``name``."""
        return f"00-{self.id}-{blake2b(name.encode(), digest_size=8).hexdigest()}-{self.flags}"


def report(
    type: str, data: Mapping[str, Any], saga_id: str, name: str, at: datetime, *, source: str, trace: Trace
) -> Report:
    """Return an event of a saga; ``name`` is its id."""
    value = encode(type, data, subject=saga_id, source=source, id=name, time=at, traceparent=trace.parent(name))
    return Report(name, saga_id.encode(), value)


class NotSent(Exception):
    """The events were not, or perhaps not, taken; they should be sent again. The text holds no value of theirs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that will never be taken, and why."""

    report: Report
    reason: str


class Sink(Protocol):
    """Where events go."""

    def send(self, batch: Sequence[Report]) -> Sequence[Refused]:
        """Return when all of ``batch`` is acknowledged or refused, in its order; raises :class:`NotSent`."""

    def close(self) -> None:
        """Let go of connections."""


class Reports:
    """The buffer, and the thread that empties it into a sink, batch after batch in the order of :meth:`put`.

    A running saga always gets its events in; it is new sagas that wait while :attr:`is_full`. So at most ``limit``
    events and those of the sagas under way are held, and nothing is dropped: what the sink refuses is logged, counted
    and given to ``on_refused``; what could not be delivered at the end is in :class:`Undelivered`.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limit: int = 10_000,
        batch: int = 500,
        pause: float = 0.1,
        most_pause: float = 5.0,
        on_refused: Callable[[Refused], None] | None = None,
    ) -> None:
        self.delivered = 0
        self.refused = 0
        self.taken = 0
        """Events that were put, ever; :meth:`is_settled` asks for those of a moment."""
        self._sink = sink
        self._limit = limit
        self._batch = batch
        self._pauses = (pause, most_pause)
        self._on_refused = on_refused
        self._waiting: deque[Report] = deque()
        self._change = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether new work should wait."""
        return len(self._waiting) >= self._limit

    @property
    def waiting(self) -> int:
        """Events that are not acknowledged yet."""
        return len(self._waiting)

    def put(self, one: Report) -> None:
        """Take an event; never waits."""
        with self._change:
            if self._closing.is_set():
                raise RuntimeError("the client is closed")
            self._waiting.append(one)
            self.taken += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="saga-reports", daemon=True)
                self._thread.start()
                atexit.register(self._at_exit)
            self._change.notify_all()

    def is_settled(self, taken: int) -> bool:
        """Return whether the first ``taken`` events are acknowledged or refused."""
        return self.delivered + self.refused >= taken

    def flush(self, seconds: float) -> bool:
        """Wait until all that was taken so far is settled; return whether it is."""
        with self._change:
            taken = self.taken
            return self._change.wait_for(lambda: self.is_settled(taken), seconds)

    def close(self, seconds: float = 10.0) -> None:
        """Deliver what is left, within ``seconds``; raises :class:`Undelivered` with what could not be."""
        self.flush(seconds)
        self._closing.set()
        with self._change:
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)
            atexit.unregister(self._at_exit)
        self._sink.close()
        if self._waiting:
            raise Undelivered([one.value for one in self._waiting])

    def _at_exit(self, seconds: float = 2.0) -> None:
        """Whoever forgot to close is told what that cost."""
        with suppress(Undelivered):
            self.close(seconds)
        if self._waiting:
            log.error("%d events of sagas were not delivered before the process ended", len(self._waiting))

    def _run(self) -> None:
        pause, most = self._pauses
        wait, away = pause, False
        while (batch := self._next()) is not None:
            try:
                refused = self._sink.send(batch)
            except NotSent as error:
                if not away:
                    log.warning("events of sagas cannot be sent (%s); they are kept and sent again", error)
                away = True
                self._closing.wait(wait)
                wait = min(2 * wait, most)
                continue
            except Exception as error:  # noqa: BLE001 (a sink with a defect must not cost events)
                log.error("a sink failed with %s; the events are kept and sent again", type(error).__name__)
                self._closing.wait(wait)
                wait = min(2 * wait, most)
                continue
            if away:
                log.warning("events of sagas are sent again")
            wait, away = pause, False
            for one in refused:
                self._note(one)
            with self._change:
                for _ in batch:
                    self._waiting.popleft()
                self.delivered += len(batch) - len(refused)
                self.refused += len(refused)
                self._change.notify_all()

    def _next(self) -> list[Report] | None:
        """Return the next events, still in the buffer until they are acknowledged; None when closed."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closing.is_set())
            if self._closing.is_set():
                return None
            return [self._waiting[at] for at in range(min(self._batch, len(self._waiting)))]

    def _note(self, one: Refused) -> None:
        log.error("the event %s was refused: %s", one.report.id, one.reason)
        if self._on_refused is not None:
            try:
                self._on_refused(one)
            except Exception as error:  # noqa: BLE001 (what the caller does with it must not stop the others)
                log.error("on_refused failed with %s", type(error).__name__)
