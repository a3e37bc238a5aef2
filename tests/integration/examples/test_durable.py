"""A durable saga: killed in the middle of a step, it goes on; nothing that had ended is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.examples.ingestion import Ingestion, ingestion


@pytest.fixture
def events() -> Iterator[Ingestion]:
    with ingestion() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.embedded),
        pytest.param("postgres", marks=[pytest.mark.services, pytest.mark.soak]),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> str:
    """Where DBOS keeps its workflows: a file, or a database of its own at a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/workflows.db"
    server = os.environ["ISTHMUS_TEST_POSTGRES"]
    return f"{server.rpartition('/')[0]}/{unique('dbos').replace('-', '_')}"


@pytest.fixture
def life(store: str, events: Ingestion, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the orchestrator; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.integration.examples.durable_orders"]
        command += [store, events.url, str(tmp_path / "calls"), *more]
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


def ids(told: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in told]


def test_killed_in_the_middle_of_a_step_and_before_its_end_was_delivered(
    life: Callable[..., subprocess.Popen[str]], events: Ingestion, tmp_path: Path
) -> None:
    first = life("hang")
    started = "order-1/charge@payment/1/started"
    until(lambda: len(calls(tmp_path)) == 2 and started in ids(events.lives[0]))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    events.closed = True
    second = life()
    until(lambda: len(calls(tmp_path)) == 4)
    time.sleep(0.3)
    assert second.poll() is None, "its steps are done, but nobody has its events: it has not ended"
    os.kill(second.pid, signal.SIGKILL)
    second.wait()

    events.closed = False
    events.lives.append([])
    said, _ = life().communicate(timeout=120)
    assert said.splitlines() == ["ready", "ended reserve is done, charge is done"], (tmp_path / "log").read_text()
    assert calls(tmp_path) == [
        "reserve 1 order-1/reserve@inventory",
        "charge 1 order-1/charge@payment",
        "charge 1 order-1/charge@payment",  # the one that was under way, with the same key
        "confirm 1 order-1/confirm@notification",
    ]
    before, after = events.lives
    assert ids(after)[: len(before)] == ids(before), "the same events, by their ids"
    done = next(at for at, event in enumerate(before) if event["id"].endswith("reserve@inventory/1/completed"))
    assert after[: done + 1] == before[: done + 1], "of what had ended, to the byte"
    assert len(set(ids(after))) == len(after) == 11
    assert after[-1]["data"] == {"saga_type": "order", "outcome": "unconfirmed"}
