"""The outlet: one idempotent producer for events and dead letters, and what it says of each record's delivery.

What belongs here: producing, deliveries, back-pressure of a full queue. What does not: consuming and commits
(:mod:`services.router.pump`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from events.catalogue import DEAD_LETTER
from services.router.clients import RECORD_ERRORS, ClientsFailed, name_of
from services.router.dead_letter import PART_BYTES, Source, dead_letters
from services.router.health import Health
from services.router.progress import Batch
from services.router.refusals import RefusalLog
from services.router.routing import Headers, Refused, Routed

if TYPE_CHECKING:
    from services.router.tracing import Traced

_FULL_WAIT: Final = 0.05
SMALL_PART_BYTES: Final = 500_000
"""Size of a dead letter's part that every topic takes, also one with Kafka's default limit."""


STALLED_AFTER: Final = 60.0
"""Seconds without any acknowledgement, while records wait for one, after which the producer is made anew."""


class Outlet:
    """Sends records and counts them off their batches as they are acknowledged."""

    part_bytes = PART_BYTES

    def __init__(self, producer: Producer, health: Health, refusals: RefusalLog) -> None:
        self.producer = producer
        self.failure = ""
        """What the broker said of a record that stays undelivered, and so uncommitted; empty: nothing."""
        self._health = health
        self._metrics = health.metrics
        self._refusals = refusals
        self._acknowledged, self._acknowledged_at = self._metrics.delivered, time.monotonic()

    def watch(self) -> None:
        """Raise :class:`ClientsFailed` where records wait and nothing was acknowledged for a minute.

        A broker that is away is waited for by new clients as well; a producer that has got stuck is not waited for.
        """
        now, acknowledged = time.monotonic(), self._metrics.delivered
        if acknowledged != self._acknowledged or not len(self.producer):
            self._acknowledged, self._acknowledged_at = acknowledged, now
        elif now - self._acknowledged_at > STALLED_AFTER:
            raise ClientsFailed(f"nothing was acknowledged for {STALLED_AFTER:g} s")

    def send(
        self,
        routed: Routed,
        message: Any,
        headers: Headers | None,
        batch: Batch,
        stamp: float,
        *,
        traced: Traced | None = None,
    ) -> None:
        """Send an accepted event, and its copies; ``stamp`` is when the broker took it, seconds since 1970."""
        topic, key, value = routed.topic, routed.key, routed.value
        delivered: Callable[..., None] = partial(self._delivered, message, batch, stamp)
        if traced is not None:
            headers, delivered = traced.carried(headers), traced.until(delivered, 1 + len(routed.copies))
        batch.pending += 1
        if headers:
            self._produce(topic, value, key, delivered, headers)
        else:
            # Here and not in _produce: a call more for every event.
            try:
                self.producer.produce(topic, value, key, on_delivery=delivered)
            except BufferError:
                self._produce(topic, value, key, delivered, None)
        for copy in routed.copies:
            batch.pending += 1
            self._metrics.copies += 1
            self._produce(copy, value, key, delivered, headers)

    def refuse(self, message: Any, headers: Headers | None, refused: Refused, batch: Batch) -> None:
        """Write a record to the dead letters."""
        source = Source(
            message.topic(), message.partition(), message.offset(), message.key(), message.value(), headers or ()
        )
        self._metrics.refused[refused.reason] += 1
        self._refusals.note(source, refused)
        self._bury(source, refused, batch, self.part_bytes)

    def flush(self, seconds: float) -> int:
        """Wait for acknowledgements; return how many are still missing after ``seconds``."""
        return int(self.producer.flush(seconds))

    def close(self) -> None:
        """Forget what is not sent: it must not arrive after what a successor reads again."""
        # A client that has failed for good does not even let go, and says so in one way or the other.
        with suppress(KafkaException, SystemError):
            self.producer.purge(in_queue=True, in_flight=True, blocking=False)
            self.producer.flush(1)

    def _produce(
        self, topic: str, value: bytes | None, key: bytes | None, delivered: Callable[..., None], headers: Any
    ) -> None:
        while True:
            try:
                self.producer.produce(topic, value, key, headers=headers or None, on_delivery=delivered)
                return
            except BufferError:
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Back-pressure: nothing is consumed while the producer's queue is full."""
        began, self._metrics.paused = time.monotonic(), True
        self.producer.poll(_FULL_WAIT)
        self._metrics.paused_seconds += time.monotonic() - began
        self._metrics.paused = False
        self._health.turned()
        self.watch()

    def _bury(self, source: Source, refused: Refused, batch: Batch, part_bytes: int) -> None:
        buried = partial(self._buried, source, refused, batch, part_bytes)
        for letter in dead_letters(source, refused, datetime.now(UTC), part_bytes):
            batch.pending += 1
            self._produce(DEAD_LETTER, letter.value, letter.key, buried, letter.headers)

    def _delivered(self, message: Any, batch: Batch, stamp: float, error: Any, written: Any) -> None:
        if error is None:
            batch.pending -= 1
            metrics = self._metrics
            metrics.delivered += 1
            metrics.latency.observe(max(0.0, time.time() - stamp))
            if not batch.pending:
                # The last record of a batch speaks for it.
                metrics.stage("acknowledge", written.latency())
        elif error.name() in RECORD_ERRORS:
            topic = written.topic() if written is not None else "its topic"
            self.refuse_late(message, batch, f"{topic} refused it: {error.name()}")
            batch.pending -= 1
        else:  # stays pending, so that its offset is never committed
            self.failure = name_of(error)

    def refuse_late(self, message: Any, batch: Batch, detail: str) -> None:
        """Write to the dead letters what the broker refused after it had been sent."""
        self.refuse(message, message.headers(), Refused("refused-by-broker", detail), batch)

    def _buried(
        self, source: Source, refused: Refused, batch: Batch, part_bytes: int, error: Any, _written: Any
    ) -> None:
        if error is None:
            batch.pending -= 1
            self._metrics.delivered += 1
        elif error.name() == "MSG_SIZE_TOO_LARGE" and part_bytes > SMALL_PART_BYTES:
            # Someone made the topic with Kafka's default limit.
            self._bury(source, refused, batch, SMALL_PART_BYTES)
            batch.pending -= 1
        else:
            self.failure = f"dead letters cannot be written: {name_of(error)}"
