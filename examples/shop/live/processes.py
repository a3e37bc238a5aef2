"""The participants' processes: started, started again when they die, ended.

What belongs here: processes and their addresses. What does not: what they do.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from urllib.error import URLError
from urllib.request import urlopen

log = logging.getLogger("isthmus.shop")

PATIENCE = 60.0
_LOOK = 0.1


class Participants:
    """A process for each of ``names``, on a free loopback port that it keeps; one that dies is started again."""

    def __init__(self, names: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.urls = {name: f"http://127.0.0.1:{_free_port()}" for name in names}
        self.restarts = 0
        self._env = {**os.environ, **env}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ending = threading.Event()
        self._watch = threading.Thread(target=self._watched, name="participants", daemon=True)

    def __enter__(self) -> Participants:
        for name in self.urls:
            self._start(name)
        try:
            for name, url in self.urls.items():
                self._wait_for(name, url)
        except BaseException:
            self._end()
            raise
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._watch.join(5)
        self._end()

    def _start(self, name: str) -> None:
        command = [sys.executable, "-m", "examples.shop.live.participant", name, self.urls[name].rpartition(":")[2]]
        # Our end of its standard input closes with us, whatever ends us.
        self._running[name] = subprocess.Popen(command, env=self._env, stdin=subprocess.PIPE)

    def _wait_for(self, name: str, url: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not _healthy(url):
            if self._running[name].poll() is not None:
                raise RuntimeError(f"the participant {name} ended with {self._running[name].returncode} at its start")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the participant {name} does not answer at {url} after {PATIENCE:.0f} s")
            time.sleep(_LOOK)

    def _watched(self) -> None:
        while not self._ending.wait(_LOOK):
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    log.warning("the participant %s ended with %s and is started again", name, process.returncode)
                    self.restarts += 1
                    self._start(name)

    def _end(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 (our own address)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
