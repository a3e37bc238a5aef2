"""A PostgreSQL and a MongoDB server of this module's own, which its tests kill."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.services import others
from tests.services.process import answers, end, spawn, wait_for


@dataclass
class Killable:
    """A server that can be killed and started again on the same data."""

    url: str
    folder: Path

    @property
    def port(self) -> int:
        """Its port, which stays."""
        return urlsplit(self.url).port or 0

    def process(self) -> psutil.Process:
        """Return the process that listens."""
        found = next(
            each for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == self.port
        )
        return psutil.Process(found.pid)

    def kill(self) -> list[str]:
        """Kill the server with everything that it started; return its command."""
        process = self.process()
        command, children = process.cmdline(), process.children(recursive=True)
        for each in (process, *children):
            each.send_signal(signal.SIGKILL)
        psutil.wait_procs([process, *children], timeout=20)
        return command

    def start(self, command: list[str], user: str | None) -> None:
        """Start it again."""
        log = self.folder / "log"
        pid = spawn(command, log=log, user=user, cwd=self.folder)
        wait_for(lambda: answers(self.port), pid, what=command[0], log=log)

    def again(self, *options: str) -> None:
        """Kill and start, with further options."""
        user = self.process().username()
        self.start([*self.kill(), *options], user if os.geteuid() == 0 else None)

    def stop(self) -> None:
        """Stop for good."""
        end(self.process().pid, signal.SIGINT)


def _own(variable: str, start: Callable[[Path], tuple[str, Callable[[], None]]]) -> Iterator[Killable]:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: run `python -m tests.services --only postgres,mongo pytest …`")
    with tempfile.TemporaryDirectory(prefix="isthmus-killed-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's user has to get through to its own folder
        place = Path(folder) / "server"
        place.mkdir()
        server = Killable(start(place)[0], place)
        yield server
        server.stop()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Killable]:
    yield from _own("ISTHMUS_TEST_POSTGRES", others.postgres)


@pytest.fixture(scope="module")
def own_mongo() -> Iterator[Killable]:
    yield from _own("ISTHMUS_TEST_MONGO", others.mongo)


@pytest.fixture
def postgres() -> str:
    """The address of the harness' PostgreSQL."""
    if url := os.environ.get("ISTHMUS_TEST_POSTGRES"):
        return url
    pytest.skip("ISTHMUS_TEST_POSTGRES is not set: run `python -m tests.services --only postgres pytest …`")
