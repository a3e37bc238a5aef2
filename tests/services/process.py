"""A server process of the harness: start, readiness, kill, stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

PATIENCE = 90.0  # seconds until a server must answer: a JVM on a busy machine with two cores needs some


class HarnessError(Exception):
    """A service cannot be had; the text says why and what to do."""


def free_port() -> int:
    """Return a TCP port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spawn(command: list[str], *, log: Path, user: str | None = None, cwd: Path | None = None) -> int:
    """Start a process in a session of its own (Ctrl-C at the terminal is not its business) and return its id."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=cwd,
            user=user,
            group=user,
        )
    Thread(target=process.wait, daemon=True).start()  # takes its end notice, so that a killed one leaves no zombie
    return process.pid


def alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(ready: Callable[[], bool], pid: int, *, what: str, log: Path) -> None:
    """Poll until ``ready``; raises :class:`HarnessError` with the log's end where the process ends or never is."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if not alive(pid) or time.monotonic() > deadline:
            end(pid, signal.SIGKILL)
            tail = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            raise HarnessError(f"{what} did not start:\n{tail}")
        time.sleep(0.1)


def end(pid: int, number: signal.Signals = signal.SIGTERM, *, patience: float = 20.0) -> None:
    """Signal a process and wait for its end; SIGKILL where it takes longer than ``patience`` seconds."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + patience
    while alive(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + patience
        time.sleep(0.05)
