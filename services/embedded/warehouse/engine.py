"""The engine in this process: it owns the data directory for as long as the process lives.

Everything here blocks: it is called from worker threads, never from the event loop.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from services.embedded.warehouse.config import write_configuration
from services.embedded.warehouse.connection import Connection, literal
from services.embedded.warehouse.errors import EngineFault
from services.embedded.warehouse.guard import Guard
from services.embedded.warehouse.sessions import MARK, Sessions
from services.embedded.warehouse.space import Space


class DirectoryInUseError(RuntimeError):
    """Another process owns the data directory."""


class Engine:
    """The engine over ``path``; raises :class:`DirectoryInUseError` where another process has it.

    ``path`` holds ``store/`` (chDB's own), ``config/``, ``spool/`` (uploads) and ``lock``.
    """

    def __init__(self, path: Path, *, memory_ratio: float = 0.5, keep_free: int = 256 << 20) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = _lock(path / "lock")
        self.spool = path / "spool"
        self.spool.mkdir(exist_ok=True)
        for leftover in self.spool.iterdir():
            leftover.unlink()
        config = write_configuration(path / "config", memory_ratio=memory_ratio, keep_free=keep_free)
        _forget_empty_default(path / "store" / "metadata")
        self._address = f"{path / 'store'}?config-file={config}"
        # Held open: the engine stops with its last connection.
        self._keeper = self.connect()
        _make_default_ordinary(self._keeper)
        # chDB reads the disks' settings (the space to leave free) when it is first asked for them, and not before.
        self._keeper.rows("SELECT keep_free_space FROM system.disks")
        self.version, self.timezone = self._keeper.rows("SELECT version(), timezone()")[0]
        self.sessions = Sessions(self.connect)
        self._guard = Guard(self.connect())
        self._guard_lock = threading.Lock()
        self.space = Space(path, keep_free, self._control)

    def connect(self) -> Connection:
        """Return a connection of its own."""
        return Connection(self._address)

    def check(self, sql: bytes, *, read_only: bool) -> bool:
        """Return whether a statement only reads; refuse what may not run (see ``guard.py``)."""
        with self._guard_lock:
            return self._guard.check(sql, read_only=read_only)

    def check_words(self, sql: bytes, *, strict: bool) -> None:
        """Refuse forbidden functions and engines in a statement whose kind is known."""
        with self._guard_lock:
            self._guard.check_words(sql, strict=strict)

    def check_definition(self, sql: bytes) -> None:
        """Check a statement that the server has put together from parts that a client wrote."""
        with self._guard_lock:
            self._guard.check(sql, read_only=False)
            self._guard.check_words(sql, strict=True)

    def kill(self, mark: str) -> None:
        """Cancel the queries of one request."""
        self._control(f"KILL QUERY WHERE Settings['{MARK}'] = {literal(mark)} ASYNC")

    def stop(self, patience: float = 8.0) -> None:
        """Cancel every query and wait until none runs, or for ``patience`` seconds."""
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            self._control(f"KILL QUERY WHERE Settings['{MARK}'] != '' ASYNC")
            connection = self.connect()
            try:
                running = f"SELECT count() FROM system.processes WHERE Settings['{MARK}'] != ''"  # noqa: S608 - a constant
                if connection.rows(running) == [["0"]]:
                    return
            finally:
                connection.close()
            time.sleep(0.1)

    def _control(self, sql: str) -> None:
        connection = self.connect()
        try:
            connection.execute(sql)
        finally:
            connection.close()

    def close(self) -> None:
        """Close every connection; the engine stops and gives its directory free."""
        self.space.stop()
        self.sessions.close()
        with self._guard_lock:
            self._guard.close()
        self._keeper.close()
        os.close(self._lock_file)


def _forget_empty_default(metadata: Path) -> None:
    """Remove the file of a ``default`` database that has never had a table (its folder comes with the first one).

    The engine's start takes no note of such a database, so it could be neither attached afterwards nor made again.
    """
    if not (metadata / "default").exists():
        for name in ("default.sql", "default.sql.tmp"):
            (metadata / name).unlink(missing_ok=True)


def _make_default_ordinary(connection: Connection) -> None:
    """Make ``default`` a database as in the server, at each start; its tables stay.

    chDB lays one over it that takes an unknown table's name for a file's: a missing table would be "access denied".
    """
    if connection.rows("SELECT engine FROM system.databases WHERE name = 'default'") != [["Overlay"]]:
        return
    connection.execute("DETACH DATABASE default")
    try:
        connection.execute("ATTACH DATABASE default")
    except EngineFault:
        # The first start: there is none yet under the overlay.
        connection.execute("CREATE DATABASE default ENGINE = Atomic")


def _lock(path: Path) -> int:
    """Take the lock file and return its descriptor; the kernel gives it free with the process, however that ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise DirectoryInUseError(
            f"{path.parent} is in use by process {owner}: one process owns a warehouse; connect to it over HTTP"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle
