"""Fixtures that start the embedded services once per test session, or use real ones from the environment.

``ISTHMUS_TEST_KAFKA`` (bootstrap servers) and ``ISTHMUS_WAREHOUSE_URL`` (ClickHouse over HTTP) point the same tests at
real servers; `make test-services` sets the first.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """Return a TCP port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    module: str, *arguments: str, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m module`` until the block ends; it has printed its ``ready`` line when we get it."""
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    Thread(target=read, daemon=True).start()
    try:
        while not lines.get(timeout=60).startswith("ready"):
            pass
        yield process
    except Empty:
        raise RuntimeError(f"{module} did not become ready in 60 s:\n{log.read_text()[-4000:]}") from None
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def warehouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL, with user and password, of a warehouse for this session's tests."""
    if url := os.environ.get("ISTHMUS_WAREHOUSE_URL"):
        yield url
        return
    folder, port, password = tmp_path_factory.mktemp("warehouse"), free_port(), secrets.token_urlsafe(12)
    env = {"ISTHMUS_WAREHOUSE_PASSWORD": password}
    arguments = ("--path", str(folder / "data"), "--port", str(port))
    with running("services.embedded.warehouse", *arguments, log=folder / "log", env=env):
        yield f"http://isthmus:{password}@127.0.0.1:{port}"


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker for this session's tests: the embedded one, or that of ISTHMUS_TEST_KAFKA."""
    if servers := os.environ.get("ISTHMUS_TEST_KAFKA"):
        yield servers
        return
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    with running("services.embedded.broker", "--path", str(folder / "data"), "--port", str(port), log=folder / "log"):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a function that makes a name unused so far: tests share servers, never topics or tables."""
    return lambda stem: f"{stem}-{secrets.token_hex(4)}"
