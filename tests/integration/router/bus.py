"""What the router's tests share: a router process, and a reader that remembers what it saw."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS, SAGAS
from events.codec import decode, encode
from tests.conftest import free_port, running

PII_KEY = "key of the tests"
BROKER = "services.embedded.broker"
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    def header(self, name: str) -> str:
        return (dict(self.headers)[name] or b"").decode()


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    """Return a record's headers; none where a name is not UTF-8, as other tests on the same broker write them."""
    try:
        return next(map(Message.headers, [message])) or []
    except SystemError:  # raised where C calls it; a call from Python would leave the exception set
        return []


class Reader:
    """Reads topics from their start and keeps every record."""

    def __init__(self, bootstrap: str, topics: tuple[str, ...] = (*DOMAIN_TOPICS, DEAD_LETTER), **options: str) -> None:
        self.records: list[Record] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{secrets.token_hex(4)}",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 16_777_216,
                **{name.replace("_", "."): value for name, value in options.items()},
            }
        )
        metadata = self._consumer.list_topics(timeout=10)
        self._consumer.assign(
            [TopicPartition(topic, partition, 0) for topic in topics for partition in metadata.topics[topic].partitions]
        )

    def poll(self) -> None:
        for message in self._consumer.consume(1000, 0.05):
            if message.error() is None:
                self.records.append(
                    Record(
                        message.topic(),
                        message.partition(),
                        message.offset(),
                        message.key(),
                        message.value(),
                        _headers(message),
                    )
                )

    def until(self, done: Callable[[list[Record]], bool], seconds: float = 60.0) -> list[Record]:
        """Read until ``done`` of all records so far; return them."""
        deadline = time.monotonic() + seconds
        while not done(self.records):
            assert time.monotonic() < deadline, f"not in {seconds:.0f} s; {len(self.records)} records so far"
            self.poll()
        return self.records

    def with_key(self, key: bytes, count: int = 1) -> list[Record]:
        """Return the records with ``key``, once there are ``count`` of them."""
        self.until(lambda records: sum(record.key == key for record in records) >= count)
        return [record for record in self.records if record.key == key]

    def close(self) -> None:
        self._consumer.close()


@dataclass(frozen=True)
class Router:
    process: subprocess.Popen[str]
    address: str
    log: Path

    def get(self, path: str) -> str:
        with urlopen(self.address + path, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples; 0 while the router cannot be asked."""
        try:
            lines = self.get("/metrics").splitlines()
        except (URLError, OSError):
            return 0.0
        prefix = f"isthmus_router_{name}"
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == prefix)

    def ready(self) -> bool:
        """Return whether the router says that it routes."""
        try:
            return '"ok": true' in self.get("/ready")
        except HTTPError:
            return False


@contextmanager
def router(bootstrap: str, folder: Path, **settings: str) -> Iterator[Router]:
    """Run a router until the block ends; ``settings`` are further ones by name, in lower case."""
    port = free_port()
    env = {
        "ISTHMUS_KAFKA_BOOTSTRAP": bootstrap,
        "ISTHMUS_ROUTER_PORT": str(port),
        "ISTHMUS_HOME": str(folder),
        "ISTHMUS_PII_KEY": PII_KEY,
        **{f"ISTHMUS_{name.upper()}": value for name, value in settings.items()},
    }
    log = folder / f"router-{port}.log"
    with running("services.router", log=log, env=env) as process:
        yield Router(process, f"http://127.0.0.1:{port}", log)


def producer(bootstrap: str, **options: object) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0, **options})


def committed(bootstrap: str, topic: str) -> tuple[int, int]:
    """Return (offsets committed by the router's group, offsets written) of a topic, both summed over partitions."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "isthmus-router", "enable.auto.commit": False})
    try:
        partitions = [
            TopicPartition(topic, partition) for partition in consumer.list_topics(topic).topics[topic].partitions
        ]
        done = sum(max(0, at.offset) for at in consumer.committed(partitions, timeout=10))
        return done, sum(consumer.get_watermark_offsets(at, timeout=10)[1] for at in partitions)
    finally:
        consumer.close()


def wait_for_broker(bootstrap: str, seconds: float = 30.0) -> None:
    admin, deadline = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}), time.monotonic() + seconds
    while True:
        try:
            admin.list_topics(timeout=1)
            return
        except KafkaException:
            assert time.monotonic() < deadline


def write(to: Producer, source: str, numbers: range, sagas: int = 50) -> None:
    """Send one event per number; every tenth is not acceptable. Event ``n`` belongs to saga ``n % sagas``."""
    for number in numbers:
        subject = f"{source}/{number % sagas}"
        value = encode("isthmus.saga.step", STEP, subject=subject, source=source, id=str(number))
        while True:
            try:
                to.produce(INGRESS, value if number % 10 else value[:-1], subject, headers=[("number", str(number))])
                break
            except BufferError:
                to.poll(0.1)
    assert to.flush(60) == 0


def arrived(records: list[Record], source: str) -> Counter[int]:
    """Return how often each event of ``source`` stands in the topics, wherever it ended."""
    prefix = source.encode()
    return Counter(int(record.header("number")) for record in records if (record.key or b"").startswith(prefix + b"/"))


def all_there(source: str, count: int, reader: Reader) -> Counter[int]:
    seen: set[int] = set()
    position = 0

    def done(records: list[Record]) -> bool:
        nonlocal position
        seen.update(arrived(records[position:], source))
        position = len(records)
        return len(seen) >= count

    reader.until(done, 120)
    found = arrived(reader.records, source)
    assert set(found) == set(range(count)), "an event is missing, or one came that was never sent"
    for record in reader.records:
        if (record.key or b"").startswith(source.encode() + b"/"):
            assert (record.topic == DEAD_LETTER) == (int(record.header("number")) % 10 == 0)
    return found


def in_order(records: list[Record], source: str) -> bool:
    """Return whether the first time of each event keeps the order of its saga; repetitions may follow."""
    last: dict[bytes, int] = {}
    seen: set[int] = set()
    for record in records:
        if record.topic != SAGAS or not (record.key or b"").startswith(source.encode() + b"/"):
            continue
        number = int(decode(record.value or b"").id)
        if number in seen:
            continue
        seen.add(number)
        assert record.key is not None
        if last.get(record.key, -1) > number:
            return False
        last[record.key] = number
    return True


class Broker:
    """An embedded broker that can be killed and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.bootstrap = f"127.0.0.1:{self.port}"

    def run(self) -> Generator[subprocess.Popen[str]]:
        arguments = ("--path", str(self.folder / "data"), "--port", str(self.port))
        with running(BROKER, *arguments, log=self.folder / "broker.log") as process:
            yield process
