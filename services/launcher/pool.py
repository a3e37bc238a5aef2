"""The pool: a process that has the code location imported and forks a worker for each run.

What belongs here: preloading, forking, ending with whoever needed it. What does not: Dagster's side (``launcher``).

It stays single-threaded and opens no connection, since a fork copies neither threads nor sockets well. When a source
file that it has imported changes it replaces itself (``exec`` keeps the socket and the running workers), so that a run
never executes old code. Run it by ``python -m services.launcher --home DAGSTER_HOME``; the launcher does so by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from services.launcher.messages import PoolBusy, PoolUnavailable, ask, read_message, socket_path, write_message

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
_LISTENER = "ISTHMUS_POOL_LISTENER"

#: Imported when a run needs them, so not by ``import definitions``; light enough to keep in every fork.
_PRELOAD = ("definitions", "pyarrow", "confluent_kafka", "clickhouse_connect", "clickhouse_connect.driver.httpclient")

#: Names, one a line, what Dagster imports only while a run executes.
_WARM_UP = """
import dagster as dg, sys, tempfile
known = set(sys.modules)
@dg.asset
def warm_up(): return None
with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
    dg.materialize([warm_up], instance=instance)
print("\\n".join(sorted(set(sys.modules) - known)))
"""


def preload() -> None:
    """Import what a run will need; what only fails to import here is left to the run that needs it."""
    script = subprocess.run(
        [sys.executable, "-c", _WARM_UP], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    # The command that a worker runs lives in this module; loading it here is most of what a fork saves.
    for name in (*_PRELOAD, "dagster._cli", *script.stdout.split()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def newest_source() -> float:
    """Return the newest change time (seconds) among the imported modules of this checkout."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    times = [0.0]
    for file in files:
        if file and file.startswith(str(ROOT)) and "site-packages" not in file:
            with contextlib.suppress(OSError):
                times.append(os.stat(file).st_mtime)
    return max(times)


class Pool:
    """Serves launch requests at a Unix socket until nobody needs it."""

    def __init__(self, listener: socket.socket, path: Path, owner: int | None):
        self.listener, self.path, self.owner = listener, path, owner
        self.workers: dict[int, str] = {}
        self.stopping = False
        self.loaded_at = newest_source()

    def serve(self) -> None:
        """Answer requests; return after SIGTERM, or when the owner is gone and the last worker has ended."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self.listener.settimeout(0.5)
        while not self.stopping:
            self._reap()
            if self.owner and not psutil.pid_exists(self.owner) and not self.workers:
                break
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(10)
                try:
                    self._answer(connection, read_message(connection))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    logger.warning("a request failed: %s", error)
        for pid in list(self.workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while self.workers and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        self.path.unlink(missing_ok=True)

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _reap(self) -> None:
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            run = self.workers.pop(pid, "")
            if status:
                logger.info("worker %d of run %s ended with status %d", pid, run, os.waitstatus_to_exitcode(status))

    def _answer(self, connection: socket.socket, request: dict[str, Any]) -> None:
        if request["do"] == "ping":
            write_message(connection, {"pid": os.getpid(), "workers": list(self.workers.values())})
            return
        if newest_source() > self.loaded_at:
            write_message(connection, {"stale": True})
            connection.close()
            self._replace()
        pid = os.fork()
        if pid == 0:
            self._work(connection, request["arguments"])
        self.workers[pid] = request["run_id"]
        write_message(connection, {"pid": pid, "started": psutil.Process(pid).create_time()})

    def _replace(self) -> None:
        logger.info("sources changed: starting anew")
        os.set_inheritable(self.listener.fileno(), True)
        os.environ[_LISTENER] = str(self.listener.fileno())
        os.execv(sys.executable, [sys.executable, "-m", "services.launcher", *sys.argv[1:]])  # noqa: S606 - no shell is meant

    def _work(self, connection: socket.socket, arguments: list[str]) -> None:
        """Execute one run in this fork; never returns."""
        code = 1
        try:
            connection.close()
            self.listener.close()
            os.setsid()
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.default_int_handler)
            # argv[0] names the interpreter or script; the command reads what follows it.
            sys.argv = ["dagster", *arguments]
            (command,) = entry_points(group="console_scripts", name="dagster")
            command.load()()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            code = 130
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            # The parent's exit handlers (its socket among them) are not this process's to run.
            os._exit(code)


def listen(path: Path) -> socket.socket | None:
    """Return the listening socket at ``path``, or None where another pool answers there."""
    if inherited := os.environ.pop(_LISTENER, None):
        return socket.socket(fileno=int(inherited))
    try:
        ask(path, {"do": "ping"}, timeout=2)
    except PoolBusy:
        return None
    except PoolUnavailable:
        path.unlink(missing_ok=True)
    else:
        return None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def run(home: str, owner: int | None) -> int:
    """Serve the instance in ``home`` until told to stop, or until the process ``owner`` has ended."""
    # gRPC's own fork handlers would start threads in each fork.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    os.environ["DAGSTER_HOME"] = home
    os.chdir(ROOT)
    path = socket_path(home)
    preload()
    listener = listen(path)
    if listener is None:
        logger.info("another pool serves %s", home)
        return 0
    print("ready", path, flush=True)  # noqa: T201 - the line that a supervisor waits for
    Pool(listener, path, owner).serve()
    return 0
