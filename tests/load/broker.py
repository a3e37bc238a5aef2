"""``python -m tests.load.broker [--seconds S]``: latency from produce to consume at fixed rates, and throughput.

One producer and one consumer process (librdkafka, linger 0), events of 457 bytes, open loop: an event is due at its
time whatever became of the one before, and its latency counts from then. Against the embedded broker, started here,
and in the same run against the one of ``ISTHMUS_TEST_KAFKA`` if set (``python -m tests.services --only kafka …``).
"""

from __future__ import annotations

# ruff: noqa: T201 - a table for people is the point
import argparse
import os
import secrets
import subprocess
import tempfile
import time
from array import array
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import free_port, running

SIZE = 457
RATES = (1_000, 5_000, 10_000, 20_000)
BULK = 500_000


def _receive(bootstrap: str, topic: str, count: int, ready: Connection) -> None:
    """Consume ``count`` events and send their latencies, microseconds, sorted."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "load", "fetch.wait.max.ms": 100, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumer.poll(1.0)
    ready.send(True)
    latencies = array("q")
    while len(latencies) < count:
        for message in [consumer.poll(1.0), *consumer.consume(1000, 0)]:
            if message is not None and not message.error():
                latencies.append((time.time_ns() - int(message.value()[:19])) // 1000)
    consumer.close()
    ready.send(sorted(latencies[count // 5 :]))  # without the first fifth: connecting, the first batches


def _send(bootstrap: str, topic: str, count: int, rate: int) -> None:
    """Produce at a fixed rate; each event carries the time at which it was due."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "enable.idempotence": True})
    filler = b"x" * (SIZE - 19)
    producer.list_topics(topic, timeout=30)
    start = time.time_ns()
    for number in range(count):
        due = start + number * 1_000_000_000 // rate
        while (wait := due - time.time_ns()) > 0:
            producer.poll(0)
            time.sleep(min(wait / 1e9, 0.0005))
        producer.produce(topic, b"%d" % due + filler, partition=0)
    producer.flush(60)


def _topic(bootstrap: str) -> str:
    name = f"load-{secrets.token_hex(4)}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1, config={"message.timestamp.type": "LogAppendTime"})])[name].result(30)
    return name


def latency(bootstrap: str, rate: int, seconds: float) -> str:
    """Return p50 / p95 / p99 in milliseconds at ``rate`` events a second."""
    topic, count = _topic(bootstrap), int(rate * seconds)
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    receiver = context.Process(target=_receive, args=(bootstrap, topic, count, theirs))
    receiver.start()
    ours.recv()
    sender = context.Process(target=_send, args=(bootstrap, topic, count, rate))
    sender.start()
    got = ours.recv()
    sender.join()
    receiver.join()
    return " / ".join(f"{got[int(len(got) * share)] / 1000:.2f}" for share in (0.5, 0.95, 0.99))


def throughput(bootstrap: str) -> tuple[str, str]:
    """Return events a second written (acknowledged) and read."""
    topic = _topic(bootstrap)
    settings = {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    value = b"x" * SIZE
    began = time.perf_counter()
    for number in range(BULK):
        producer.produce(topic, value, partition=0)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    written = BULK / (time.perf_counter() - began)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "load", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    began, count = time.perf_counter(), 0
    while count < BULK:
        count += len(consumer.consume(5000, 1.0))
    read = BULK / (time.perf_counter() - began)
    consumer.close()
    return f"{written:,.0f}", f"{read:,.0f}"


def _measure(name: str, bootstrap: str, seconds: float) -> None:
    print(f"\n{name}, {bootstrap}")
    latency(bootstrap, 1_000, 1)  # the first connection, the first segment, a JVM's first compilation
    for rate in RATES:
        print(f"  {rate:>6,}/s  p50 / p95 / p99 ms: {latency(bootstrap, rate, seconds)}", flush=True)
    written, read = throughput(bootstrap)
    print(f"  {BULK:,} events: {written} written/s, {read} read/s", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    load = subprocess.run(["uptime"], capture_output=True, text=True, check=False).stdout.strip()
    print(f"{os.cpu_count()} cores, {SIZE} bytes an event; {load}")
    with tempfile.TemporaryDirectory() as folder:
        port, path = free_port(), Path(folder)
        arguments = ("--path", str(path / "data"), "--port", str(port))
        with running("services.embedded.broker", *arguments, log=path / "log"):
            _measure("embedded broker", f"127.0.0.1:{port}", given.seconds)
    if bootstrap := os.environ.get("ISTHMUS_TEST_KAFKA"):
        _measure("ISTHMUS_TEST_KAFKA", bootstrap, given.seconds)


if __name__ == "__main__":
    main()
