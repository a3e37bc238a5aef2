"""Idempotence and transactions: the embedded broker and, by ``ISTHMUS_TEST_KAFKA``, Apache Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import ProducerFenced
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.integration.broker.conftest import PATIENCE, Kafka, eventually

COMMITTED = {"isolation_level": "read_committed"}


def stable_end(kafka: Kafka, topic: str) -> int:
    """The offset below which everything is decided."""
    answer = kafka.admin.list_offsets(
        {TopicPartition(topic, 0): OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_COMMITTED
    )
    return int(next(iter(answer.values())).result(30).offset)


def test_idempotent_producers_keep_order(kafka: Kafka) -> None:
    topic = kafka.topic()
    values = [b"%d" % number for number in range(5000)]
    kafka.send(topic, values, enable_idempotence=True, batch_num_messages=50)
    assert [one.value() for one in kafka.read(topic, 5000)] == values


def test_committed_is_read_and_aborted_is_not(kafka: Kafka) -> None:
    topic = kafka.topic()
    producer = kafka.producer(transactional_id=kafka.unique("txn"))
    producer.init_transactions(30)
    for value, commit in ((b"one", True), (b"bad", False), (b"two", True), (b"worse", False)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    assert [one.value() for one in kafka.read(topic, 2, **COMMITTED)] == [b"one", b"two"]
    everything = kafka.read(topic, 4, isolation_level="read_uncommitted")
    assert [one.value() for one in everything] == [b"one", b"bad", b"two", b"worse"]
    assert [one.offset() for one in everything] == [0, 2, 4, 6]  # a marker behind each


def test_an_open_transaction_holds_back_what_follows(kafka: Kafka) -> None:
    topic = kafka.topic()
    producer = kafka.producer(transactional_id=kafka.unique("txn"))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(30)
    kafka.send(topic, [b"outside"])
    assert stable_end(kafka, topic) == 0
    assert kafka.watermarks(topic)[1] == 2
    producer.commit_transaction(30)
    assert [one.value() for one in kafka.read(topic, 2, **COMMITTED)] == [b"open", b"outside"]
    assert stable_end(kafka, topic) == 3


def test_transactions_span_partitions_and_topics(kafka: Kafka) -> None:
    first, second = kafka.topic(2), kafka.topic(1)

    async def send() -> None:
        async with kafka.aio_producer(transactional_id=kafka.unique("txn")) as producer:
            async with producer.transaction():
                await producer.send(first, b"a", partition=0)
                await producer.send(first, b"b", partition=1)
                await producer.send(second, b"c", partition=0)
            await producer.begin_transaction()
            await producer.send_and_wait(first, b"not", partition=0)
            await producer.abort_transaction()

    asyncio.run(send())
    assert kafka.read(first, 1, 0, **COMMITTED)[0].value() == b"a"
    assert kafka.read(first, 1, 1, **COMMITTED)[0].value() == b"b"
    assert kafka.read(second, 1, 0, **COMMITTED)[0].value() == b"c"


def test_a_second_producer_fences_the_first_and_aborts_what_it_left(kafka: Kafka) -> None:
    topic, name = kafka.topic(), kafka.unique("txn")
    first = kafka.producer(transactional_id=name)
    first.init_transactions(30)
    first.begin_transaction()
    first.produce(topic, b"left open", partition=0)
    first.flush(30)
    second = kafka.producer(transactional_id=name)
    second.init_transactions(30)
    second.begin_transaction()
    second.produce(topic, b"good", partition=0)
    second.commit_transaction(30)
    with pytest.raises(KafkaException) as refused:
        first.commit_transaction(30)
    assert refused.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)
    assert [one.value() for one in kafka.read(topic, 1, **COMMITTED)] == [b"good"]


def test_aiokafka_is_told_that_it_is_fenced(kafka: Kafka) -> None:
    topic, name = kafka.topic(), kafka.unique("txn")

    async def fence() -> None:
        async with kafka.aio_producer(transactional_id=name) as first:
            await first.begin_transaction()
            await first.send_and_wait(topic, b"x")
            async with kafka.aio_producer(transactional_id=name) as second:
                await second.begin_transaction()
                await second.send_and_wait(topic, b"y")
                await second.commit_transaction()
            with pytest.raises(ProducerFenced):
                await first.commit_transaction()

    asyncio.run(fence())


def test_a_transaction_that_takes_too_long_is_aborted(kafka: Kafka) -> None:
    topic = kafka.topic()
    producer = kafka.producer(transactional_id=kafka.unique("txn"), transaction_timeout_ms=1000)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"late", partition=0)
    producer.flush(30)
    kafka.send(topic, [b"waits"])
    eventually(lambda: stable_end(kafka, topic) == 3, "the transaction still holds back what follows")
    with pytest.raises(KafkaException):
        producer.commit_transaction(30)
    assert [one.value() for one in kafka.read(topic, 1, **COMMITTED)] == [b"waits"]


def test_offsets_count_with_the_transaction(kafka: Kafka) -> None:
    source, target, group = kafka.topic(), kafka.topic(), kafka.unique("group")
    kafka.send(source, [b"x"] * 10)
    consumer = kafka.consumer(group)
    consumer.subscribe([source])
    eventually(lambda: consumer.poll(0.1) is not None, "nothing read")
    producer = kafka.producer(transactional_id=kafka.unique("txn"))
    producer.init_transactions(30)
    for offset, commit in ((4, True), (9, False)):
        producer.begin_transaction()
        producer.produce(target, b"y")
        where = [TopicPartition(source, 0, offset)]
        producer.send_offsets_to_transaction(where, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    # Eventually: Apache Kafka answers the commit before the offset's own marker is written.
    where = [TopicPartition(source, 0)]
    eventually(lambda: consumer.committed(where, timeout=30)[0].offset == 4, "the committed offset does not count")
    consumer.close()


def test_aiokafka_sends_offsets_to_a_transaction(kafka: Kafka) -> None:
    topic, group = kafka.topic(), kafka.unique("group")
    kafka.send(topic, [b"x"] * 10)
    partition = AioPartition(topic, 0)

    async def send() -> int | None:
        async with (
            kafka.aio_consumer(topic, group_id=group) as consumer,
            kafka.aio_producer(transactional_id=kafka.unique("txn")) as producer,
        ):
            await asyncio.wait_for(consumer.getone(), 60)
            async with producer.transaction():
                await producer.send_offsets_to_transaction({partition: 7}, group)
            deadline = time.monotonic() + PATIENCE
            while (offset := await consumer.committed(partition)) is None and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            return offset  # type: ignore[no-any-return]

    assert asyncio.run(send()) == 7
