"""The pump: consume, route, produce, and commit what was acknowledged.

What belongs here: the loop over librdkafka's clients, back-pressure, rebalances, draining. What does not: what becomes
of a record (:mod:`services.router.routing`).

At least once: an offset is committed only when everything before it in its partition was acknowledged by all in-sync
replicas. Key order: one idempotent producer, so a retry neither overtakes nor doubles. A record that cannot be accepted
never stops the loop; a broker that cannot be reached makes it wait, for as long as it takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, Message, Producer, TopicPartition

from events.catalogue import DEAD_LETTER, INGRESS
from services.router.dead_letter import PART_BYTES, Source, dead_letters
from services.router.health import Health
from services.router.lag import Lag
from services.router.progress import Batch, Partition, Progress
from services.router.refusals import RefusalLog
from services.router.routing import Headers, Refused, Routed, route

log = logging.getLogger("isthmus.router")

MAX_BATCH: Final = 1000
_IDLE_WAIT: Final = 0.5
_BUSY_WAIT: Final = 0.02
_COMMIT_EVERY: Final = 0.1
_FULL_WAIT: Final = 0.05
_SMALL_PART_BYTES: Final = 500_000

# What a broker says of a record rather than of itself: such a record goes to the dead letters, all else is tried again.
_RECORD_ERRORS: Final = frozenset({"MSG_SIZE_TOO_LARGE", "INVALID_RECORD", "INVALID_MSG", "POLICY_VIOLATION"})

CONSUMER_OPTIONS: Final[dict[str, Any]] = {
    "group.id": "isthmus-router",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 65536,
    # A killed router's partitions are free after this; Kafka's brokers allow no less.
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 2000,
    # Longer than any wait for a full queue: to lose the partitions then would only make duplicates.
    "max.poll.interval.ms": 1_800_000,
}
PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    # Without it librdkafka's thread is woken for each record, which doubles the cost of one when there are many.
    "linger.ms": 1,
    # Never give up on a record because time has passed: its offset is not committed before.
    "message.timeout.ms": 0,
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 262_144,
    # A whole dead letter must fit; batches stay below the domain topics' limit by batch.size (1 MB by default).
    "message.max.bytes": 16_777_216,
}


class ClientsFailed(Exception):
    """The clients cannot go on; made anew they begin again at the last commit."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Makes the two clients out of librdkafka options, to which it adds servers and security."""

    consumer: Callable[[dict[str, Any]], Consumer]
    producer: Callable[[dict[str, Any]], Producer]


