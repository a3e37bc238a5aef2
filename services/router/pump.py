"""The pump: consume, route, produce, and commit what was acknowledged.

What belongs here: the loop over librdkafka's clients, back-pressure, rebalances, draining. What does not: what becomes
of a record (:mod:`services.router.routing`), producing (:mod:`services.router.outlet`), and the transactional mode
(:mod:`services.router.transactions`).

At least once: an offset is committed only when everything before it in its partition was acknowledged by all in-sync
replicas. Key order: one idempotent producer, so a retry neither overtakes nor doubles. A record that cannot be accepted
never stops the loop; a broker that cannot be reached makes it wait, for as long as it takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, Message, TopicPartition

from events.catalogue import INGRESS
from events.compiled import CATALOGUE, Schemas
from events.validation import SchemaUnavailable
from services.router.clients import CONSUMER_OPTIONS, Clients, ClientsFailed, close_within, failure, name_of
from services.router.health import Health
from services.router.lag import Lag
from services.router.outlet import Outlet
from services.router.progress import Batch, Partition, Progress
from services.router.put_off import PutOff
from services.router.refusals import RefusalLog
from services.router.routing import Headers, Refused, Routed, route
from services.router.tables import Tables

if TYPE_CHECKING:  # opentelemetry comes in only where tracing is on
    from services.router.tracing import Tracing

log = logging.getLogger("isthmus.router")

MAX_BATCH: Final = 1000
MOST_IN_FLIGHT: Final = 50_000
"""Records without acknowledgement from which nothing more is consumed."""
_IDLE_WAIT: Final = 0.5
_BUSY_WAIT: Final = 0.02
_COMMIT_EVERY: Final = 0.1
_PAUSE_AFTER: Final = 1.0
_CLOSE_WAIT: Final = 10.0

TOGETHER: Final = 64
"""Records that are routed before they are sent: few enough that the first of them does not wait."""

Decided = tuple[Any, Headers | None, float, Routed | Refused]
"""A record, its headers, when it came (seconds since 1970), and what becomes of it."""

UNREADABLE: Final[Headers] = []
"""Stands for headers that the client cannot give; told by identity."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the pump needs to know to route: the table in force, the key of the keyed hash, the schemas."""

    tables: Tables
    hash_key: bytes
    schemas: Schemas = CATALOGUE
    condemned: dict[tuple[int, int], str] = field(default_factory=dict)
    """Records (partition, offset) that the broker refuses, and why: a transaction with one of them cannot succeed."""
    tracing: Tracing | None = None


