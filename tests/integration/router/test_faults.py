"""Faults: whatever is killed, every event arrives; a planned stop does not even double one."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from threading import Timer

import pytest

from events.catalogue import INGRESS
from resources.kafka import KafkaResource
from tests.integration.router.bus import (
    Broker,
    Reader,
    all_there,
    committed,
    in_order,
    producer,
    router,
    wait_for_broker,
    write,
)


def kills(bootstrap: str, folder: Path, source: str, count: int, times: int) -> tuple[Counter[int], Reader, int]:
    """Send ``count`` events, kill -9 the router ``times`` while it works, then let one finish."""
    rng = random.Random(2)
    write(producer(bootstrap), source, range(count))
    in_flight = 0
    for turn in range(times):
        with router(bootstrap, folder) as victim:
            enough = rng.uniform(0.2, 0.8) * count / (times + 1)
            deadline = time.monotonic() + 60
            while victim.metric("delivered_total") < enough:
                assert time.monotonic() < deadline, f"turn {turn}: the router does not come on"
            done, written = committed(bootstrap, INGRESS)
            victim.process.send_signal(signal.SIGKILL)
            victim.process.wait()
            in_flight += done < written
    reader = Reader(bootstrap)
    with router(bootstrap, folder):
        return all_there(source, count, reader), reader, in_flight


def test_kill_9_in_mid_batch_loses_nothing(bootstrap: str, tmp_path: Path) -> None:
    source = f"/kill/{tmp_path.name}/{time.time_ns()}"
    found, reader, in_flight = kills(bootstrap, tmp_path, source, 20_000, 2)
    assert in_order(reader.records, source)
    reader.close()
    assert in_flight == 2, "the router was done before it was killed"
    assert found.total() > 20_000, "no kill fell between an acknowledgement and its commit: the test shows nothing"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_kills_lose_nothing(bootstrap: str, tmp_path: Path) -> None:
    source = f"/soak/{time.time_ns()}"
    found, reader, in_flight = kills(bootstrap, tmp_path, source, 300_000, 30)
    assert in_order(reader.records, source)
    reader.close()
    assert in_flight >= 25
    assert found.total() > 300_000


def test_a_planned_stop_delivers_and_commits_what_it_took(bootstrap: str, tmp_path: Path) -> None:
    source = f"/stop/{time.time_ns()}"
    count = 12_000
    write(producer(bootstrap), source, range(count))
    with router(bootstrap, tmp_path) as stopped:
        deadline = time.monotonic() + 60
        while not stopped.metric("delivered_total") > 500:
            assert time.monotonic() < deadline
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.process.wait(20) == 0
    done, written = committed(bootstrap, INGRESS)
    assert done < written, "it was done before it was stopped: the test shows nothing"
    reader = Reader(bootstrap)
    with router(bootstrap, tmp_path):
        found = all_there(source, count, reader)
    reader.close()
    assert found.total() == count, "a planned stop doubled an event"
    assert in_order(reader.records, source)


def test_two_routers_share_the_work_and_hand_over_without_loss(bootstrap: str, tmp_path: Path) -> None:
    source = f"/two/{time.time_ns()}"
    first_half, second_half = range(5_000), range(5_000, 10_000)
    to, reader = producer(bootstrap), Reader(bootstrap)
    with router(bootstrap, tmp_path):
        write(to, source, first_half)
        with router(bootstrap, tmp_path) as second:
            write(to, source, second_half)
            deadline = time.monotonic() + 60
            while second.metric("delivered_total") == 0:
                assert time.monotonic() < deadline, "the second router got no partition"
                write(to, f"{source}x", range(100))
        all_there(source, 10_000, reader)
    reader.close()
    assert in_order(reader.records, source)


# Faults of the broker: an embedded one of our own, so that it can be killed.


def test_a_killed_broker_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    broker, source, count = Broker(tmp_path), "/broker", 20_000
    life = broker.run()
    process = next(life)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    to = producer(broker.bootstrap, **{"enable.idempotence": True})
    write(to, source, range(count // 2))
    with router(broker.bootstrap, tmp_path) as alive:
        deadline = time.monotonic() + 60
        while not alive.metric("delivered_total") > 1000:
            assert time.monotonic() < deadline
        process.kill()
        process.wait()
        life.close()
        deadline = time.monotonic() + 60
        while alive.ready():
            assert time.monotonic() < deadline, "/ready does not notice that the broker is gone"
        assert alive.process.poll() is None
        life = broker.run()
        next(life)
        wait_for_broker(broker.bootstrap)
        write(to, source, range(count // 2, count))
        reader = Reader(broker.bootstrap)
        all_there(source, count, reader)
        assert in_order(reader.records, source)
        reader.close()
        deadline = time.monotonic() + 60
        while not alive.ready():
            assert time.monotonic() < deadline, "/ready does not notice that the broker is back"
        life.close()
        alive.process.send_signal(signal.SIGTERM)
        assert alive.process.wait(30) == 0, "a stop must end without a broker too"


def test_a_router_that_starts_before_its_broker_waits_for_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    life = broker.run()
    timer = Timer(4, next, [life])
    timer.start()
    try:
        with router(broker.bootstrap, tmp_path) as late:  # returns when it is ready
            assert late.ready()
            source, reader = "/late", Reader(broker.bootstrap)
            write(producer(broker.bootstrap), source, range(100))
            all_there(source, 100, reader)
            reader.close()
    finally:
        timer.join()
        life.close()
