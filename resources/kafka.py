"""The bus: Apache Kafka through librdkafka, as a Dagster resource that works without Dagster too.

What belongs here: clients, topics, watermarks, and reading an exact range of offsets column by column. What does not:
what a record means (``events/``) and what is done with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import dagster as dg
from pydantic import Field

from resources.errors import retrying
from resources.ranges import GONE, Records, Span, read, typed
from resources.settings import get_settings

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

T = TypeVar("T")

_APPEND_TIME = ("message.timestamp.type", "LogAppendTime")
_NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"

#: Offsets from which a read waits with the ranges that follow.
_WAVE = 50_000

_shared: dict[str, Any] = {}
_idle_readers: dict[str, list[Consumer]] = {}
_inherited: list[Any] = []
_lock = Lock()


def _forget_clients() -> None:
    """Give a forked child fresh caches; the parent's handles are kept, since destroying one there would hang."""
    global _lock
    _lock = Lock()
    _inherited.append((dict(_shared), dict(_idle_readers)))
    _shared.clear()
    _idle_readers.clear()


os.register_at_fork(after_in_child=_forget_clients)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it; ``id`` is empty where the broker tells none."""

    name: str
    id: str
    partitions: tuple[int, ...]


class Bus(Protocol):
    """What code that looks at topics and reads ranges may rely on; the resource and its fake both keep it."""

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return those of ``names`` that exist."""

    def watermarks_of(self, topics: Iterable[Topic]) -> dict[tuple[str, int], tuple[int, int]]:
        """Return (first offset, next committed offset) of each partition."""

    def policies(self, names: Iterable[str]) -> dict[str, str]:
        """Return the clean-up policy of each topic."""

    def read_ranges(self, spans: Sequence[Span], *, batch: int = 5000) -> Iterator[tuple[int, Records]]:
        """Yield (position in ``spans``, records), those of one span in order."""


class KafkaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Apache Kafka, or what speaks its protocol. Shared clients may be used from any thread of any process."""

    bootstrap: str = Field(default="", description="Bootstrap servers; empty: the settings'.")
    attempts: int = Field(
        default=5, description="How often a request that the broker did not answer is tried, at most."
    )
    timeout: float = Field(
        default=15.0, description="Seconds to wait for an answer, or for the next record of a range."
    )

    def config(self, **overrides: Any) -> dict[str, Any]:
        """Return librdkafka's configuration; security options from the settings are in it, so never log it.

        An override's name may use underscores for dots (``linger_ms=0``).
        """
        settings = get_settings()
        return {
            "bootstrap.servers": self.bootstrap or settings.kafka_bootstrap,
            "client.id": "isthmus",
            # Quick to come back after a broker's restart on one machine; the defaults wait up to 10 s.
            "reconnect.backoff.max.ms": 1000,
            # A lost connection is an exception where it matters, not a line on stderr.
            "log_level": 0,
            **settings.kafka_security,
            **{name.replace("_", "."): value for name, value in overrides.items()},
        }

    def producer(self, **overrides: Any) -> Producer:
        """Return this process's idempotent producer with these options, shared by all threads; flush it yourself."""
        from confluent_kafka import Producer

        config = self.config(**{"enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4", **overrides})
        producer: Producer = self._cached("producer", config, Producer)
        return producer

    def consumer(self, **overrides: Any) -> Consumer:
        """Return a new consumer, the caller's own to close: a position cannot be shared."""
        from confluent_kafka import Consumer

        defaults = {"group.id": "isthmus", "enable.auto.commit": False, "isolation.level": "read_committed"}
        return Consumer(self.config(**{**defaults, **overrides}))

    def admin(self) -> AdminClient:
        """Return this process's admin client, shared by all threads: a new one costs 50 ms and more."""
        from confluent_kafka.admin import AdminClient

        admin: AdminClient = self._cached("admin", self.config(), AdminClient)
        return admin

    def _cached(self, kind: str, config: dict[str, Any], make: Callable[[dict[str, Any]], T]) -> T:
        key = kind + json.dumps(config, sort_keys=True, default=str)
        with _lock:
            if key not in _shared:
                _shared[key] = make(config)
            cached: T = _shared[key]
            return cached

    def ensure_topics(self, extra: Iterable[str] = ()) -> list[str]:
        """Create what is missing of the catalogue's topics, ingress, dead letters and ``extra``; return what was.

        Partitions and replication are the settings'. A topic that is there with producers' timestamps is switched to
        the broker's append time, which landing partitions and expires by. Calling it twice changes nothing.
        """
        from confluent_kafka.admin import NewTopic

        from events.catalogue import TOPICS

        settings = get_settings()
        wanted = list(dict.fromkeys([*TOPICS, *extra]))
        there = self.topics(wanted)
        missing = [name for name in wanted if name not in there]
        futures = (
            self.admin().create_topics(
                [
                    NewTopic(
                        name,
                        num_partitions=settings.kafka_partitions,
                        replication_factor=settings.kafka_replication,
                        config=dict([_APPEND_TIME], **TOPICS.get(name, {})),
                    )
                    for name in missing
                ],
                request_timeout=self.timeout,
            )
            if missing
            else {}
        )
        created = [name for name, future in futures.items() if _done(future, allow="TOPIC_ALREADY_EXISTS")]
        self._use_append_time(list(there))
        return created

    def _use_append_time(self, names: list[str]) -> None:
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

        name, value = _APPEND_TIME
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        stale = [topic for topic, config in self._configs(names).items() if config.get(name, value) != value]
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry]) for topic in stale]
        if resources:
            for future in self.admin().incremental_alter_configs(resources, request_timeout=self.timeout).values():
                _done(future)

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        from confluent_kafka.admin import ConfigResource

        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        if not resources:
            return {}
        futures = self.admin().describe_configs(resources, request_timeout=self.timeout)
        return {
            resource.name: {name: entry.value for name, entry in _result(future).items()}
            for resource, future in futures.items()
        }

    def configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the settings of each topic by name."""
        wanted = list(names)
        return retrying(lambda: self._configs(wanted), attempts=self.attempts)

    def set_config(self, topic: str, values: dict[str, str]) -> None:
        """Set these settings of a topic and leave the others; setting them twice changes nothing."""
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for future in self.admin().incremental_alter_configs([resource], request_timeout=self.timeout).values():
            _done(future)

    def oldest(self, topics: Iterable[Topic], marks: dict[tuple[str, int], tuple[int, int]]) -> datetime | None:
        """Return the broker's append time of the oldest record of ``topics``; None where they hold none."""
        first = [
            Span(topic.name, partition, low, min(low + 1, high))
            for topic in topics
            for partition in topic.partitions
            for low, high in [marks.get((topic.name, partition), (0, 0))]
            if low < high
        ]
        times = [
            int(records.appended_at[0])
            for _, records in self.read_ranges(first)
            if len(records.appended_at) and records.appended_at[0] >= 0
        ]
        return datetime.fromtimestamp(min(times) / 1000, UTC) if times else None

    def policies(self, names: Iterable[str]) -> dict[str, str]:
        """Return ``cleanup.policy`` of each topic (``delete``, ``compact`` or both)."""
        wanted = list(names)
        configs = retrying(lambda: self._configs(wanted), attempts=self.attempts)
        return {name: config.get("cleanup.policy", "delete") for name, config in configs.items()}

    def message_limits(self, names: Iterable[str]) -> dict[str, int]:
        """Return ``max.message.bytes`` of each topic: the largest batch of records that it takes."""
        wanted = list(names)
        configs = retrying(lambda: self._configs(wanted), attempts=self.attempts)
        return {name: int(config["max.message.bytes"]) for name, config in configs.items()}

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return those of ``names`` that exist, with their partitions; asking creates none."""
        from confluent_kafka import KafkaException, TopicCollection

        wanted = list(names)

        def describe() -> dict[str, Topic]:
            found = {}
            futures = self.admin().describe_topics(TopicCollection(wanted), request_timeout=self.timeout)
            for name, future in futures.items():
                try:
                    topic = future.result()
                except KafkaException as error:
                    if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
                        continue
                    raise typed(error) from None
                topic_id = str(topic.topic_id)
                found[name] = Topic(
                    name, "" if topic_id == _NO_TOPIC_ID else topic_id, tuple(sorted(p.id for p in topic.partitions))
                )
            return found

        return retrying(describe, attempts=self.attempts) if wanted else {}

    def watermarks(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return (first offset, next committed offset) by partition; empty where the topic does not exist."""
        found = self.topics([topic])
        return {partition: marks for (_, partition), marks in self.watermarks_of(found.values()).items()}

    def watermarks_of(self, topics: Iterable[Topic]) -> dict[tuple[str, int], tuple[int, int]]:
        """Return (first offset, next committed offset) of each partition, two requests in all.

        A partition that cannot be asked (its topic was deleted since) is left out.
        """
        pairs = _pairs(topics)
        low = retrying(lambda: self._offsets(pairs, "earliest"), attempts=self.attempts)
        high = retrying(lambda: self._offsets(pairs, "latest"), attempts=self.attempts)
        return {pair: (low[pair], high[pair]) for pair in pairs if pair in low and pair in high}

    def offsets_at(self, topics: Iterable[Topic], at_ms: int) -> dict[tuple[str, int], int]:
        """Return of each partition the first offset that the broker took at or after ``at_ms`` (since 1970)."""
        wanted = list(topics)
        found = retrying(lambda: self._offsets(_pairs(wanted), at_ms), attempts=self.attempts)
        ends = self.watermarks_of(wanted)
        return {pair: offset if offset >= 0 else ends[pair][1] for pair, offset in found.items() if pair in ends}

    def _offsets(
        self, pairs: list[tuple[str, int]], spec: Literal["earliest", "latest"] | int
    ) -> dict[tuple[str, int], int]:
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        if not pairs:
            return {}
        wanted = OffsetSpec.for_timestamp(spec) if isinstance(spec, int) else getattr(OffsetSpec, spec)()
        futures = self.admin().list_offsets(
            {TopicPartition(name, partition): wanted for name, partition in pairs},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self.timeout,
        )
        offsets = {}
        for at, future in futures.items():
            try:
                offsets[at.topic, at.partition] = future.result().offset
            except KafkaException as error:
                if error.args[0].name() not in GONE:
                    raise typed(error) from None
        return offsets

    def read_range(
        self, topic: str, partition: int, from_offset: int, to_offset: int, *, batch: int = 5000
    ) -> Iterator[Records]:
        """Yield the committed records of ``[from_offset, to_offset)`` in order; see :meth:`read_ranges`."""
        for _, records in self.read_ranges([Span(topic, partition, from_offset, to_offset)], batch=batch):
            yield records

    def read_ranges(self, spans: Sequence[Span], *, batch: int = 5000) -> Iterator[tuple[int, Records]]:
        """Yield (position in ``spans``, records), at most ``batch`` at a time; those of one span come in order.

        Narrow spans are fetched at once, a wide one without those after it: whoever collects records then holds a part
        of one span, not of all, and has its first ones early. A span ends when its position has passed it, never on a
        count: markers of transactions and compacted records take offsets. Raises :class:`RangeGone` where the log
        begins after a span's first offset or ends before its last, and :class:`KafkaUnavailable` where nothing comes
        for ``timeout`` seconds.
        """
        waiting = [at for at, span in enumerate(spans) if span.to_offset > span.from_offset]
        while waiting:
            wave = _wave(spans, waiting)
            waiting = [at for at in waiting if at not in wave]
            own = [spans[at] for at in wave]
            with self._reader(sum(span.to_offset - span.from_offset for span in own)) as reader:
                for at, records in read(reader, own, batch=batch, timeout=self.timeout):
                    yield wave[at], records

    @contextmanager
    def _reader(self, width: int) -> Iterator[Consumer]:
        """Lend a consumer that nobody else uses; it stays connected for the next range of this process."""
        # A short range must not make the broker send a million records that nobody wants.
        ahead = 1_000 if width <= 1_000 else 20_000 if width <= 20_000 else 200_000
        config: dict[str, Any] = {
            "group.id": "isthmus-landing",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "queued.min.messages": ahead,
            "queued.max.messages.kbytes": 262_144,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 50,
        }
        key = json.dumps(self.config(**config), sort_keys=True, default=str)
        with _lock:
            idle = _idle_readers.setdefault(key, [])
            reader = idle.pop() if idle else None
        reader = reader or self.consumer(**config)
        try:
            yield reader
            reader.unassign()
        except BaseException:
            reader.close()
            raise
        with _lock:
            idle.append(reader)


def _wave(spans: Sequence[Span], waiting: list[int]) -> list[int]:
    """Return those of ``waiting`` that are read next: one place of a partition at a time, and not too much at once."""
    wave: list[int] = []
    places: set[tuple[str, int]] = set()
    width = 0
    for at in waiting:
        span = spans[at]
        if (span.topic, span.partition) in places:
            continue
        wave.append(at)
        places.add((span.topic, span.partition))
        width += span.to_offset - span.from_offset
        if width >= _WAVE:
            break
    return wave


def _pairs(topics: Iterable[Topic]) -> list[tuple[str, int]]:
    return [(topic.name, partition) for topic in topics for partition in topic.partitions]


def _result(future: Any) -> Any:
    from confluent_kafka import KafkaException

    try:
        return future.result()
    except KafkaException as error:
        raise typed(error) from None


def _done(future: Any, *, allow: str = "") -> bool:
    """Wait for ``future``; return False where it failed with the error named ``allow``."""
    from confluent_kafka import KafkaException

    try:
        future.result()
    except KafkaException as error:
        if error.args[0].name() != allow:
            raise typed(error) from None
        return False
    return True
