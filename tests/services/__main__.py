"""``python -m tests.services [--only kafka,redis] COMMAND…``: run a command with real services around it.

Each service whose variable is not set yet is started on a free loopback port with its data in a temporary folder:
``ISTHMUS_TEST_KAFKA`` (bootstrap servers), ``ISTHMUS_TEST_POSTGRES``, ``ISTHMUS_TEST_REDIS``, ``ISTHMUS_TEST_MONGO``,
``ISTHMUS_TEST_REGISTRY`` (URLs), ``ISTHMUS_TEST_TEMPORAL`` (an address). What is missing is installed first. Everything
started here is stopped at the end, whatever the end is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from tests.services import others
from tests.services.install import (
    java,
    kafka_jars,
    mongo_server,
    postgres_binaries,
    program,
    registry_folder,
    say,
    temporal_jars,
)
from tests.services.kafka import CONTROL, KafkaServer
from tests.services.process import HarnessError
from tests.services.registry import registry

Started = tuple[dict[str, str], Callable[[], None]]


def _kafka(folder: Path) -> Started:
    server = KafkaServer.new(folder)
    server.start()
    return {"ISTHMUS_TEST_KAFKA": server.bootstrap, CONTROL: str(server.control)}, server.stop


def _url(variable: str, start: Callable[[Path], tuple[str, Callable[[], None]]]) -> Callable[[Path], Started]:
    def started(folder: Path) -> Started:
        url, stop = start(folder)
        return {variable: url}, stop

    return started


# name → (variable, what has to be installed, start)
SERVICES: dict[str, tuple[str, Callable[[], object], Callable[[Path], Started]]] = {
    "kafka": ("ISTHMUS_TEST_KAFKA", lambda: (java(), kafka_jars()), _kafka),
    "postgres": ("ISTHMUS_TEST_POSTGRES", postgres_binaries, _url("ISTHMUS_TEST_POSTGRES", others.postgres)),
    "redis": (
        "ISTHMUS_TEST_REDIS",
        lambda: program("redis-server", "redis-server"),
        _url("ISTHMUS_TEST_REDIS", others.redis),
    ),
    "registry": (
        "ISTHMUS_TEST_REGISTRY",
        lambda: (java(), registry_folder()),
        _url("ISTHMUS_TEST_REGISTRY", registry),
    ),
    "temporal": (
        "ISTHMUS_TEST_TEMPORAL",
        lambda: (java(), temporal_jars()),
        _url("ISTHMUS_TEST_TEMPORAL", others.temporal),
    ),
    "mongo": ("ISTHMUS_TEST_MONGO", mongo_server, _url("ISTHMUS_TEST_MONGO", others.mongo)),
}


class Harness:
    """What was started, to be stopped in the opposite order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stops: list[Callable[[], None]] = []
        self.env: dict[str, str] = {}

    def start(self, names: list[str]) -> None:
        """Install what is missing, one after the other, then start all together."""
        wanted = [name for name in names if not os.environ.get(SERVICES[name][0])]
        for name in names:
            if name not in wanted:
                say(f"{name}: {SERVICES[name][0]} is set, using that")
        for name in wanted:
            SERVICES[name][1]()
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            futures = {name: pool.submit(self._start, name) for name in wanted}
        problems = [problem for one in futures.values() if (problem := one.exception())]
        if problems:
            raise problems[0]
        say(f"started {', '.join(wanted) or 'nothing'} in {time.monotonic() - began:.1f} s")

    def _start(self, name: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        env, stop = SERVICES[name][2](folder)
        self._stops.append(stop)
        self.env |= env

    def stop(self) -> None:
        """Stop everything that was started."""
        for stop in self._stops:
            stop()


def main() -> int:
    """Run the command with services; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("--only", default=",".join(SERVICES), help=f"of {', '.join(SERVICES)}, with commas")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := set(names) - set(SERVICES):
        parser.error(f"unknown services: {', '.join(sorted(unknown))}")
    if not given.command:
        parser.error("a command to run is missing")

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="isthmus-services-"))
    folder.chmod(0o711)  # PostgreSQL's user has to get through to its own folder
    harness = Harness(folder)
    try:
        harness.start(names)
        process = subprocess.Popen(given.command, env={**os.environ, **harness.env})
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal sent Ctrl-C to the command too, a SIGTERM came to us alone: either way it should end now.
            process.terminate()
            process.wait()
            return 130
    except HarnessError as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        harness.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
