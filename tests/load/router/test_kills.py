"""Kills, broker restarts and rebalances: 0 lost, 0 doubled by id, order kept; transactional: each record once.

A kill counts as *while a batch was in flight* where the killed life had written records beyond the group's commit; the
log ``router-kills.jsonl`` has the number of them for each kill.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.router.bus import Broker as EmbeddedFiles
from tests.load.bench import KAFKA
from tests.load.router.faults import Course, Restartable, Result
from tests.load.router.report import write, write_kills
from tests.load.router.throughput import ratio
from tests.services.kafka import KafkaServer

SEED = 20_261_124
MODES = pytest.mark.parametrize("transactional", [False, True], ids=["at-least-once", "transactional"])
Server = tuple[str, str, Restartable | None]


class Embedded:
    """The embedded broker, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._files = EmbeddedFiles(folder)
        self.bootstrap = self._files.bootstrap
        self.start()

    def start(self) -> None:
        self._life = self._files.run()
        self._process = next(self._life)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._life.close()

    def stop(self) -> None:
        self._life.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """(bootstrap, name, handle): real Kafka where it is given, else an embedded broker of this test's own."""
    if bootstrap := os.environ.get(KAFKA):
        yield bootstrap, "Apache Kafka", KafkaServer.attached()
        return
    embedded = Embedded(tmp_path)
    yield embedded.bootstrap, "embedded broker", embedded
    with suppress(ValueError):
        embedded.stop()


def assert_exact(result: Result) -> None:
    verdict = result.verdict
    assert verdict.clean, verdict
    assert result.in_flight >= 0.5 * result.kills, "too few kills fell while a batch was in flight"
    if result.transactional:
        assert verdict.repeated == 0, "read_committed shows a record twice"
    else:
        assert verdict.repeated > 0, "no kill fell between an acknowledgement and its commit: the test shows nothing"


@MODES
def test_kills_restarts_and_rebalances_lose_and_double_nothing(
    server: Server, tmp_path: Path, transactional: bool
) -> None:
    bootstrap, name, handle = server
    course = Course(bootstrap, tmp_path, SEED, transactional, name=name, server=handle)
    assert_exact(course.run(kills=13, restarts=1, rebalances=0 if transactional else 1))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get(KAFKA), reason=f"{KAFKA} names no real Kafka (make soak starts one)")
@MODES
def test_a_thousand_kills_lose_and_double_nothing(server: Server, tmp_path: Path, transactional: bool) -> None:
    bootstrap, name, handle = server
    course = Course(bootstrap, tmp_path, SEED, transactional, name=name, server=handle)
    result = course.run(kills=1000, restarts=20, rebalances=10)
    write_kills(result)
    assert_exact(result)
    assert (result.kills, result.rebalances) == (1000, 20)
    assert result.restarts == 20 or handle is None


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_one_percent_of_poison_costs_no_throughput(server: Server, tmp_path: Path) -> None:
    healthy, poisoned, share = ratio(server[0], tmp_path)
    rows = {
        "Broker": server[1],
        "Without poison": f"{healthy:,.0f} records/s",
        "With 1%": f"{poisoned:,.0f} records/s",
        "Ratio, median of the rounds": f"{share:.2f}",
    }
    write("router-poison", rows)
    assert share >= 0.95
