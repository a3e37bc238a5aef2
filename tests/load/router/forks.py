"""Router processes that start in tens of milliseconds: forked from a parent that has imported everything.

What belongs here: starting, killing and stopping them. What does not: when that happens (``faults``).

The parent is the standard library's fork server with this package's ``warm`` preloaded. It has made no client:
librdkafka's threads would not come along.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.load.router.warm"])


def _end_with_the_harness() -> None:
    """End this process when the one that asked for it is gone: a harness that is killed stops nothing itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _run(env: dict[str, str], log: str) -> None:
    """Be ``python -m services.router`` with this environment; what it says goes to ``log``."""
    Thread(target=_end_with_the_harness, daemon=True).start()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from resources.settings import get_settings
    from services.router.__main__ import main

    get_settings.cache_clear()

    sys.exit(main())


class Router:
    """One router, started as often as it is killed; ``instance`` makes it a static member of the group."""

    def __init__(self, bootstrap: str, folder: Path, instance: str = "", *, transactional: bool = False) -> None:
        self.log = folder / f"router-{instance or 'guest'}.log"
        self._env = {
            "ISTHMUS_KAFKA_BOOTSTRAP": bootstrap,
            "ISTHMUS_ROUTER_PORT": "0",
            "ISTHMUS_HOME": str(folder),
            "ISTHMUS_PII_KEY": "key of the tests",
            "ISTHMUS_ROUTER_INSTANCE": instance,
            "ISTHMUS_ROUTER_TRANSACTIONAL": "true" if transactional else "false",
        }
        self._process: BaseProcess | None = None
        self._begin = 0

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        return (self._process.pid or 0) if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start it; returns at once."""
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        self._process = _FORKS.Process(target=_run, args=(self._env, str(self.log)), daemon=True)
        self._process.start()

    def said(self) -> str:
        """Return what it logged since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open() as log:
            log.seek(self._begin)
            return log.read()

    def kill(self) -> None:
        """End it by signal 9."""
        assert self._process is not None
        self._process.kill()
        self._process.join()

    def stop(self, seconds: float = 30.0) -> int:
        """End it by SIGTERM and return its exit code; by force, and with an error, where it does not end in time."""
        assert self._process is not None
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
            self._process.join(seconds)
        if self.alive:
            self.kill()
            raise TimeoutError(f"the router did not end in {seconds:.0f} s:\n{self.said()[-2000:]}")
        return self._process.exitcode or 0
