"""Clients and helpers of the compatibility suite, and an embedded broker that a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import ROOT, free_port

PATIENCE = 20.0


class Kafka:
    """Short forms of what the tests ask of a broker, whichever it is."""

    def __init__(self, bootstrap: str, unique: Callable[[str], str]) -> None:
        self.bootstrap = bootstrap
        self.unique = unique
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topic(self, partitions: int = 1, **config: str) -> str:
        """Create a topic; settings with underscores for dots. Nothing is removed by age, however old the records."""
        name = self.unique("topic")
        settings = {"retention.ms": "-1"} | {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(30)
        return name

    def producer(self, **config: Any) -> Producer:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1, "log_level": 0, **settings})

    def consumer(self, group: str | None = None, **config: Any) -> Consumer:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        base = {"bootstrap.servers": self.bootstrap, "group.id": group or self.unique("group"), "log_level": 0}
        return Consumer(base | {"auto.offset.reset": "earliest", "enable.auto.commit": False} | settings)

    def send(self, topic: str, values: list[bytes], partition: int = 0, **config: Any) -> list[Message]:
        """Produce values and return their delivery reports, all without error."""
        reports: list[Message] = []
        failures: list[object] = []

        def delivered(error: object, message: Message) -> None:
            (failures if error else reports).append(error or message)  # type: ignore[arg-type]

        producer = self.producer(**config)
        for value in values:
            producer.produce(topic, value, partition=partition, on_delivery=delivered)
            producer.poll(0)
        assert producer.flush(PATIENCE) == 0
        assert not failures, failures
        return reports

    def read(self, topic: str, count: int, partition: int = 0, offset: int = 0, **config: Any) -> list[Message]:
        """Read ``count`` records of a partition from an offset."""
        consumer = self.consumer(**config)
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            return collect(consumer, count)
        finally:
            consumer.close()

    def watermarks(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """The first and the next offset, decided or not."""
        consumer = self.consumer(isolation_level="read_uncommitted")
        try:
            return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)  # type: ignore[no-any-return]
        finally:
            consumer.close()

    @asynccontextmanager
    async def aio_producer(self, **config: Any) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **config)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @asynccontextmanager
    async def aio_consumer(self, *topics: str, **config: Any) -> AsyncIterator[AIOKafkaConsumer]:
        base = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(*topics, bootstrap_servers=self.bootstrap, **{**base, **config})
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


def collect(consumer: Consumer, count: int, patience: float = PATIENCE) -> list[Message]:
    """Read until there are ``count`` records; fails the test where they do not come."""
    got: list[Message] = []
    deadline = time.monotonic() + patience
    while len(got) < count and time.monotonic() < deadline:
        for message in consumer.consume(min(5000, count - len(got)), 0.2):
            assert not message.error(), message.error()
            got.append(message)
    assert len(got) == count
    return got


async def gather(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    """Read until there are ``count`` records with aiokafka."""
    got: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE
    while len(got) < count and time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            got += records
    assert len(got) == count
    return got


def eventually(check: Callable[[], bool], what: str) -> None:
    """Poll until ``check``; fails the test where it never comes true."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str]) -> Kafka:
    """The broker of this session: the embedded one, or Apache Kafka."""
    return Kafka(kafka_bootstrap, unique)


class Embedded(Kafka):
    """An embedded broker of one test's own, to be killed and started at will."""

    def __init__(self, folder: Path, unique: Callable[[str], str], *options: str) -> None:
        self.folder = folder / "data"
        self.log = folder / "log"
        self.port = free_port()
        self._options = options
        self.process = self.start()
        super().__init__(f"127.0.0.1:{self.port}", unique)

    def start(self) -> subprocess.Popen[str]:
        self.process = self.launch()
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"ready 127.0.0.1:{self.port}\n", self.log.read_text()[-3000:]
        return self.process

    def launch(self) -> subprocess.Popen[str]:
        """Start the process without waiting for its word."""
        command = [sys.executable, "-m", "services.embedded.broker", "--path", str(self.folder)]
        with self.log.open("a") as errors:
            return subprocess.Popen(
                [*command, "--port", str(self.port), *self._options],
                cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0

    def partition(self, topic: str, index: int = 0) -> Path:
        """The folder of a partition's log."""
        return self.folder / "topics" / topic / str(index)


@pytest.fixture
def embedded(tmp_path: Path, unique: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[Embedded]:
    """An embedded broker of this test's own; ``@pytest.mark.parametrize(..., indirect=True)`` gives it options."""
    broker = Embedded(tmp_path, unique, *getattr(request, "param", ()))
    yield broker
    if broker.process.poll() is None:
        broker.stop()
