"""Records and topics: what clients rely on, on the embedded broker and, by ``ISTHMUS_TEST_KAFKA``, on Apache Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import MessageSizeTooLargeError
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.integration.broker.conftest import Kafka, eventually, gather

DAY_MS = 86_400_000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.mark.parametrize("codec", CODECS)
def test_librdkafka_reads_what_it_wrote(kafka: Kafka, codec: str) -> None:
    topic = kafka.topic(message_timestamp_type="LogAppendTime")
    values = [b"%d" % number * 20 for number in range(500)]
    reports = kafka.send(topic, values, compression_type=codec)
    assert [one.offset() for one in reports] == list(range(500))
    assert [one.value() for one in kafka.read(topic, 500)] == values


async def _aiokafka_reads_what_it_wrote(kafka: Kafka, codec: str | None) -> None:
    topic = kafka.topic()
    async with kafka.aio_producer(compression_type=None if codec == "none" else codec) as producer:
        futures = [await producer.send(topic, b"v%d" % number, key=b"k") for number in range(200)]
        assert [(await one).offset for one in futures] == list(range(200))
    async with kafka.aio_consumer(topic) as consumer:
        assert [one.value for one in await gather(consumer, 200)] == [b"v%d" % number for number in range(200)]


@pytest.mark.parametrize("codec", CODECS)
def test_aiokafka_reads_what_it_wrote(kafka: Kafka, codec: str) -> None:
    asyncio.run(_aiokafka_reads_what_it_wrote(kafka, codec))


def test_keys_headers_tombstones_and_producer_time_survive(kafka: Kafka) -> None:
    topic = kafka.topic()
    producer = kafka.producer()
    headers = [("ce_id", b"1"), ("twice", b"\x00\xff"), ("twice", None)]
    producer.produce(topic, b"v", key=b"k", headers=headers, timestamp=1_700_000_000_000, partition=0)
    producer.produce(topic, None, key=b"gone", partition=0)
    producer.produce(topic, b"", partition=0, timestamp=1)  # 1970
    assert producer.flush(30) == 0
    first, tombstone, old = kafka.read(topic, 3)
    assert (first.key(), first.value(), first.headers()) == (b"k", b"v", headers)
    assert first.timestamp() == (1, 1_700_000_000_000)
    assert tombstone.value() is None
    assert old.timestamp() == (1, 1)
    assert old.value() == b""


def test_append_time_overrides_the_producer_and_the_batch_stays_intact(kafka: Kafka) -> None:
    topic = kafka.topic(message_timestamp_type="LogAppendTime")
    producer = kafka.producer(compression_type="zstd")
    before = int(time.time() * 1000)
    future = before + 365 * DAY_MS
    for number in range(50):
        producer.produce(topic, b"x" * 100, timestamp=future if number % 2 else 1, partition=0)
    assert producer.flush(30) == 0
    # check.crcs: the consumer verifies the checksum that the broker had to compute anew.
    records = kafka.read(topic, 50, check_crcs=True)
    kinds, stamps = zip(*(one.timestamp() for one in records), strict=True)
    assert set(kinds) == {2}  # log append time
    assert all(before - 1000 <= one <= int(time.time() * 1000) + 1000 for one in stamps)


def test_a_time_too_far_ahead_is_refused_where_the_producer_sets_it(kafka: Kafka) -> None:
    topic = kafka.topic()
    errors = []
    producer = kafka.producer()
    late = int(time.time() * 1000) + 365 * DAY_MS
    producer.produce(topic, b"x", timestamp=late, on_delivery=lambda error, _: errors.append(error.code()))
    producer.flush(30)
    assert errors == [KafkaError.INVALID_TIMESTAMP]


def test_a_message_over_the_limit_is_refused_and_the_next_one_is_not(kafka: Kafka) -> None:
    topic = kafka.topic()
    errors = []
    producer = kafka.producer(message_max_bytes=20_000_000)
    producer.produce(topic, b"x" * 10_000_000, on_delivery=lambda error, _: errors.append(error and error.code()))
    producer.flush(30)
    producer.produce(topic, b"fits", on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors == [KafkaError.MSG_SIZE_TOO_LARGE, None]
    assert kafka.watermarks(topic) == (0, 1)


def test_aiokafka_sees_the_limit_too(kafka: Kafka) -> None:
    topic = kafka.topic(max_message_bytes="10000")

    async def send() -> None:
        async with kafka.aio_producer() as producer:
            await producer.send_and_wait(topic, b"x" * 20_000)

    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(send())


def test_large_records_come_through_small_fetches(kafka: Kafka) -> None:
    topic = kafka.topic()
    values = [bytes([number]) * 900_000 for number in range(5)]
    kafka.send(topic, values)
    records = kafka.read(topic, 5, fetch_message_max_bytes=1000, fetch_max_bytes=1_000_000)
    assert [one.value() for one in records] == values


def test_offsets_by_time(kafka: Kafka) -> None:
    topic = kafka.topic()
    for codec in ("none", "zstd"):
        producer = kafka.producer(linger_ms=200, compression_type=codec)
        for number in range(10):
            producer.produce(topic, b"x", timestamp=1_000_000 + 1000 * number, partition=0)
        assert producer.flush(30) == 0
    consumer = kafka.consumer()

    def at(stamp: int) -> int:
        found = consumer.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=30)
        return int(found[0].offset)

    assert at(0) == 0
    assert at(1_004_000) == 4
    assert at(1_004_001) == 5
    assert at(2_000_000) == -1  # librdkafka's OFFSET_END
    consumer.close()
    newest = kafka.admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()})
    assert next(iter(newest.values())).result(30).timestamp == 1_009_000


def test_reading_past_the_end_starts_anew_as_the_client_wants(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"a", b"b"])
    assert kafka.read(topic, 1, offset=9999)[0].offset() == 0


def test_end_of_partition_is_reported(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"a"])
    consumer = kafka.consumer(enable_partition_eof=True)
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(30).value() == b"a"
    end = consumer.poll(30)
    assert end.error().code() == KafkaError._PARTITION_EOF
    assert end.offset() == 1
    consumer.close()


def test_a_waiting_consumer_is_woken_by_a_record(kafka: Kafka) -> None:
    topic = kafka.topic()

    async def waits() -> float:
        async with kafka.aio_consumer(topic, fetch_max_wait_ms=20_000) as consumer, kafka.aio_producer() as producer:
            waiting = asyncio.create_task(consumer.getone())
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await producer.send_and_wait(topic, b"now")
            await waiting
            return time.monotonic() - began

    assert asyncio.run(waits()) < 10  # half of the wait that it would sleep through


def test_topics_are_created_described_and_deleted(kafka: Kafka) -> None:
    topic = kafka.topic(6)
    # Eventually: Apache Kafka answers a creation before its own metadata know of it.
    eventually(lambda: topic in kafka.admin.list_topics(timeout=30).topics, "the topic is not listed")
    described = kafka.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    assert len(described.partitions) == 6
    first_id = str(described.topic_id)
    with pytest.raises(KafkaException) as refused:
        kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    kafka.send(topic, [b"old"])
    kafka.admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in kafka.admin.list_topics(timeout=30).topics, "the topic is still listed")
    kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    eventually(lambda: topic in kafka.admin.list_topics(timeout=30).topics, "the new topic is not listed")
    described = kafka.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    assert str(described.topic_id) != first_id
    assert kafka.watermarks(topic) == (0, 0)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (NewTopic("no/slash", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("x" * 250, 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("..", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("three-copies", 1, 3), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic("odd-setting", 1, 1, config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic("odd-value", 1, 1, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG),
    ],
)
def test_topics_that_cannot_be_are_refused(kafka: Kafka, topic: NewTopic, code: int) -> None:
    with pytest.raises(KafkaException) as refused:
        kafka.admin.create_topics([topic])[topic.topic].result(30)
    assert refused.value.args[0].code() == code


def test_unknown_topics_are_reported(kafka: Kafka) -> None:
    consumer = kafka.consumer(allow_auto_create_topics=False)
    consumer.subscribe([kafka.unique("missing")])
    deadline = time.monotonic() + 30
    message = None
    while message is None and time.monotonic() < deadline:
        message = consumer.poll(0.5)
    assert message is not None
    assert message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()


def test_a_topic_comes_into_being_at_its_first_record(kafka: Kafka) -> None:
    topic = kafka.unique("auto")
    kafka.send(topic, [b"first"])
    assert kafka.read(topic, 1)[0].value() == b"first"


def test_settings_are_told_and_changed(kafka: Kafka) -> None:
    topic = kafka.topic(retention_ms="1234567")
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def told() -> dict[str, str]:
        answer = kafka.admin.describe_configs([resource])[resource].result(30)
        return {name: entry.value for name, entry in answer.items()}

    assert told()["retention.ms"] == "1234567"
    assert told()["message.timestamp.type"] == "CreateTime"
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([change])[change].result(30)
    eventually(lambda: told()["message.timestamp.type"] == "LogAppendTime", "the change is not told")
    assert told()["retention.ms"] == "1234567"
    kafka.send(topic, [b"x"])
    assert kafka.read(topic, 1)[0].timestamp()[0] == 2  # the change counts at once
    gone = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[gone])
    kafka.admin.incremental_alter_configs([change])[change].result(30)
    eventually(lambda: told()["retention.ms"] == "604800000", "the default is not back")


def test_partitions_are_added(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    kafka.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    eventually(lambda: len(kafka.admin.list_topics(topic, timeout=30).topics[topic].partitions) == 4, "not four")
    kafka.send(topic, [b"x"], partition=3)
    assert kafka.read(topic, 1, partition=3)[0].value() == b"x"
    with pytest.raises(KafkaException) as refused:
        kafka.admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    assert refused.value.args[0].code() == KafkaError.INVALID_PARTITIONS


def test_deleted_records_are_gone_for_good(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"%d" % number for number in range(50)])
    partition = TopicPartition(topic, 0, 30)
    kafka.admin.delete_records([partition])[partition].result(30)
    assert kafka.watermarks(topic) == (30, 50)
    assert kafka.read(topic, 20, offset=30)[0].value() == b"30"
    beyond = TopicPartition(topic, 0, 99)
    with pytest.raises(KafkaException) as refused:
        kafka.admin.delete_records([beyond])[beyond].result(30)
    assert refused.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("limit", [{"retention_bytes": "5000"}, {"retention_ms": "1000"}])
def test_retention_removes_whole_segments(kafka: Kafka, limit: dict[str, str]) -> None:
    topic = kafka.topic(segment_bytes="1048576", **limit)
    for _ in range(3):
        kafka.send(topic, [b"x" * 400_000], linger_ms=0)
    end = kafka.watermarks(topic)[1]
    assert end == 3
    eventually(lambda: kafka.watermarks(topic)[0] > 0, "nothing was removed")
    kafka.send(topic, [b"later"])
    start, end = kafka.watermarks(topic)
    assert (start > 0, end) == (True, 4)
    assert kafka.read(topic, 1, offset=3)[0].value() == b"later"


def test_offsets_and_ends_by_aiokafka(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    kafka.send(topic, [b"a"] * 7, partition=1)
    one, two = AioPartition(topic, 0), AioPartition(topic, 1)

    async def ends() -> tuple[dict[AioPartition, int], dict[AioPartition, int]]:
        async with kafka.aio_consumer() as consumer:
            return await consumer.beginning_offsets([one, two]), await consumer.end_offsets([one, two])

    assert asyncio.run(ends()) == ({one: 0, two: 0}, {one: 0, two: 7})
