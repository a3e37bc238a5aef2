"""The engine in this process: connections, sessions, and the rules that hold for every statement.

A chDB connection costs 0.2 ms and 0.1 MB, and keeps ``USE`` and ``SET``; so each request gets a fresh one, and nothing
leaks into the next. A ``session_id`` pins one connection, as in the server. Everything here blocks: it is called from
worker threads, never from the event loop.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb

from services.embedded.warehouse.errors import (
    NOT_IMPLEMENTED,
    READONLY,
    SESSION_IS_LOCKED,
    SESSION_NOT_FOUND,
    UNKNOWN_SETTING,
    EngineFault,
    Fault,
)
from services.embedded.warehouse.statements import first_word

_SETTING = re.compile(r"[A-Za-z_]\w*")
# chDB fails to start these, and can then not open its directory again.
_BRICKS = re.compile(rb"\bENGINE\s*=?\s*[`\"]?(Kafka|RabbitMQ|NATS|FileLog)\b", re.I)


def literal(value: str) -> str:
    """Return ``value`` as an SQL string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass
class Session:
    """A pinned connection."""

    connection: Any
    settings: dict[str, str] = field(default_factory=dict)
    busy: bool = False
    idle_since: float = 0.0
    time_to_live: float = 60.0


class Engine:
    """Owns the data directory for the life of the process."""

    def __init__(self, path: Path, config: Path) -> None:
        self._address = f"{path}?config-file={config}"
        # Held open: the engine stops with its last connection.
        self._keeper = chdb.connect(self._address)
        row = self._keeper.query("SELECT version(), timezone()", "TabSeparated").bytes().decode().strip()
        self.version, self.timezone = row.split("\t")
        self._sessions: dict[tuple[str, str], Session] = {}
        self._lock = threading.Lock()
        self._classify_lock = threading.Lock()

    @contextmanager
    def _fresh(self) -> Iterator[Any]:
        connection = chdb.connect(self._address)
        try:
            yield connection
        finally:
            connection.close()

    def acquire(
        self, user: str, session_id: str | None, *, timeout: float, must_exist: bool
    ) -> tuple[Any, Session | None]:
        """Return a connection, and its session where the request names one; give both to :meth:`release`."""
        if not session_id:
            return chdb.connect(self._address), None
        with self._lock:
            session = self._sessions.get((user, session_id))
            if session is None:
                if must_exist:
                    raise Fault(SESSION_NOT_FOUND, f"Session {session_id} not found")
                session = self._sessions[user, session_id] = Session(chdb.connect(self._address))
            if session.busy:
                raise Fault(SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client")
            session.busy, session.time_to_live = True, timeout
            return session.connection, session

    def release(self, connection: Any, session: Session | None) -> None:
        """Give back what :meth:`acquire` returned."""
        if session is None:
            connection.close()
        else:
            session.idle_since, session.busy = time.monotonic(), False

    def prepare(self, connection: Any, session: Session | None, database: str, settings: Mapping[str, str]) -> None:
        """Select the database and apply the request's settings."""
        if database:
            execute(connection, "USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")
        wanted = dict(settings)
        for name in wanted:
            if not _SETTING.fullmatch(name):
                raise Fault(UNKNOWN_SETTING, f"Unknown setting {name!r}")
        if session is not None and session.settings == wanted:
            return
        readonly = wanted.pop("readonly", None)
        if wanted:
            execute(connection, "SET " + ", ".join(f"{name} = {literal(value)}" for name, value in wanted.items()))
        if readonly and not (session and session.settings.get("readonly")):
            execute(connection, f"SET readonly = {literal(readonly)}")
        if session is not None:
            session.settings = dict(settings)

    def classify(self, sql: str) -> tuple[bool, int]:
        """Return whether all that a text does is read, and how many statements it holds (0: it does not parse)."""
        with self._classify_lock:
            found = self._keeper._conn.classify_query(sql)  # noqa: SLF001 - chDB offers it on its inner handle only
        return found["query_class"].name == "READ_ONLY", int(found["statement_count"])

    def check(self, sql: bytes, *, read_only: bool) -> bool:
        """Refuse what may not run here; return whether the statement only reads."""
        if first_word(sql) in (b"CREATE", b"ATTACH", b"REPLACE") and (found := _BRICKS.search(sql)):
            raise Fault(NOT_IMPLEMENTED, f"Engine {found.group(1).decode()} is not available in the embedded warehouse")
        reads, count = self.classify(sql.decode("utf-8", "surrogateescape"))
        if read_only and count and (not reads or count > 1):
            raise Fault(READONLY, "Cannot execute query in readonly mode")
        return reads and count <= 1

    def kill(self, mark: str) -> None:
        """Cancel the queries that carry ``mark`` as their log comment."""
        with self._fresh() as connection:
            execute(connection, f"KILL QUERY WHERE Settings['log_comment'] = {literal(mark)} ASYNC")

    def expire_sessions(self) -> None:
        """Close sessions that were idle for longer than they asked for."""
        now = time.monotonic()
        with self._lock:
            old = [k for k, s in self._sessions.items() if not s.busy and now - s.idle_since > s.time_to_live]
            for key in old:
                self._sessions.pop(key).connection.close()

    def close(self) -> None:
        """Close every connection; the engine stops and gives its directory free."""
        with self._lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
        self._keeper.close()


def execute(
    connection: Any, sql: str | bytes, output: str = "TabSeparated", params: Mapping[str, str] | None = None
) -> Any:
    """Run one statement and return chDB's result; raise :class:`EngineFault`."""
    try:
        return connection.query(sql, output, params=dict(params or {}))
    except Exception as error:  # chDB raises RuntimeError and its subclasses, pybind11 others
        raise EngineFault(error) from error
