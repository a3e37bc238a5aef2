"""Replay to a broker: what it says it sent is what stands there, in the order that it promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from events.codec import decode
from examples.replay import ReplayError, replay
from examples.shop import malformed, traffic
from examples.source import Source
from tests.unit.examples.test_source import part


@pytest.fixture(scope="module")
def shop() -> Source:
    return traffic(seed=2, days=0.01, end=datetime(2026, 11, 23, 20, tzinfo=UTC))


@pytest.fixture
def topic(kafka_bootstrap: str, unique: Callable[[str], str]) -> str:
    name = unique("replay")
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.create_topics([NewTopic(name, 3, 1)]).values():
        future.result(30)
    return name


def records(bootstrap: str, topic: str) -> dict[int, list[Message]]:
    """Return the records of each partition, in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
    found: dict[int, list[Message]] = {}
    try:
        for partition in range(3):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            consumer.assign([TopicPartition(topic, partition, low)])
            found[partition] = []
            while len(found[partition]) < high - low:
                found[partition] += consumer.consume(1000, timeout=5)
        return found
    finally:
        consumer.close()


def test_everything_arrives_once_and_each_key_in_order(kafka_bootstrap: str, topic: str, shop: Source) -> None:
    seen: list[tuple[int, int]] = []
    report = replay(
        shop, bootstrap=kafka_bootstrap, topic=topic, progress=lambda done, total: seen.append((done, total))
    )
    found = records(kafka_bootstrap, topic)
    assert report.sent == report.distinct == len(shop) == sum(map(len, found.values()))
    assert (report.rejected, report.malformed, report.duplicates, report.late) == (0, 0, 0, 0)
    assert seen[-1] == (len(shop), len(shop))
    assert all(len(partition) > 0 for partition in found.values())
    by_key: dict[bytes, list[bytes]] = defaultdict(list)
    for message in shop.render(np.arange(len(shop))):
        by_key[message.key].append(message.value)
    arrived: dict[bytes, list[bytes]] = defaultdict(list)
    for partition in found.values():
        for record in partition:
            arrived[record.key()].append(record.value())
    assert arrived == by_key


def test_duplicates_late_and_malformed_are_told_apart(kafka_bootstrap: str, topic: str, shop: Source) -> None:
    report = replay(
        shop, bootstrap=kafka_bootstrap, topic=topic, seed=1, duplicates=0.1, late=0.05, broken=malformed(seed=1)
    )
    values = [record.value() for partition in records(kafka_bootstrap, topic).values() for record in partition]
    assert len(values) == report.sent == report.distinct + report.duplicates + report.malformed
    assert report.malformed == len(malformed()) > 10
    assert report.distinct == len(shop)
    assert report.duplicates > 0
    assert report.late > 0


def test_straight_to_the_domain_topics_by_type(kafka_bootstrap: str, shop: Source) -> None:
    report = replay(shop, bootstrap=kafka_bootstrap, topic=None, limit=300, broken=malformed())
    assert report.malformed == 0
    newest = records_of_tail(kafka_bootstrap, "isthmus.sagas", 1)
    assert decode(newest[0].value()).type.startswith("isthmus.saga.")


def records_of_tail(bootstrap: str, topic: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"tail-{topic}"})
    try:
        for partition in consumer.list_topics(topic, timeout=20).topics[topic].partitions:
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            if high:
                consumer.assign([TopicPartition(topic, partition, max(0, high - count))])
                return list(consumer.consume(count, timeout=20))
        return []
    finally:
        consumer.close()


def test_what_the_broker_refuses_is_counted(kafka_bootstrap: str, topic: str) -> None:
    large = Source("large", [part([1, 2], data={"saga_type": ["x" * 5_000_000, "small"]})])
    report = replay(large, bootstrap=kafka_bootstrap, topic=topic)
    assert (report.sent, report.rejected) == (2, 1)
    assert sum(map(len, records(kafka_bootstrap, topic).values())) == 1


def test_without_a_broker_it_says_so() -> None:
    with pytest.raises(ReplayError, match="no broker answers at"):
        replay(Source("one", [part([1])]), bootstrap="127.0.0.1:9", producer_config={"log_level": 0})


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def test_speed_is_a_multiple_of_the_events_own_time(kafka_bootstrap: str, topic: str) -> None:
    clock = FakeClock()
    minute = 60_000_000
    source = Source("slow", [part([0, minute, 3 * minute])])
    report = replay(source, bootstrap=kafka_bootstrap, topic=topic, speed=60.0, clock=clock)
    assert clock.slept == [1.0, 2.0]
    assert report.seconds == 3.0