class Pump:
    """One life of a consumer and a producer."""

    def __init__(
        self, clients: Clients, health: Health, hash_key: bytes, *, on_routing: Callable[[], None] = lambda: None
    ) -> None:
        self._consumer = clients.consumer({**CONSUMER_OPTIONS, "on_commit": self._on_commit})
        self._producer = clients.producer(PRODUCER_OPTIONS)
        self._health = health
        self._metrics = health.metrics
        self._lag = Lag(self._consumer, self._metrics)
        self._hash_key = hash_key
        self._on_routing = on_routing
        self._refusals = RefusalLog(log)
        self._progress = Progress()
        self._assigned: set[Partition] = set()
        self._committable: dict[Partition, int] = {}
        self._committed_at = time.monotonic()
        self._failure = ""

    def run(self, stopping: Callable[[], bool], *, drain_seconds: float = 10.0) -> None:
        """Route until ``stopping()``; then deliver what is in flight, within ``drain_seconds``, and commit it.

        Raises :class:`ClientsFailed` where the clients must be made anew.
        """
        self._health.probe = self._probe
        try:
            self._consumer.subscribe(
                [INGRESS], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not stopping():
                self._turn()
            self._health.state = "draining"
            self._drain(drain_seconds)
        except KafkaException as error:
            raise ClientsFailed(_name(error.args[0])) from None
        finally:
            self._health.probe = None
            self._close()

    def _probe(self) -> str:
        """Return what is wrong with the broker, empty for nothing; called by the health server's thread."""
        try:
            self._producer.list_topics(INGRESS, timeout=1)
        except KafkaException as error:
            return _name(error.args[0])
        return ""

    def _turn(self) -> None:
        wait = _BUSY_WAIT if self._metrics.in_flight else _IDLE_WAIT
        # consume(n, t) waits until it has n: so for one first, then for whatever else is there.
        messages = self._consumer.consume(1, wait)
        if messages:
            messages += self._consumer.consume(MAX_BATCH - 1, 0)
            self._take(messages)
        self._producer.poll(0)
        self._metrics.in_flight = self._progress.in_flight
        self._commit()
        self._metrics.assigned = len(self._assigned)
        self._lag.measure(self._assigned)
        self._health.turned()
        if self._failure:
            raise ClientsFailed(self._failure)

    def _take(self, messages: list[Any]) -> None:
        batch = self._progress.begin()
        for message in messages:
            if (error := message.error()) is not None:
                self._consumer_error(error)
                continue
            batch.offsets[message.topic(), message.partition()] = message.offset() + 1
            self._one(message, batch)

    def _one(self, message: Any, batch: Batch) -> None:
        kind, stamp = message.timestamp()
        # A producer's own timestamp proves nothing about when the record came.
        seconds = stamp / 1000 if kind == TIMESTAMP_LOG_APPEND_TIME else time.time()
        try:
            headers = _headers(message)
        except SystemError:
            refused = Refused("unreadable-headers", "a header's name is not UTF-8; the dead letter is without headers")
            self._refuse(message, (), refused, batch)
            return
        try:
            result = route(
                message.value(), message.key(), headers, datetime.fromtimestamp(seconds, UTC), self._hash_key
            )
        except Exception as error:  # noqa: BLE001 (a defect of ours must not stop the bus: the record waits as a dead letter)
            log.error("routing failed with %s; the record goes to the dead letters", type(error).__name__)
            result = Refused("internal-error", type(error).__name__)
        if isinstance(result, Refused):
            self._refuse(message, headers or (), result, batch)
            return
        self._metrics.routed[result.type] += 1
        self._metrics.rewritten += result.rewritten
        self._send(result, message, headers, batch, seconds)

    def _send(self, routed: Routed, message: Any, headers: Any, batch: Batch, seconds: float) -> None:
        delivered = partial(self._delivered, message, batch, time.time() - seconds)
        batch.pending += 1
        while True:
            try:
                if headers:
                    self._producer.produce(
                        routed.topic, routed.value, routed.key, headers=headers, on_delivery=delivered
                    )
                else:
                    self._producer.produce(routed.topic, routed.value, routed.key, on_delivery=delivered)
                return
            except BufferError:
                self._wait_for_room()

    def _refuse(self, message: Any, headers: Headers, refused: Refused, batch: Batch) -> None:
        source = Source(
            message.topic(),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            headers,
        )
        self._metrics.refused[refused.reason] += 1
        self._refusals.note(source, refused)
        self._bury(source, refused, batch, PART_BYTES)

    def _bury(self, source: Source, refused: Refused, batch: Batch, part_bytes: int) -> None:
        buried = partial(self._buried, source, refused, batch, part_bytes)
        for letter in dead_letters(source, refused, datetime.now(UTC), part_bytes):
            batch.pending += 1
            while True:
                try:
                    self._producer.produce(
                        DEAD_LETTER, letter.value, letter.key, headers=letter.headers, on_delivery=buried
                    )
                    break
                except BufferError:
                    self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Back-pressure: nothing is consumed while the producer's queue is full."""
        self._metrics.paused = True
        began = time.monotonic()
        self._producer.poll(_FULL_WAIT)
        self._metrics.paused_seconds += time.monotonic() - began
        self._metrics.paused = False
        self._health.turned()

    def _delivered(self, message: Any, batch: Batch, age: float, error: Any, written: Any) -> None:
        if error is None:
            batch.pending -= 1
            self._metrics.delivered += 1
            self._metrics.observe_latency(age + written.latency())
        elif error.name() in _RECORD_ERRORS:
            refused = Refused("refused-by-broker", f"the topic refused it: {error.name()}")
            self._refuse(message, message.headers() or (), refused, batch)
            batch.pending -= 1
        else:  # stays pending, so that its offset is never committed
            self._failure = _name(error)

    def _buried(
        self, source: Source, refused: Refused, batch: Batch, part_bytes: int, error: Any, _written: Any
    ) -> None:
        if error is None:
            batch.pending -= 1
            self._metrics.delivered += 1
        elif error.name() == "MSG_SIZE_TOO_LARGE" and part_bytes > _SMALL_PART_BYTES:
            # Someone made the topic with Kafka's default limit.
            self._bury(source, refused, batch, _SMALL_PART_BYTES)
            batch.pending -= 1
        else:
            self._failure = f"dead letters cannot be written: {_name(error)}"

    def _consumer_error(self, error: Any) -> None:
        self._metrics.consumer_errors[error.name()] += 1
        log.warning("the consumer reports %s", _name(error))
        if error.fatal() or error.name() == "UNKNOWN_TOPIC_OR_PART":
            self._failure = _name(error)

    # Offsets

    def _commit(self, *, wait: bool = False) -> None:
        now = time.monotonic()
        if not wait and now - self._committed_at < _COMMIT_EVERY:
            return
        self._committed_at = now
        self._committable.update(self._progress.delivered())
        due = {at: offset for at, offset in self._committable.items() if at in self._assigned}
        self._committable = {}
        if not due:
            return
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in due.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
            self._metrics.commits += wait
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: Any, offsets: list[TopicPartition]) -> None:
        """Keep what could not be committed for the next time; a later offset that waits already stands above it."""
        if error is None:
            self._metrics.commits += 1
            return
        log.warning("commit failed: %s", _name(error))
        for at in offsets:
            self._committable.setdefault((at.topic, at.partition), at.offset)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned |= {(at.topic, at.partition) for at in partitions}
        self._health.state = "routing"
        log.info("assigned %s", _listed(partitions))
        self._on_routing()
        try:
            for at in consumer.committed(partitions, timeout=5) if partitions else ():
                self._lag.begin(at)
                low, _ = consumer.get_watermark_offsets(TopicPartition(at.topic, at.partition), timeout=5)
                if 0 <= at.offset < low:
                    self._metrics.gone_offsets += low - at.offset
                    log.error("%s/%d: offsets %d to %d aged out unread", at.topic, at.partition, at.offset, low - 1)
        except KafkaException as error:
            log.warning("could not compare the commit with the log's start: %s", _name(error.args[0]))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("revoked %s", _listed(partitions))
        # Delivered and committed before another router begins: no duplicates in a planned hand-over.
        self._producer.flush(5)
        self._commit(wait=True)
        self._let_go(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("lost %s", _listed(partitions))
        self._let_go(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        gone = {(at.topic, at.partition) for at in partitions}
        self._assigned -= gone
        self._committable = {at: offset for at, offset in self._committable.items() if at not in gone}
        self._progress.forget(gone)

    def _drain(self, seconds: float) -> None:
        left = self._producer.flush(seconds)
        self._commit(wait=True)
        if left:
            log.warning("%d records were not acknowledged within %g s; they will be read again", left, seconds)

    def _close(self) -> None:
        # What this producer still holds must not arrive after what its successor reads again.
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.flush(1)
        self._consumer.close()
        self._metrics.assigned, self._metrics.lag = 0, {}


def _headers(message: Any) -> Headers | None:
    """Return a record's headers; raises SystemError where a name is not UTF-8: the client can give none of them then.

    It returns a list with a hole, and an exception beside it. The interpreter does not look for the latter in a plain
    method call that has become hot, only in one that comes from C, such as map's; nobody may look into that list.
    """
    headers: Headers | None = next(map(Message.headers, (message,)))
    return headers


def _name(error: Any) -> str:
    return f"{error.name()}: {error.str()}"


def _listed(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{at.topic}/{at.partition}" for at in partitions) or "nothing"