class Pump:
    """One life of a consumer and a producer."""

    def __init__(
        self, clients: Clients, health: Health, work: Work, *, on_routing: Callable[[], None] = lambda: None
    ) -> None:
        self._consumer = clients.consumer({**CONSUMER_OPTIONS, **clients.membership(), "on_commit": self._on_commit})
        self._health = health
        self._metrics = health.metrics
        self._work = work
        self._outlet = self._make_outlet(clients)
        self._lag = Lag(self._consumer, self._metrics)
        self._put_off = PutOff(self._consumer)
        self._on_routing = on_routing
        self._progress = Progress()
        self._assigned: set[Partition] = set()
        self._committable: dict[Partition, int] = {}
        self._committed_at = time.monotonic()
        self._failure: Exception | None = None
        self._full_since = 0.0
        self._paused = False
        self._taken_at = 0

    def _make_outlet(self, clients: Clients) -> Outlet:
        return Outlet(clients.producer(clients.producer_options()), self._health, RefusalLog(log))

    def run(self, stopping: Callable[[], bool], *, drain_seconds: float = 10.0) -> None:
        """Route until ``stopping()``; then deliver what is in flight, within ``drain_seconds``, and commit it.

        Raises :class:`ClientsFailed` where the clients must be made anew, :class:`Fenced` where they must not.
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
            raise failure(error.args[0]) from None
        finally:
            self._health.probe = None
            self._close()

    def _probe(self) -> str:
        """Return what is wrong with the broker, empty for nothing; called by the health server's thread."""
        try:
            self._outlet.producer.list_topics(INGRESS, timeout=1)
        except KafkaException as error:
            return name_of(error.args[0])
        return ""

    def _turn(self) -> None:
        self._work.tables.refresh()
        self._put_off.again()
        if messages := self._consume():
            self._take(messages)
        self._outlet.producer.poll(0)
        self._metrics.in_flight = self._progress.in_flight
        self._commit()
        self._metrics.assigned, self._metrics.waiting = len(self._assigned), len(self._put_off)
        self._lag.measure(self._assigned)
        self._health.turned()
        self._outlet.watch()
        if self._outlet.failure:
            raise ClientsFailed(self._outlet.failure)
        if self._failure is not None:
            raise self._failure

    def _consume(self) -> list[Any]:
        if self._metrics.in_flight >= MOST_IN_FLIGHT:
            return self._hold_back()
        if self._full_since:
            self._go_on()
        # consume(n, t) waits until it has n: so for one first, then for whatever else is there.
        messages: list[Any] = self._consumer.consume(1, _BUSY_WAIT if self._metrics.in_flight else _IDLE_WAIT)
        if messages:
            messages += self._consumer.consume(MAX_BATCH - 1, 0)
        return messages

    def _hold_back(self) -> list[Any]:
        """Back-pressure: wait for acknowledgements, a moment only, and consume nothing.

        From a second on the partitions are paused: the client then holds nothing that it fetched ahead, and can be
        asked for the group's news, which a consumer that is not asked would miss.
        """
        now = time.monotonic()
        self._full_since = self._full_since or now
        self._metrics.paused = True
        if self._paused:
            # Of a partition that was assigned meanwhile a record may come, one at a time.
            return list(self._consumer.consume(1, _BUSY_WAIT))
        self._outlet.producer.poll(_BUSY_WAIT)
        if now - self._full_since > _PAUSE_AFTER:
            log.warning("paused: %d records wait for the broker's acknowledgement", self._metrics.in_flight)
            self._consumer.pause(self._places())
            self._paused = True
        return []

    def _go_on(self) -> None:
        if self._paused:
            self._consumer.resume(self._places())
            self._paused = False
        self._metrics.paused_seconds += time.monotonic() - self._full_since
        self._full_since, self._metrics.paused = 0.0, False

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for topic, partition in self._assigned]

    def _take(self, messages: list[Any]) -> Batch:
        """Route what came together, columns first: asking record by record costs twice as much."""
        if any(map(Message.error, messages)):
            messages = self._without_errors(messages)
        self._taken_at = time.time_ns()
        batch = self._progress.begin()
        last = dict(zip(map(Message.partition, messages), map(Message.offset, messages), strict=True))
        batch.offsets.update({(INGRESS, partition): offset + 1 for partition, offset in last.items()})
        headers = map(Message.headers, messages)
        # The first record of a batch speaks for it in the histograms of stages.
        marks: list[float] | None = [time.perf_counter()]
        waiting: set[int] = set()
        decided: list[Decided] = []
        for message in messages:
            try:
                named: Headers | None = next(headers)
            except SystemError:
                # Where a name is not UTF-8 the client returns a list with a hole, and an exception beside it. The
                # interpreter looks for the latter only in a call that comes from C, such as map's.
                named = UNREADABLE
            if waiting and message.partition() in waiting:
                continue
            kind, stamp = message.timestamp()
            # A producer's own timestamp proves nothing about when the record came.
            seconds = stamp / 1000 if kind == TIMESTAMP_LOG_APPEND_TIME else time.time()
            try:
                decided.append((message, named, seconds, self._fate(message, named, seconds, marks)))
            except SchemaUnavailable as error:
                waiting.add(self._put_off.leave(message, batch, error))
            if marks:
                self._measure(seconds, marks)
                marks = None
            if len(decided) >= TOGETHER:
                self._send(decided, batch)
                decided = []
        self._send(decided, batch)
        return batch

    def _measure(self, stamp: float, marks: list[float]) -> None:
        """Count the first stages of a record that came at ``stamp`` and was decided just now."""
        self._metrics.stage("consume", max(0.0, self._taken_at / 1e9 - stamp))
        if len(marks) == 2:  # it was valid
            began, valid = marks
            self._metrics.stage("decode_validate", valid - began)
            self._metrics.stage("rules_route", time.perf_counter() - valid)

    def _send(self, decided: list[Decided], batch: Batch) -> None:
        """Send what was decided of some records, in a go: the client's thread then finds them together."""
        began = time.perf_counter()
        tracing, outlet, metrics = self._work.tracing, self._outlet, self._metrics
        for message, headers, stamp, result in decided:
            if isinstance(result, Refused):
                outlet.refuse(message, headers, result, batch)
                if tracing is not None:
                    tracing.refused(message, headers, result, self._taken_at)
                continue
            metrics.routed[result.type] += 1
            metrics.rewritten += result.rewritten
            traced = None if tracing is None else tracing.routed(message, headers, result, self._taken_at)
            outlet.send(result, message, headers, batch, stamp, traced=traced)
        if decided:
            metrics.stage("produce", time.perf_counter() - began, len(decided))

    def _without_errors(self, messages: list[Any]) -> list[Any]:
        for message in messages:
            if (error := message.error()) is not None:
                self._consumer_error(error)
        return [message for message in messages if message.error() is None]

    def _fate(self, message: Any, headers: Headers | None, stamp: float, marks: list[float] | None) -> Routed | Refused:
        if headers is UNREADABLE:
            return Refused("unreadable-headers", "a header's name is not UTF-8; the dead letter is without headers")
        try:
            return route(
                message.value(),
                message.key(),
                headers,
                datetime.fromtimestamp(stamp, UTC),
                self._work.hash_key,
                schemas=self._work.schemas,
                table=self._work.tables.current,
                marks=marks,
            )
        except SchemaUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (a defect of ours must not stop the bus: the record waits as a dead letter)
            log.error("routing failed with %s; the record goes to the dead letters", type(error).__name__)
            return Refused("internal-error", type(error).__name__)

    def _consumer_error(self, error: Any) -> None:
        self._metrics.consumer_errors[error.name()] += 1
        log.warning("the consumer reports %s", name_of(error))
        if error.fatal() or error.name() in {"_FATAL", "UNKNOWN_TOPIC_OR_PART"}:
            self._failure = failure(error)

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
        log.warning("commit failed: %s", name_of(error))
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
            log.warning("could not compare the commit with the log's start: %s", name_of(error.args[0]))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("revoked %s", _listed(partitions))
        # Delivered and committed before another router begins: no duplicates in a planned hand-over.
        self._outlet.flush(5)
        self._commit(wait=True)
        self._let_go(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("lost %s", _listed(partitions))
        self._let_go(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        if self._paused and partitions:
            # The client remembers a pause beyond the assignment: given back, they would stay silent for ever.
            self._consumer.resume(partitions)
        gone = {(at.topic, at.partition) for at in partitions}
        self._assigned -= gone
        self._committable = {at: offset for at, offset in self._committable.items() if at not in gone}
        self._progress.forget(gone)
        self._put_off.forget(gone)

    def _drain(self, seconds: float) -> None:
        left = self._outlet.flush(seconds)
        self._commit(wait=True)
        if left:
            log.warning("%d records were not acknowledged within %g s; they will be read again", left, seconds)

    def _close(self) -> None:
        self._outlet.close()
        close_within(self._consumer, _CLOSE_WAIT)
        self._metrics.assigned, self._metrics.waiting, self._metrics.lag = 0, 0, {}


def _listed(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{at.topic}/{at.partition}" for at in partitions) or "nothing"
