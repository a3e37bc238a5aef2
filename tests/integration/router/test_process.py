"""The process: limits set too low, full queues, defects, ports, and a broker that is not there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from events.catalogue import DEAD_LETTER, INGRESS, SAGAS
from events.codec import encode
from resources.kafka import KafkaResource
from services.router import outlet
from services.router.clients import PRODUCER_OPTIONS
from services.router.dead_letter import DeadLetter, original
from services.router.health import Health
from services.router.metrics import Metrics
from services.router.outlet import Outlet
from services.router.routing import route
from services.router.service import run
from tests.conftest import ROOT, free_port
from tests.integration.router.bus import (
    STEP,
    Broker,
    Reader,
    all_there,
    arrived,
    producer,
    write,
)

pytestmark = pytest.mark.embedded


@pytest.fixture
def small_limits(tmp_path: Path) -> Iterator[str]:
    """A broker whose topics someone made by hand, with limits too low for what must fit."""
    broker = Broker(tmp_path)
    life = broker.run()
    next(life)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    futures = admin.create_topics(
        [
            NewTopic(DEAD_LETTER, 1, 1, config={"max.message.bytes": "1048588"}),
            NewTopic(SAGAS, 1, 1, config={"max.message.bytes": "2000"}),
        ]
    )
    for future in futures.values():
        future.result(10)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    yield broker.bootstrap
    life.close()


@contextmanager
def in_process(bootstrap: str) -> Iterator[Metrics]:
    """Run the router in a thread of this process, where a test can reach into it."""
    metrics, stop, routing = Metrics(), Event(), Event()
    arguments = (KafkaResource(bootstrap=bootstrap), Health(metrics), b"key", stop)
    thread = Thread(target=run, args=arguments, kwargs={"on_routing": routing.set})
    thread.start()
    try:
        assert routing.wait(60)
        yield metrics
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_topics_with_low_limits_lose_nothing(small_limits: str) -> None:
    to = producer(small_limits, **{"message.max.bytes": 5_000_000})
    large = encode("isthmus.saga.step", {**STEP, "error": "x" * 3_000_000}, subject="large", source="/t", id="1")
    medium = encode("isthmus.saga.step", {**STEP, "error": "x" * 3_000}, subject="medium", source="/t", id="2")
    to.produce(INGRESS, large, "large")
    small = [encode("isthmus.saga.step", STEP, subject="small", source="/t", id=f"s{number}") for number in range(40)]
    for value in small[:20]:
        to.produce(INGRESS, value, "small", partition=0)
    to.produce(INGRESS, medium, "medium", partition=0)
    for value in small[20:]:
        to.produce(INGRESS, value, "small", partition=0)
    to.flush(10)
    reader = Reader(small_limits)
    with in_process(small_limits):
        letters = reader.with_key(b"large", count=7)
        (refused,) = reader.with_key(b"medium")
        neighbours = reader.with_key(b"small", count=40)
    reader.close()
    assert {each.topic for each in neighbours} == {SAGAS}, "refused with the record that was too large"
    assert [each.value for each in neighbours] == small
    assert original([DeadLetter(each.key, each.value, each.headers) for each in letters])[1] == large
    assert {each.header("isthmus-reason") for each in letters} == {"too-large"}
    assert (refused.topic, refused.value) == (DEAD_LETTER, medium)
    assert refused.header("isthmus-reason") == "refused-by-broker"
    assert "MSG_SIZE_TOO_LARGE" in refused.header("isthmus-detail")


def test_a_full_queue_holds_consumption_back_and_loses_nothing(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Counter[str]()
    patient = Outlet._wait_for_room

    def counted(self: Outlet) -> None:
        waits["n"] += 1
        patient(self)

    monkeypatch.setattr(Outlet, "_wait_for_room", counted)
    monkeypatch.setitem(PRODUCER_OPTIONS, "queue.buffering.max.messages", 20)
    source, reader = f"/full/{time.time_ns()}", Reader(bootstrap)
    write(producer(bootstrap), source, range(3000))
    with in_process(bootstrap):
        found = all_there(source, 3000, reader)
    reader.close()
    assert found.total() == 3000
    assert waits["n"] > 0


def test_a_router_that_paused_and_lost_its_partitions_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not answer makes it pause; for longer than a session, and its partitions are lost as well."""
    monkeypatch.setattr("services.router.pump.MOST_IN_FLIGHT", 300)
    monkeypatch.setattr("services.router.pump.MAX_BATCH", 100)
    broker = Broker(tmp_path)
    life = broker.run()
    process = next(life)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    count = 60_000
    write(producer(broker.bootstrap), "/pause", range(count))
    reader = Reader(broker.bootstrap)
    with in_process(broker.bootstrap) as metrics:
        deadline = time.monotonic() + 60
        while metrics.delivered < 100:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGSTOP)
        time.sleep(9)
        assert metrics.paused, "it did not pause: the test shows nothing"
        process.send_signal(signal.SIGCONT)
        all_there("/pause", count, reader)
    reader.close()
    life.close()


