"""The broker as one object: its data folder, its state, its housekeeping.

What belongs here: what every handler needs, the lock on the folder, periodic work. What does not: connections
(``server``), single requests (``handlers``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.embedded.broker.errors import BrokerError, StartError
from services.embedded.broker.groups import Groups
from services.embedded.broker.log import Clock, Log
from services.embedded.broker.offsets import Offsets
from services.embedded.broker.room import Room
from services.embedded.broker.topics import Topics
from services.embedded.broker.transactions import Transactions

logger = logging.getLogger(__name__)
NODE_ID = 1
Fsync = Literal["always", "interval", "never"]


def wall_clock() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Options:
    """How the broker runs; times in seconds.

    ``fsync``: ``always`` puts a batch on the disk before it is acknowledged; ``interval`` does so every
    ``fsync_seconds`` (a kill loses nothing, a power cut at most that much); ``never`` leaves it to the system.
    ``keep_free_mb``: room on the disk that produced records leave to the broker's own state and to other programs.
    """

    host: str = "127.0.0.1"
    port: int = 9092
    auto_create: bool = True
    partitions: int = 1
    fsync: Fsync = "interval"
    fsync_seconds: float = 1.0
    retention_seconds: float = 2.0
    keep_free_mb: int = 64


class Broker:
    """State of one data folder; only one process may hold it."""

    def __init__(self, folder: Path, options: Options, clock: Clock = wall_clock) -> None:
        self.options = options
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _hold(folder)
        self.topics = Topics(folder, clock, Room(folder, options.keep_free_mb << 20))
        self.offsets = Offsets(folder)
        self.groups = Groups()
        self.transactions = Transactions(folder, self.topics, self.offsets)
        self._journals = (self.offsets.journal, self.transactions.journal)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the housekeeping on the running loop."""
        self.transactions.start_timers()
        self._tasks.append(asyncio.create_task(self._every(self.options.retention_seconds, self._keep_house)))
        if self.options.fsync == "interval":
            self._tasks.append(asyncio.create_task(self._every(self.options.fsync_seconds, self._sync_all)))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except (OSError, BrokerError) as problem:
                logger.error("housekeeping: %s", problem)

    async def _keep_house(self) -> None:
        for log in list(self.topics.logs()):
            log.apply_retention()
            await asyncio.sleep(0)
        self.transactions.retry_interrupted()
        for journal in self._journals:
            journal.tidy()

    async def _sync_all(self) -> None:
        for log in list(self.topics.logs()):
            await log.sync()
        for journal in self._journals:
            await journal.sync()

    async def secure(self, logs: list[Log]) -> None:
        """Put what was just appended on the disk, where the policy wants that before the answer."""
        if self.options.fsync == "always":
            for log in logs:
                await log.sync()

    async def secure_state(self) -> None:
        """Put offsets and transactions on the disk, where the policy wants that before the answer."""
        if self.options.fsync == "always":
            for journal in self._journals:
                await journal.sync()

    async def close(self) -> None:
        """Stop, everything on the disk, the folder free for another process."""
        for task in self._tasks:
            task.cancel()
        self.groups.close()
        with contextlib.suppress(OSError):
            await self._sync_all()
        self.topics.close()
        for journal in self._journals:
            journal.close()
        os.close(self._lock)


def _hold(folder: Path) -> int:
    """Lock the folder; the lock ends with the process, however that ends. Raises :class:`StartError`."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StartError(
            f"another broker (process {holder}) works on {folder}; stop it or name another folder"
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd
