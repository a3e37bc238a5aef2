"""The warm launcher in a real instance: runs fork from the pool, are watched, ended, and survive the pool's faults."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.launcher import LaunchRunContext, WorkerStatus

from services.launcher.launcher import WORKER_TAG
from services.launcher.messages import PoolUnavailable, ask, socket_path
from tests.conftest import ROOT
from tests.integration.launcher.location import noting


class Bench:
    """An instance with the embedded dagster.yaml, and a folder that runs write their names into."""

    def __init__(self, folder: Path):
        self.home, self.out = folder / "home", folder / "out"
        self.home.mkdir()
        self.out.mkdir()
        shutil.copy(ROOT / "deploy/embedded/dagster.yaml", self.home)
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        self.socket = socket_path(str(self.home))

    def launch(self, seconds: float = 0.0) -> str:
        config = {"ops": {"note": {"config": {"folder": str(self.out), "seconds": seconds}}}}
        origin = dg.reconstructable(noting).get_python_origin()
        run = self.instance.create_run_for_job(noting, run_config=config, job_code_origin=origin)
        self.instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def worker(self, run_id: str) -> int:
        return int(self.run(run_id).tags[WORKER_TAG].partition(":")[0])

    def health(self, run_id: str) -> WorkerStatus:
        return self.instance.run_launcher.check_run_worker_health(self.run(run_id)).status


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("launcher"))
    try:
        yield bench
    finally:
        with contextlib.suppress(PoolUnavailable):
            os.kill(ask(bench.socket, {"do": "ping"})["pid"], signal.SIGTERM)
        bench.instance.dispose()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_run_executes_in_a_fork_of_the_pool(bench: Bench) -> None:
    run_id = bench.launch()
    until(lambda: bench.run(run_id).is_finished)
    assert bench.run(run_id).status == dg.DagsterRunStatus.SUCCESS
    parent, process, _ = (bench.out / run_id).read_text().split()
    assert int(parent) == ask(bench.socket, {"do": "ping"})["pid"]
    assert int(process) == bench.worker(run_id)
    until(lambda: bench.health(run_id) == WorkerStatus.NOT_FOUND)


def test_terminate_cancels_the_run(bench: Bench) -> None:
    run_id = bench.launch(seconds=60)
    until((bench.out / run_id).exists)
    assert bench.health(run_id) == WorkerStatus.RUNNING
    assert bench.instance.run_launcher.terminate(run_id)
    until(lambda: bench.run(run_id).is_finished)
    assert bench.run(run_id).status == dg.DagsterRunStatus.CANCELED


def test_a_killed_worker_is_noticed(bench: Bench) -> None:
    run_id = bench.launch(seconds=60)
    until((bench.out / run_id).exists)
    os.kill(bench.worker(run_id), signal.SIGKILL)
    until(lambda: bench.health(run_id) == WorkerStatus.NOT_FOUND)


def test_a_killed_pool_is_replaced_and_its_workers_go_on(bench: Bench) -> None:
    first = bench.launch(seconds=5)
    until((bench.out / first).exists)
    pool = ask(bench.socket, {"do": "ping"})["pid"]
    os.kill(pool, signal.SIGKILL)
    second = bench.launch()
    until(lambda: bench.run(first).is_finished and bench.run(second).is_finished)
    assert {bench.run(first).status, bench.run(second).status} == {dg.DagsterRunStatus.SUCCESS}
    assert ask(bench.socket, {"do": "ping"})["pid"] != pool


def test_a_changed_source_starts_the_pool_anew(bench: Bench) -> None:
    bench.launch()
    before = psutil.Process(ask(bench.socket, {"do": "ping"})["pid"])
    source = ROOT / "definitions.py"
    times = source.stat()
    try:
        os.utime(source, (times.st_atime, time.time()))
        run_id = bench.launch()
    finally:
        os.utime(source, (times.st_atime, times.st_mtime))
    until(lambda: bench.run(run_id).is_finished)
    assert bench.run(run_id).status == dg.DagsterRunStatus.SUCCESS
    # The same process, with its socket and its workers, in a fresh interpreter.
    assert ask(bench.socket, {"do": "ping"})["pid"] == before.pid


def test_a_malformed_request_does_not_end_the_pool(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(bench.socket))
        connection.sendall(b"not json\n")
    until(lambda: ask(bench.socket, {"do": "ping"})["pid"])
    assert bench.socket.stat().st_mode & 0o077 == 0


def test_the_socket_folder_must_be_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setattr("services.launcher.messages._FOLDER", folder)
    with pytest.raises(PermissionError, match="chmod 700"):
        socket_path("/anywhere")