def test_a_defect_of_ours_does_not_stop_the_bus(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, reader = f"/defect/{time.time_ns()}", Reader(bootstrap)

    def defective(value: Any, key: bytes | None, *rest: Any, **options: Any) -> Any:
        if (key or b"").endswith(b"/3"):
            raise RuntimeError("a text that could hold a value of the event")
        return route(value, key, *rest, **options)

    monkeypatch.setattr("services.router.pump.route", defective)
    write(producer(bootstrap), source, range(1, 10))
    with in_process(bootstrap):
        reader.until(lambda records: len(arrived(records, source)) == 9)
    reader.close()
    (letter,) = (record for record in reader.records if record.key == f"{source}/3".encode())
    assert (letter.topic, letter.header("isthmus-reason")) == (DEAD_LETTER, "internal-error")
    assert letter.header("isthmus-detail") == "RuntimeError"


def test_a_topic_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    life = broker.run()
    next(life)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    to = producer(broker.bootstrap)
    with in_process(broker.bootstrap):
        write(to, "/before", range(20))
        reader = Reader(broker.bootstrap)
        all_there("/before", 20, reader)
        reader.close()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.delete_topics([SAGAS]).values():
            future.result(10)
        write(to, "/after", range(20))
        deadline = time.monotonic() + 60
        while SAGAS not in admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline
        reader = Reader(broker.bootstrap)
        all_there("/after", 20, reader)
        reader.close()
    life.close()


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = {**os.environ, "ISTHMUS_ROUTER_PORT": port, "ISTHMUS_HOME": str(tmp_path)}
        result = subprocess.run(
            [sys.executable, "-m", "services.router"],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.endswith("Set ISTHMUS_ROUTER_PORT to a free port.\n")
    assert "Traceback" not in result.stderr


def test_a_stop_does_not_wait_for_a_broker_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    env = {
        **os.environ,
        "ISTHMUS_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "ISTHMUS_ROUTER_PORT": str(port),
        "ISTHMUS_HOME": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services.router"], env=env, cwd=ROOT, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while answer(f"http://127.0.0.1:{port}/health") != 200:
            assert time.monotonic() < deadline
        assert answer(f"http://127.0.0.1:{port}/ready") == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def answer(url: str) -> int:
    try:
        with urlopen(url, timeout=5) as response:
            status: int = response.status
            return status
    except HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_producer_that_got_stuck_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes connections and answers nothing: to the client it looks like one that is slow."""
    monkeypatch.setattr(outlet, "STALLED_AFTER", 2.0)
    broker = Broker(tmp_path)
    life = broker.run()
    process = next(life)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    source, reader = f"/stuck/{time.time_ns()}", Reader(broker.bootstrap)
    write(producer(broker.bootstrap), source, range(20_000))
    health, stop = Health(Metrics()), Event()
    worker = Thread(
        target=run,
        args=(KafkaResource(bootstrap=broker.bootstrap, attempts=1, timeout=2.0), health, b"key", stop),
    )
    worker.start()
    try:
        deadline = time.monotonic() + 60
        while not health.metrics.delivered:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        while not health.metrics.restarts:
            assert time.monotonic() < deadline, "it waits for the stuck producer"
            time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        all_there(source, 20_000, reader)
    finally:
        process.send_signal(signal.SIGCONT)
        stop.set()
        worker.join(30)
    reader.close()
    life.close()
