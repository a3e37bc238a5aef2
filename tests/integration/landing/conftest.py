"""Fixtures of the landing tests: real services, a topic of one's own, and a way to say what stands in the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from resources.kafka import KafkaResource
from resources.ledger import Range
from resources.migrate import migrate
from resources.warehouse import WarehouseResource


@pytest.fixture
def warehouse(warehouse_url: str) -> WarehouseResource:
    """Return the session's warehouse, migrated."""
    resource = WarehouseResource(url=warehouse_url)
    migrate(resource)
    return resource


@pytest.fixture
def kafka(kafka_bootstrap: str) -> KafkaResource:
    """Return the session's broker."""
    return KafkaResource(bootstrap=kafka_bootstrap, timeout=10.0)


@dataclass
class Log:
    """A topic with one partition, and what was sent to it."""

    name: str
    kafka: KafkaResource

    def create(self, **config: str) -> Log:
        new = NewTopic(self.name, num_partitions=1, config={"message.timestamp.type": "LogAppendTime", **config})
        for future in self.kafka.admin().create_topics([new]).values():
            future.result()
        return self

    def delete(self) -> None:
        for future in self.kafka.admin().delete_topics([self.name]).values():
            future.result()

    def send(self, values: list[bytes | None], **options: Any) -> None:
        producer = self.kafka.producer()
        for at, value in enumerate(values):
            producer.produce(self.name, value, key=b"k%d" % (at % 7), partition=0, **options)
        assert producer.flush(30) == 0

    def send_in_transaction(self, values: list[bytes], *, commit: bool) -> None:
        whole = self.end() + len(values) + 1
        producer = Producer(self.kafka.config(**{"transactional.id": f"{self.name}-{time.time()}"}))
        producer.init_transactions(10)
        producer.begin_transaction()
        for value in values:
            producer.produce(self.name, value, partition=0)
        producer.flush(10)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)
        # Kafka answers before it has written the marker that ends the transaction.
        deadline = time.monotonic() + 30
        while self.end() < whole:
            assert time.monotonic() < deadline, "the transaction's marker does not come"
            time.sleep(0.02)

    def end(self) -> int:
        return self.kafka.watermarks(self.name)[0][1]

    def range(self, first: int = 0, last: int | None = None, generation: int = 0) -> Range:
        return Range(self.name, 0, first, self.end() if last is None else last, generation)


@pytest.fixture
def log(kafka: KafkaResource, unique: Callable[[str], str]) -> Log:
    """Return a new topic's log."""
    return Log(unique("landing"), kafka).create()


def landed_values(warehouse: WarehouseResource, topic: str, generation: int = 0) -> dict[int, str]:
    """Return what a reader sees of a topic, by offset, values as hex; fail on an offset that shows twice."""
    rows = warehouse.query_rows(
        "SELECT offset, lower(hex(value)) AS value FROM raw.events FINAL"
        " WHERE topic = {topic:String} AND generation = {generation:UInt16} ORDER BY offset",
        {"topic": topic, "generation": generation},
    )
    found = {row["offset"]: row["value"] for row in rows}
    assert len(found) == len(rows)
    return found
