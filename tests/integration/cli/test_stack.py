"""Starting and stopping services: readiness, taken ports, early ends, and that nothing else is touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.stack import Service, Stack, StartFailed, answers, core_services, listens, module, stop
from resources.settings import Settings
from tests.conftest import ROOT, free_port


def server(port: int, *, name: str = "pages") -> Service:
    command = module("http.server", "--bind", "127.0.0.1", str(port))
    return Service(name, command, port, "ISTHMUS_DOCS_PORT", f"http://127.0.0.1:{port}", answers("/"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", warehouse_port=free_port(), broker_port=free_port())


def test_what_starts_serves_and_ends_with_the_block(settings: Settings) -> None:
    port = free_port()
    with Stack(settings) as stack:
        stack.start(server(port))
        process = psutil.Process(stack.running["pages"].pid)
        assert listens(port)
        assert stack.ended() is None
    assert not listens(port)
    assert not process.is_running()


def test_the_embedded_services_start_and_stop(settings: Settings) -> None:
    with Stack(settings) as stack:
        for service in core_services(settings)[:2]:
            stack.start(service)
        pids = [process.pid for process in stack.running.values()]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_taken_port_is_named_with_its_setting(settings: Settings) -> None:
    with socket.socket() as other, Stack(settings) as stack:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StartFailed, match="ISTHMUS_DOCS_PORT"):
            stack.start(server(other.getsockname()[1]))


def test_a_service_that_ends_at_once_shows_its_log(settings: Settings) -> None:
    command = (sys.executable, "-c", "raise SystemExit('the disk is on fire')")
    service = Service("broken", command, free_port(), "X", "", listens)
    with Stack(settings) as stack, pytest.raises(StartFailed, match="the disk is on fire"):
        stack.start(service)


def test_a_service_that_never_serves_is_given_up(settings: Settings) -> None:
    service = Service("deaf", (sys.executable, "-c", "import time; time.sleep(60)"), free_port(), "X", "", listens, 0.5)
    with Stack(settings) as stack:
        with pytest.raises(StartFailed, match="did not serve within"):
            stack.start(service)
        pid = stack.running["deaf"].pid
    assert not psutil.pid_exists(pid)


def test_stop_ends_grandchildren_too() -> None:
    script = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 20
    while not (family := psutil.Process(parent.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop(parent)
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_up_leaves_nothing_behind(tmp_path: Path, signum: signal.Signals) -> None:
    names = ("WAREHOUSE", "BROKER", "ROUTER", "ORCHESTRATOR", "DAGSTER", "MLFLOW", "DOCS")
    ports = {f"ISTHMUS_{name}_PORT": str(free_port()) for name in names}
    log = tmp_path / "output"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"],
            cwd=ROOT,
            env={**os.environ, **ports, "ISTHMUS_HOME": str(tmp_path / "home")},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 120
    while not (tmp_path / "home/logs/router.pid").exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signum)
    assert process.wait(60) == 0, log.read_text()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert not list((tmp_path / "home/logs").glob("*.pid"))
