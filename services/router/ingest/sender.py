"""The sender: records into ingress, and an answer once the broker has acknowledged them.

What belongs here: the producer of what comes by HTTP, its thread, the bound on what is in flight, a broker that is
away. What does not: what is sent, and to whom the answer goes (:mod:`services.router.ingest`).

The producer is called from the web server's event loop; its callbacks run in a thread of their own, which hands all
futures that one poll has decided back to the loop in one call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from events.catalogue import INGRESS
from services.router.metrics import IngestMetrics

log = logging.getLogger("isthmus.ingest")

MAX_IN_FLIGHT_BYTES: Final = 67_108_864
PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    # A request waits for each record, so it leaves at once; those of other requests join it while one is on its way.
    "linger.ms": 0,
    "partitioner": "murmur2_random",
    # The sender's own bounds are below these, so that a batch never meets a full queue half-way.
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 262_144,
    "message.max.bytes": 4_194_304,
}
_POLL: Final = 0.1
_PROBE_EVERY: Final = 0.5
_PROBE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """What is written to ingress."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        return len(self.key) + len(self.value) + sum(len(name) + len(content) for name, content in self.headers)


class NotSent(Exception):
    """Nothing was sent, and trying again later may help; the text says why."""


class _Sending:
    """Records of one request; ``pending`` and ``errors`` belong to the sender's thread once they are produced."""

    __slots__ = ("bytes", "errors", "future", "pending")

    def __init__(self, count: int, size: int, future: asyncio.Future[list[str]]) -> None:
        self.pending = count
        self.bytes = size
        self.errors = [""] * count
        self.future = future


class Sender:
    """Sends records. ``send`` is for the event loop's thread; ``open`` and ``close`` for any."""

    def __init__(
        self,
        make: Callable[[dict[str, Any]], Producer],
        metrics: IngestMetrics,
        *,
        max_in_flight: int,
        timeout: float,
    ) -> None:
        """``make`` adds servers and security to librdkafka options; ``timeout`` is in seconds.

        Raises KafkaException where librdkafka does not take its configuration.
        """
        milliseconds = max(100, round(timeout * 1000))
        options = {
            **PRODUCER_OPTIONS,
            "message.timeout.ms": milliseconds,
            "socket.timeout.ms": min(milliseconds, 60_000),
            "error_cb": self._on_error,
        }
        self._make: Callable[[], Producer] = partial(make, options)
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._bytes = 0
        self._open = False
        self._suspect = False
        self._down = False
        self._probed_at = 0.0
        self._fatal = False
        self._closing = Event()
        self._drain_seconds = 0.0
        self._decided: list[_Sending] = []
        self._unsent: SimpleQueue[tuple[_Sending, int, str]] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._producer = self._make()
        self._thread = Thread(target=self._run, name="ingest-sender", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Take records from now on: ingress exists. Before, a broker might make it with settings of its own."""
        self._open = True
        self._suspect = True  # to ask now gives the first request a connection and what the topic is like

    @property
    def problem(self) -> str:
        """Return why nothing can be sent now; empty where it can."""
        if not self._open:
            return "the router has not reached the broker yet"
        return "the broker cannot be reached" if self._down else ""

    def send(self, records: Sequence[Record]) -> asyncio.Future[list[str]]:
        """Send records; the future holds an error's name for each, empty where the broker acknowledged it.

        Raises :class:`NotSent` where nothing was sent.
        """
        if problem := self.problem:
            raise NotSent(problem)
        size = sum(record.size for record in records)
        if self._metrics.in_flight + len(records) > self._max_in_flight or self._bytes + size > MAX_IN_FLIGHT_BYTES:
            raise NotSent("too many events wait for the broker")
        self._loop = asyncio.get_running_loop()
        sending = _Sending(len(records), size, self._loop.create_future())
        self._metrics.in_flight += len(records)
        self._bytes += size
        producer = self._producer
        for index, record in enumerate(records):
            try:
                producer.produce(
                    INGRESS,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=partial(self._delivered, sending, index),
                )
            except BufferError:
                self._unsent.put((sending, index, "_QUEUE_FULL"))
            except KafkaException as error:
                self._unsent.put((sending, index, error.args[0].name()))
                self._fatal = self._fatal or error.args[0].fatal()
        return sending.future

    def doubt(self) -> None:
        """Ask the broker whether it is there: an acknowledgement did not come in time."""
        self._suspect = True

    def close(self, seconds: float = 5.0) -> None:
        """Wait up to ``seconds`` for what is in flight, then end; the rest is told as not acknowledged."""
        self._open = False
        self._drain_seconds = seconds
        self._closing.set()
        self._thread.join(seconds + 5)

    # The thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL)
            self._take_unsent()
            self._hand_over()
            if self._fatal:
                self._renew()
            if self._suspect or (self._down and time.monotonic() - self._probed_at > _PROBE_EVERY):
                self._probe()
        self._producer.flush(self._drain_seconds)
        self._discard(self._producer)

    def _delivered(self, sending: _Sending, index: int, error: Any, _written: Any) -> None:
        if error is not None:
            sending.errors[index] = error.name()
            self._suspect = self._suspect or error.name() == "_MSG_TIMED_OUT"
        sending.pending -= 1
        if not sending.pending:
            self._decided.append(sending)

    def _take_unsent(self) -> None:
        while True:
            try:
                sending, index, name = self._unsent.get_nowait()
            except Empty:
                return
            sending.errors[index] = name
            sending.pending -= 1
            if not sending.pending:
                self._decided.append(sending)

    def _hand_over(self) -> None:
        if self._decided and self._loop is not None:
            decided, self._decided = self._decided, []
            # A closed loop has nobody left who waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resolve, decided)

    def _resolve(self, decided: list[_Sending]) -> None:
        for sending in decided:
            self._metrics.in_flight -= len(sending.errors)
            self._bytes -= sending.bytes
            if not sending.future.done():
                sending.future.set_result(sending.errors)

    def _on_error(self, error: Any) -> None:
        # A connection that was idle for long is closed too: whether the broker is away, only asking tells.
        self._suspect = self._suspect or error.name() == "_ALL_BROKERS_DOWN"
        self._fatal = self._fatal or error.fatal()

    def _probe(self) -> None:
        before, self._suspect = self._down, False
        try:
            self._producer.list_topics(INGRESS, timeout=_PROBE_SECONDS)
        except KafkaException:
            self._down = True
        else:
            self._down = False
        self._probed_at = time.monotonic()
        if self._down != before:
            log.warning("the broker %s", "cannot be reached" if self._down else "answers again")

    def _renew(self) -> None:
        """Make the producer anew after an error that it does not survive."""
        log.warning("the producer is made anew")
        before, self._producer, self._fatal = self._producer, self._make(), False
        self._discard(before)

    def _discard(self, producer: Producer) -> None:
        producer.purge(in_queue=True, in_flight=True, blocking=False)
        producer.flush(1)
        self._take_unsent()
        self._hand_over()
