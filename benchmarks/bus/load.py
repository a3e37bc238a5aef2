"""Load on the ingress topic and the clock at the other end, each a process of its own.

What belongs here: producing on schedule (open loop) and receiving. What does not: the router that stands between.

Open loop: an event is due at its time whatever became of the one before, and its latency counts from when it was due,
so that a stall anywhere counts in full. The due time, nanoseconds, is the event's id: a router passes it on unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from numpy.typing import NDArray

from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS

_ID_BEGINS: Final = len(b'{"specversion":"1.0","id":"')
_ID_ENDS: Final = _ID_BEGINS + 19

Template = tuple[bytes, bytes]
"""Key of an event, and its value behind the id."""


def templates(source: Any, count: int) -> list[Template]:
    """Return ``count`` events of a source (at most as many as it has), ready to be given an id."""
    made: list[Template] = []
    for message in source.render(np.arange(min(count, len(source)))):
        assert message.value.startswith(b'{"specversion":"1.0","id":"')
        made.append((message.key, message.value[message.value.index(b'"', _ID_BEGINS) :]))
    return made


class Worker:
    """A child process that answers commands over a pipe."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        self.answer()

    def tell(self, *command: Any) -> None:
        """Send a command."""
        self._pipe.send(command)

    def answer(self, seconds: float = 240.0) -> Any:
        """Return the answer to the oldest command; raises TimeoutError where none comes."""
        if not self._pipe.poll(seconds):
            raise TimeoutError("the load's process does not answer")
        return self._pipe.recv()

    def ask(self, *command: Any) -> Any:
        """Send a command and return its answer."""
        self.tell(*command)
        return self.answer()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(10)


def sender(pipe: Connection, bootstrap: str, events: Sequence[Template]) -> None:
    """Serve ``("send", rate, seconds)`` → (first due, behind the last due); ``("fill", count)`` → count."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            # Less than any client's default (5 ms). Without it each event is a request of its own, and the broker is
            # busy with the load's requests.
            "linger.ms": 1,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "delivery.report.only.error": True,
        }
    )
    producer.list_topics(INGRESS, timeout=30)
    pipe.send("ready")
    head, position = b'{"specversion":"1.0","id":"', 0
    while True:
        match pipe.recv():
            case ("send", rate, seconds):
                begin = time.time_ns() + 5_000_000
                step, count, number = 1_000_000_000 / rate, int(rate * seconds), 0
                while number < count:
                    due = min(count, int((time.time_ns() - begin) / step) + 1)
                    for at in range(number, due):
                        key, tail = events[position % len(events)]
                        position += 1
                        producer.produce(INGRESS, b"%s%019d%s" % (head, begin + int(at * step), tail), key)
                    number = max(number, due)
                    producer.poll(0)
                    time.sleep(0.0003)
                producer.flush(60)
                pipe.send((begin, begin + int(count * step)))
            case ("fill", count):
                for _ in range(count):
                    key, tail = events[position % len(events)]
                    position += 1
                    value = b"%s%019d%s" % (head, time.time_ns(), tail)
                    while True:
                        try:
                            producer.produce(INGRESS, value, key)
                            break
                        except BufferError:
                            producer.poll(0.05)
                producer.flush(120)
                pipe.send(count)


def receiver(pipe: Connection, bootstrap: str) -> None:
    """Serve ``("count",)`` → events so far; ``("window", first, last, count, patience)`` → its latencies, ns."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark-receiver",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 500,
            "fetch.queue.backoff.ms": 5,
            "isolation.level": "read_committed",
        }
    )
    topics = consumer.list_topics(timeout=30).topics
    places = [
        TopicPartition(topic, partition)
        for topic in (*DOMAIN_TOPICS, DEAD_LETTER)
        for partition in topics[topic].partitions
    ]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign(places)
    consumer.poll(0.2)
    pipe.send("ready")
    due: list[int] = []
    came: list[int] = []
    wanted: tuple[int, int, int, float] | None = None
    now = time.time_ns
    while True:
        messages = consumer.consume(1, 0.05)
        if messages:
            messages += consumer.consume(4000, 0)
            moment = now()
            for message in messages:
                if message.error() is None:
                    due.append(int(message.value()[_ID_BEGINS:_ID_ENDS]))
                    came.append(moment)
        if pipe.poll():
            match pipe.recv():
                case ("count",):
                    pipe.send(len(due))
                case ("window", first, last, count, patience):
                    wanted = first, last, count, time.monotonic() + patience
        if wanted is not None and not messages:
            first, last, count, deadline = wanted
            latencies = _within(due, came, first, last)
            if len(latencies) >= count or time.monotonic() > deadline:
                pipe.send(latencies)
                due, came, wanted = [], [], None


def _within(due: list[int], came: list[int], first: int, last: int) -> NDArray[np.int64]:
    at = np.array(due, np.int64)
    return (np.array(came, np.int64) - at)[(at >= first) & (at < last)]


@dataclass(frozen=True)
class Latency:
    """Latencies of one run at one rate, milliseconds; ``lost`` events did not come in time."""

    p50: float
    p95: float
    p99: float
    worst: float
    lost: int

    @classmethod
    def of(cls, nanoseconds: NDArray[np.int64], sent: int) -> Latency:
        """Summarise; an event that did not come counts as one that took for ever."""
        every = np.concatenate([nanoseconds / 1e6, np.full(max(0, sent - len(nanoseconds)), np.inf)])
        p50, p95, p99 = np.percentile(every, [50, 95, 99], method="higher") if len(every) else (np.inf,) * 3
        return cls(float(p50), float(p95), float(p99), float(every.max(initial=0.0)), max(0, sent - len(nanoseconds)))
