"""Records taken out of topics for good: what is read, what is removed, what is written behind.

What belongs here: the broker's side of it. What does not: which records go (``assets.compliance``).

A topic cannot be edited. Its beginning can be removed (DeleteRecords), and a broker deletes a file of which all is
removed, but never the one that it appends to. So that one is ended first (:func:`end_files`): by a record of an aborted
transaction, which no committed reader sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from resources.errors import KafkaUnavailable
from resources.kafka import KafkaResource
from resources.ranges import Span, typed

#: The group whose offsets say how far dead letters were written behind, in the transaction that wrote them.
GROUP: Final = "isthmus-erasure"
_PATIENCE: Final = 30.0
_MARK: Final = b"isthmus-erasure"
_SEGMENT: Final = "segment.ms"

Place = tuple[str, int]


class Message(NamedTuple):
    """A record as it stands: null is None."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def messages(kafka: KafkaResource, span: Span) -> Iterator[Message]:
    """Yield the committed records of a span in order; raises :class:`KafkaUnavailable` where nothing comes."""
    from confluent_kafka import KafkaException, TopicPartition

    consumer = kafka.consumer(**{"group.id": GROUP, "enable.partition.eof": True, "auto.offset.reset": "error"})
    try:
        consumer.assign([TopicPartition(span.topic, span.partition, span.from_offset)])
        heard = time.monotonic()
        at = span.from_offset
        while at < span.to_offset:
            for one in consumer.consume(500, 0.2):
                heard = time.monotonic()
                if one.error() is not None:
                    if one.error().name() == "_PARTITION_EOF":
                        return
                    raise typed(KafkaException(one.error()))
                if one.offset() >= span.to_offset:
                    return
                yield Message(
                    span.topic, span.partition, one.offset(), one.key(), one.value(), list(one.headers() or [])
                )
            (position,) = consumer.position([TopicPartition(span.topic, span.partition)])
            at = max(at, position.offset)
            if time.monotonic() - heard > _PATIENCE:
                raise KafkaUnavailable(f"{span.topic}/{span.partition}: nothing came for {_PATIENCE:.0f} s")
    except KafkaException as error:
        raise typed(error) from None
    finally:
        consumer.close()


def committed(kafka: KafkaResource, group: str, places: Iterable[Place]) -> dict[Place, int]:
    """Return the offset that ``group`` has committed of each place; a place without one is left out."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

    wanted = [TopicPartition(*place) for place in places]
    if not wanted:
        return {}
    request = [ConsumerGroupTopicPartitions(group, wanted)]
    try:
        answer = kafka.admin().list_consumer_group_offsets(request, request_timeout=kafka.timeout)[group].result()
    except KafkaException as error:
        raise typed(error) from None
    return {(one.topic, one.partition): one.offset for one in answer.topic_partitions if one.offset >= 0}


def end_files(kafka: KafkaResource, places: Iterable[Place]) -> dict[Place, int]:
    """Have the broker begin a new file in each place and return where: what stands before can leave the disk.

    A topic's ``segment.ms`` is one millisecond meanwhile, and then what it was.
    """
    from confluent_kafka import KafkaException, Producer

    wanted = sorted(set(places))
    names = sorted({topic for topic, _ in wanted})
    begun: dict[Place, int] = {}

    def note(_: object, delivered: Any) -> None:
        begun[delivered.topic(), delivered.partition()] = delivered.offset()

    before = {name: value for name, value in _own_settings(kafka, names).items() if value != "1"}
    try:
        _set(kafka, dict.fromkeys(names, "1"))
        producer = Producer(kafka.config(**{"transactional.id": f"{GROUP}-files", "linger.ms": 0}))
        producer.init_transactions(_PATIENCE)
        producer.begin_transaction()
        for topic, partition in wanted:
            producer.produce(topic, partition=partition, key=_MARK, value=b"", on_delivery=note)
        producer.flush(_PATIENCE)
        producer.abort_transaction(_PATIENCE)
    except KafkaException as error:
        raise typed(error) from None
    finally:
        _set(kafka, {name: before.get(name) for name in names})
    if missing := set(wanted) - {place for place, offset in begun.items() if offset >= 0}:
        raise KafkaUnavailable(f"{len(missing)} partitions did not begin a new file")
    return begun


def remove_before(kafka: KafkaResource, offsets: Mapping[Place, int]) -> None:
    """Remove the records before each offset for good; doing it twice changes nothing."""
    from confluent_kafka import KafkaException, TopicPartition

    if not offsets:
        return
    wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    try:
        for future in kafka.admin().delete_records(wanted, request_timeout=kafka.timeout).values():
            future.result()
    except KafkaException as error:
        raise typed(error) from None


def write_behind(kafka: KafkaResource, ends: Mapping[Place, int], kept: Callable[[Message], bool]) -> tuple[int, int]:
    """Write the records below each end that are ``kept`` behind it, in their order, exactly once; return (kept, left).

    How far a place was written stands in the group's offsets and is part of the transaction: a kill leaves all of it or
    nothing, and the next call goes on from there.
    """
    from confluent_kafka import KafkaException, Producer, TopicPartition

    done = committed(kafka, GROUP, ends)
    topics = kafka.topics({topic for topic, _ in ends})
    begins = {place: max(low, done.get(place, 0)) for place, (low, _) in kafka.watermarks_of(topics.values()).items()}
    work = {place: end for place, end in ends.items() if place in begins and begins[place] < end}
    if not work:
        return 0, 0
    options: dict[str, Any] = {
        "transactional.id": f"{GROUP}-letters", "message.max.bytes": 16_777_216, "compression.type": "lz4",
    }  # fmt: skip
    producer = Producer(kafka.config(**options))
    consumer = kafka.consumer(**{"group.id": GROUP})
    counted = [0, 0]
    try:
        producer.init_transactions(_PATIENCE)
        producer.begin_transaction()
        for (topic, partition), end in work.items():
            for one in messages(kafka, Span(topic, partition, begins[topic, partition], end)):
                keeps = kept(one)
                counted[not keeps] += 1
                if keeps:
                    _produce(producer, one)
        producer.send_offsets_to_transaction(
            [TopicPartition(*place, end) for place, end in work.items()], consumer.consumer_group_metadata(), _PATIENCE
        )
        producer.commit_transaction(_PATIENCE)
    except KafkaException as error:
        raise typed(error) from None
    finally:
        consumer.close()
    return counted[0], counted[1]


def _produce(producer: Any, one: Message) -> None:
    while True:
        try:
            producer.produce(one.topic, partition=one.partition, key=one.key, value=one.value, headers=one.headers)
        except BufferError:
            producer.poll(0.5)
        else:
            producer.poll(0)
            return


def _own_settings(kafka: KafkaResource, names: Iterable[str]) -> dict[str, str]:
    """Return ``segment.ms`` of those topics that set it themselves."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource

    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    try:
        futures = kafka.admin().describe_configs(resources, request_timeout=kafka.timeout)
        found = {resource.name: future.result()[_SEGMENT] for resource, future in futures.items()}
    except KafkaException as error:
        raise typed(error) from None
    return {name: str(entry.value) for name, entry in found.items() if not entry.is_default}


def _set(kafka: KafkaResource, values: Mapping[str, str | None]) -> None:
    """Set ``segment.ms`` of topics; None: the broker's own again."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    resources = []
    for name, value in values.items():
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(_SEGMENT, value or "1", incremental_operation=operation)
        resources.append(ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry]))
    try:
        for future in kafka.admin().incremental_alter_configs(resources, request_timeout=kafka.timeout).values():
            future.result()
    except KafkaException as error:
        raise typed(error) from None
