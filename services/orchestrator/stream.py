"""The stream: saga events in, advice out, for orchestrators that prefer Kafka.

What belongs here: the loop over the clients, in a thread of its own, and its figures. What does not: which advice is
told (:mod:`services.orchestrator.judging`) and what is kept of sagas (:mod:`services.orchestrator.running`).

At least once: an offset is committed when every advice that follows from what stands before it was acknowledged. After
a restart or a rebalance, the records before the commit are read back to know again what runs; of these nothing is told.
Whatever the broker does, HTTP does not wait for it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from threading import Event, Thread
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from events.catalogue import ADVICE, SAGAS
from resources.errors import KafkaError
from resources.kafka import KafkaResource
from services.orchestrator.judging import Judge, Notice
from services.orchestrator.participants import Participants
from services.orchestrator.running import Place, Running
from services.orchestrator.standing import Keeper
from services.orchestrator.wire import Told, told
from services.router.clients import (
    CONSUMER_OPTIONS,
    PRODUCER_OPTIONS,
    RECORD_ERRORS,
    ClientsFailed,
    Fenced,
    close_within,
    failure,
    name_of,
)
from services.router.lag import Lag
from services.router.progress import Batch, Progress
from services.router.refusals import Windows

log = logging.getLogger("isthmus.orchestrator")

GROUP: Final = "isthmus-advice"
MAX_BATCH: Final = 500
MOST_IN_FLIGHT: Final = 10_000
"""Advice without acknowledgement from which nothing more is read."""
_WAIT: Final = 0.1
_COMMIT_EVERY: Final = 0.1
_PROBE_EVERY: Final = 2.0
_BUDGET: Final = 0.05
"""Seconds a turn for sagas that are looked at in turn."""
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 10.0
_CLOSE_WAIT: Final = 5.0
_TWIN: Final = "another advice service may have the same ISTHMUS_ADVICE_INSTANCE"


class StreamFigures:
    """What the stream counts: plain numbers that its thread writes and others read."""

    def __init__(self) -> None:
        self.events = 0
        self.read_back = 0
        self.skipped: Counter[str] = Counter()
        self.advice: Counter[str] = Counter()
        """Advice that the broker acknowledged, by trigger."""
        self.refused = 0
        """Advice that the broker refuses for good."""
        self.forgotten = 0
        self.sagas = 0
        self.waiting = 0
        self.restarts = 0
        self.gone_offsets = 0
        self.lag: dict[Place, int] = {}


class Stream:
    """Reads and tells in a thread of its own, with new clients as often as they fail."""

    def __init__(
        self, kafka: KafkaResource, keeper: Keeper, *, most_sagas: int, read_back: int, instance: str = ""
    ) -> None:
        self.figures = StreamFigures()
        self.problem = "the stream has not begun"
        """Why sagas are not told anything now; empty where they are."""
        self.loads: dict[str, float] = {}
        """Attempts under way by participant, where all sagas are read here and the reading is not behind; else empty.

        Replaced whole.
        """
        self.keeper = keeper
        self.most_sagas = most_sagas
        self.read_back = read_back
        self._kafka = kafka
        self._membership = {"group.instance.id": instance} if instance else {}
        self._stop = Event()
        self._thread = Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Deliver and commit what is in flight, and end."""
        self._stop.set()
        self._thread.join(2 * _CLOSE_WAIT + 2)

    @property
    def stopping(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    def consumer(self, options: dict[str, Any]) -> Consumer:
        """Return a consumer; the options hold what is needed to log in, so they go nowhere else."""
        return Consumer({**self._kafka.config(), **CONSUMER_OPTIONS, **self._membership, **options})

    def producer(self) -> Producer:
        """Return a producer."""
        return Producer({**self._kafka.config(), **PRODUCER_OPTIONS})

    def _run(self) -> None:
        # Whether a policy is new can only be told once it is known which one stands.
        while self.keeper.age is None and not self._stop.wait(0.05):
            pass
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            began, fenced = time.monotonic(), False
            try:
                self._kafka.ensure_topics()
                _Life(self).run()
            except Fenced:
                # The broker says the same of a twin and, after it was killed, of this one's own membership from before.
                # Of two twins each ends the other's turn; that is seen at /ready, and neither is silent for ever.
                self._failed(_TWIN)
                self.problem, fenced = _TWIN, True
            except (ClientsFailed, KafkaError, KafkaException) as error:
                self._failed(type(error).__name__ if isinstance(error, KafkaException) else str(error))
            except Exception as error:  # noqa: BLE001 (a defect must not end the stream; its text may hold a payload)
                self._failed(type(error).__name__)
            finally:
                self.loads, self.figures.sagas, self.figures.waiting, self.figures.lag = {}, 0, 0, {}
            lived = time.monotonic() - began > _LONGEST_DELAY and not fenced
            delay = _FIRST_DELAY if lived else min(_LONGEST_DELAY, delay * 2)
            self._stop.wait(delay)

    def _failed(self, why: str) -> None:
        if not self._stop.is_set():
            self.figures.restarts += 1
            self.problem = "the broker does not answer"
            log.warning("the stream begins anew: %s", why)


class _Life:
    """One life of a consumer and a producer, and what is known of sagas meanwhile."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._figures = stream.figures
        self._participants = Participants()
        self._running = Running(stream.most_sagas, self._participants)
        self._judge = Judge(self._running, lambda: stream.keeper.standing, lambda: stream.loads)
        self._windows = Windows()
        self._progress = Progress()
        self._producer = stream.producer()
        self._consumer = stream.consumer(
            {"group.id": GROUP, "enable.partition.eof": True, "on_commit": self._on_commit}
        )
        self._lag = Lag(self._consumer, self._figures)
        self._assigned: set[Place] = set()
        self._joined = False
        self._partitions = 0
        self._live_from: dict[Place, int] = {}
        self._reading_back: set[Place] = set()
        self._committable: dict[Place, int] = {}
        self._committed_at = 0.0
        self._probe_due = 0.0
        self._reachable = False
        self._failure: Exception | None = None

    def run(self) -> None:
        """Go on until the stream is to end; raises what ends this life."""
        try:
            self._consumer.subscribe(
                [SAGAS], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stream.stopping:
                self._turn()
            self._producer.flush(_CLOSE_WAIT)
            self._commit(wait=True)
        except KafkaException as error:
            raise failure(error.args[0]) from None
        finally:
            # What was not sent must not arrive after what a successor tells.
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            close_within(self._consumer, _CLOSE_WAIT)

    def _turn(self) -> None:
        messages: list[Any] = []
        if self._progress.in_flight < MOST_IN_FLIGHT:
            # consume(n, t) waits until it has n: so for one first, then for whatever else is there.
            messages = self._consumer.consume(1, _WAIT)
            if messages:
                messages += self._consumer.consume(MAX_BATCH - 1, 0)
            self._take(messages)
        if not self._reading_back:
            batch = self._progress.begin()
            for notice in self._judge.in_turn(_BUDGET):
                self._tell(notice, batch)
        self._producer.poll(0 if messages else _WAIT / 10)
        self._commit()
        self._probe()
        self._show(behind=len(messages) >= MAX_BATCH)
        if self._failure is not None:
            raise self._failure

    def _take(self, messages: list[Any]) -> None:
        batch = self._progress.begin()
        for message in messages:
            if (problem := message.error()) is not None:
                self._consumer_error(problem, message)
                continue
            place, offset = (message.topic(), message.partition()), message.offset()
            batch.offsets[place] = offset + 1
            live = offset >= self._live_from.get(place, 0)
            if offset + 1 >= self._live_from.get(place, 0):
                self._reading_back.discard(place)
            self._figures.events += live
            self._figures.read_back += not live
            try:
                notice = self._heard(told(message.value()), place, live=live)
            except Exception as error:  # noqa: BLE001 (one record must not hold up the others)
                if live:  # else it was told before
                    self._skip(message, error)
                continue
            if notice is not None:
                self._tell(notice, batch)

    def _heard(self, event: Told | None, place: Place, *, live: bool) -> Notice | None:
        saga = self._running.take(event, place) if event is not None else None
        return self._judge.heard(event, saga, live=live) if event is not None and saga is not None else None

    def _skip(self, message: Any, error: Exception) -> None:
        expected = isinstance(error, ValueError | KeyError | TypeError | OverflowError | OSError)
        reason = "malformed" if expected else "internal-error"
        self._figures.skipped[reason] += 1
        if (silent := self._windows.enter(reason)) is not None:
            log.warning(
                "skipped %s/%d/%d: %s (%s); %d more since the last such line",
                *(message.topic(), message.partition(), message.offset(), reason, type(error).__name__, silent),
            )

    def _tell(self, notice: Notice, batch: Batch) -> None:
        batch.pending += 1
        while True:
            try:
                self._producer.produce(
                    ADVICE, notice.value, notice.key, on_delivery=partial(self._delivered, notice, batch)
                )
                return
            except BufferError:
                self._producer.poll(_WAIT)

    def _delivered(self, notice: Notice, batch: Batch, error: Any, _written: Any) -> None:
        if error is None:
            batch.pending -= 1
            self._figures.advice[notice.trigger] += 1
        elif error.name() in RECORD_ERRORS:
            batch.pending -= 1
            self._figures.refused += 1
            log.error("the broker refuses an advice: %s", error.name())
        else:  # stays pending, so that its offset is never committed
            self._failure = ClientsFailed(name_of(error))

    def _consumer_error(self, error: Any, message: Any) -> None:
        if error.name() == "_PARTITION_EOF":
            self._reading_back.discard((message.topic(), message.partition()))
            return
        log.warning("the consumer reports %s", name_of(error))
        if error.fatal() or error.name() in {"_FATAL", "UNKNOWN_TOPIC_OR_PART"}:
            self._failure = failure(error)

    def _probe(self) -> None:
        """Ask the broker something now and then: a client alone does not say that nobody answers."""
        now = time.monotonic()
        if now < self._probe_due:
            return
        try:
            self._partitions = len(self._producer.list_topics(SAGAS, timeout=1).topics[SAGAS].partitions)
            self._reachable = True
        except KafkaException as error:
            self._reachable = False
            log.info("the broker does not answer: %s", error.args[0].name())
        self._probe_due = time.monotonic() + _PROBE_EVERY

    def _show(self, *, behind: bool) -> None:
        stream, figures = self._stream, self._figures
        if not self._reachable:
            stream.problem = "the broker does not answer"
        elif self._reading_back:
            stream.problem = "the stream reads back what runs"
        else:
            # A member beyond the number of partitions has none, and nothing is wrong.
            stream.problem = "" if self._joined else "the group has not taken this service in yet"
        # A part of the sagas, or what was a while ago, would make a time-out too short.
        whole = not stream.problem and not behind and len(self._assigned) == self._partitions
        stream.loads = self._participants.in_flight() if whole else {}
        figures.sagas, figures.waiting = len(self._running), self._judge.waiting
        figures.forgotten = self._running.forgotten
        self._lag.measure(self._assigned)

    # Offsets

    def _commit(self, *, wait: bool = False) -> None:
        now = time.monotonic()
        if not wait and now - self._committed_at < _COMMIT_EVERY:
            return
        self._committed_at = now
        self._committable.update(self._progress.delivered())
        # What is read back lies before the commit, which never goes back.
        due = {
            at: offset
            for at, offset in self._committable.items()
            if at in self._assigned and offset >= self._live_from.get(at, 0)
        }
        self._committable = {}
        if not due:
            return
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in due.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: Any, offsets: list[TopicPartition]) -> None:
        """Keep what could not be committed for the next time; a later offset that waits already stands above it."""
        if error is None:
            return
        log.warning("commit failed: %s", name_of(error))
        for at in offsets:
            self._committable.setdefault((at.topic, at.partition), at.offset)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            committed = consumer.committed(partitions, timeout=5) if partitions else []
            begin = [self._begin(consumer, at) for at in committed]
            consumer.incremental_assign(begin)
        except KafkaException as error:
            self._failure = ClientsFailed(name_of(error.args[0]))
            return
        self._joined = True
        log.info("the stream reads %d partitions more", len(partitions))

    def _begin(self, consumer: Consumer, at: TopicPartition) -> TopicPartition:
        """Return where reading begins: some way before what is told next, to know what runs."""
        place, committed = (at.topic, at.partition), at.offset
        low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=5)
        if committed < 0:
            # The first start ever: sagas that are over need no advice. Where it began must be known to the next one.
            live = high
            self._committable[place] = high
        elif low <= committed <= high:
            live = committed
        else:
            # Aged out unread, or the topic was made anew.
            self._figures.gone_offsets += max(0, low - committed)
            live = low
        first = max(low, live - self._stream.read_back)
        self._assigned.add(place)
        self._live_from[place] = live
        if first < live:
            self._reading_back.add(place)
        begin = TopicPartition(*place, first)
        self._lag.begin(begin)
        return begin

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Delivered and committed before another service begins.
        self._producer.flush(_CLOSE_WAIT)
        self._commit(wait=True)
        self._let_go(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = False
        self._let_go(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        gone = {(at.topic, at.partition) for at in partitions}
        self._assigned -= gone
        self._reading_back -= gone
        self._committable = {at: offset for at, offset in self._committable.items() if at not in gone}
        self._progress.forget(gone)
        self._running.forget(gone)
