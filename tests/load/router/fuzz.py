"""Mutants through the router: the pure function in this process, and a router process on a broker.

What belongs here: the two courses and what must hold of each record. What does not: making mutants (``mutants``).
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from confluent_kafka import Consumer, Producer, TopicPartition

from events.catalogue import DEAD_LETTER, INGRESS, MAX_EVENT_BYTES
from resources.kafka import KafkaResource
from services.router.dead_letter import Source, dead_letters, original
from services.router.routing import Refused, Routed, route
from tests.load.bench import until
from tests.load.router.evidence import Broker
from tests.load.router.forks import Router
from tests.load.router.mutants import Mutant, mutants

KEY: Final = b"key of the tests"
_HEADER: Final = "fuzz"
# How far the router may fall behind: what it has to send again if it is stuck should not fill the disk.
_AHEAD: Final = 20_000


@dataclass(slots=True)
class Outcome:
    """How many records ended how; ``wrong`` names each that did not end as it must."""

    count: int = 0
    seconds: float = 0.0
    routed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def in_process(seed: int, count: int) -> Outcome:
    """Give ``count`` mutants to the pure function; check each answer, and the way back from each dead letter."""
    outcome, began, now = Outcome(), time.monotonic(), datetime.now(UTC)
    for number, mutant in enumerate(mutants(seed, count)):
        outcome.count += 1
        try:
            result = route(mutant.value, mutant.key, mutant.headers or None, now, KEY)
            problem = _problem(mutant, result, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            outcome.wrong.append(f"{seed}/{number}: {type(error).__name__}: {error}")
            continue
        if problem:
            outcome.wrong.append(f"{seed}/{number}: {problem}")
        if isinstance(result, Routed):
            outcome.routed += 1
        else:
            outcome.reasons[result.reason] += 1
    outcome.seconds = time.monotonic() - began
    return outcome


def _problem(mutant: Mutant, result: Routed | Refused, now: datetime) -> str:
    """Return what is wrong with an answer; empty for nothing."""
    if isinstance(result, Refused):
        source = Source(INGRESS, 0, 0, mutant.key, mutant.value, mutant.headers)
        if original(list(dead_letters(source, result, now))) != (mutant.key, mutant.value, mutant.headers):
            return "the dead letter does not hold the record"
        return ""
    size = len(result.value) + len(result.key) + sum(len(name) + len(text or b"") for name, text in mutant.headers)
    if size > MAX_EVENT_BYTES:
        return f"{size} bytes were routed"
    again = route(result.value, result.key, mutant.headers or None, now, KEY)
    if not isinstance(again, Routed) or (again.topic, again.type, again.key) != (result.topic, result.type, result.key):
        return "what was routed would not be routed so again"
    return ""


def through_a_router(bootstrap: str, folder: Path, seed: int, count: int) -> Outcome:
    """Send ``count`` mutants to a router process; each must end once, in the topic that the pure function says."""
    began = time.monotonic()
    KafkaResource(bootstrap=bootstrap).ensure_topics()
    broker = Broker(bootstrap)
    begin = broker.ends(broker.outputs)
    outcome = Outcome(count=count)
    router = Router(bootstrap, folder, "fuzz")
    router.start()
    run = secrets.token_hex(4).encode()
    try:
        expected = _send(broker, router, run, seed, count)
        until(lambda: not router.alive or broker.lag() == 0, "everything is committed", seconds=300, pause=0.2)
        if not router.alive:
            outcome.wrong.append(f"the router ended:\n{router.said()[-2000:]}")
            return outcome
        address = next(line.split()[1] for line in router.said().splitlines() if line.startswith("ready "))
        for path in ("/health", "/ready"):
            with urlopen(address + path, timeout=10) as answer:
                assert answer.status == 200
        if code := router.stop():
            outcome.wrong.append(f"the router ended with {code}")
    finally:
        if router.alive:
            router.kill()
    _compare(broker, run, begin, expected, outcome)
    broker.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def _send(broker: Broker, router: Router, run: bytes, seed: int, count: int) -> list[str]:
    """Send the mutants, no faster than the router takes them, and return the topic that each belongs to."""
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 4_300_000,
            "queue.buffering.max.kbytes": 65_536,
            "log_level": 0,
        }
    )
    failed: list[str] = []
    expected, now = [], datetime.now(UTC)

    def note(error: object, _message: object) -> None:
        if error is not None:
            failed.append(str(error))

    for number, mutant in enumerate(mutants(seed, count)):
        headers = [*mutant.headers, (_HEADER, b"%s/%d" % (run, number))]
        result = route(mutant.value, mutant.key, headers, now, KEY)
        expected.append(result.topic if isinstance(result, Routed) else DEAD_LETTER)
        while True:
            try:
                producer.produce(INGRESS, mutant.value, mutant.key, headers=headers, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 5000 == 0:
            producer.poll(0)
            until(lambda: not router.alive or broker.lag() < _AHEAD, "the router keeps up", seconds=120)
            if not router.alive:
                break
    assert producer.flush(120) == 0
    assert not failed, failed[:3]
    return expected


def _compare(
    broker: Broker, run: bytes, begin: dict[tuple[str, int], int], expected: list[str], outcome: Outcome
) -> None:
    times = array("i", bytes(4 * len(expected)))
    left = {place: end for place, end in broker.ends(broker.outputs).items() if end > begin[place]}
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": f"fuzz-{run.decode()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 65_536,
            "fetch.message.max.bytes": 16_777_216,
        }
    )
    consumer.assign([TopicPartition(*place, begin[place]) for place in left])
    try:
        while left:
            for message in consumer.consume(1000, timeout=0.2):
                topic = message.topic()
                if message.error() is not None:
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    left.pop((topic, message.partition()), None)
                    continue
                headers = dict(message.headers() or ())
                found, _, number = (headers.get(_HEADER) or b"").partition(b"/")
                if found != run:
                    continue
                times[int(number)] += 1
                if topic != expected[int(number)]:
                    outcome.wrong.append(f"{number.decode()} went to {topic}, not to {expected[int(number)]}")
                if topic == DEAD_LETTER:
                    outcome.reasons[(headers["isthmus-reason"] or b"").decode()] += 1
                else:
                    outcome.routed += 1
    finally:
        consumer.close()
    outcome.wrong += [f"{number} came out {seen} times" for number, seen in enumerate(times) if seen != 1]
