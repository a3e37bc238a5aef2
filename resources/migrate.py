"""Numbered SQL migrations of the warehouse, each applied once, under a lock; ``python -m resources.migrate``.

What belongs here: finding, ordering, splitting and applying ``migrations/NNNN_name.sql``. What does not: the tables
themselves (the SQL files) and dbt's, which dbt makes.

The lock is a table: ``CREATE TABLE`` without ``IF NOT EXISTS`` is the one operation that ClickHouse decides atomically.
Its number only grows, the highest is the lock, and its comment names holder and lease; a holder that dies stops
renewing the lease, and the next one creates the next number.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from resources.errors import WarehouseError
from resources.warehouse import Warehouse, WarehouseResource

FOLDER = Path(__file__).with_name("migrations")
LEASE_SECONDS = 30.0

_FILE = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK_PREFIX = "migration_lock_"
_TOKEN = re.compile(
    r"""--[^\n]*|\#[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|;|[^-#/'"`;]+|.""",
    re.DOTALL,
)
_LEDGER = """
CREATE TABLE IF NOT EXISTS ops.migrations
(
    `number` UInt32 COMMENT 'Number of the file',
    `name` String COMMENT 'File name',
    `checksum` String COMMENT 'SHA-256 of the file when it was first applied',
    `statements` UInt32 COMMENT 'Statements in the file',
    `done` UInt32 COMMENT 'Statements applied so far',
    `applied_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the last of them was'
)
ENGINE = ReplacingMergeTree(done)
ORDER BY number
COMMENT 'Migrations that this warehouse has taken'
"""


class MigrationError(WarehouseError):
    """The files and what this warehouse has taken do not fit together; nothing more was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The file's statements in order."""
        return split(self.sql)


def split(sql: str) -> list[str]:
    """Return the statements of ``sql``; a semicolon in a string, a quoted name or a comment ends none."""
    statements: list[str] = []
    current: list[str] = []
    meaningful = False
    for match in _TOKEN.finditer(sql):
        part = match.group()
        if part == ";":
            if meaningful:
                statements.append("".join(current).strip())
            current, meaningful = [], False
        else:
            current.append(part)
            meaningful = meaningful or not (part.isspace() or part.startswith(("--", "#", "/*")))
    if meaningful:
        statements.append("".join(current).strip())
    return statements


def load(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations in ``folder`` by number; raises :class:`MigrationError` on a bad name or number."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql, in lower case")
        found.append(Migration(int(match.group(1)), path.name, path.read_text()))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations are numbered 1, 2, 3 …; found {[migration.name for migration in found]}")
    return found


def migrate(warehouse: Warehouse, *, folder: Path = FOLDER, wait: float = 120.0) -> list[str]:
    """Apply what ``warehouse`` has not taken yet and return the names of those files.

    Waits up to ``wait`` seconds for another process that migrates. A file that was cut off between two statements goes
    on after the last that was noted, so a statement may run twice and must bear it (``IF NOT EXISTS``). Raises
    :class:`MigrationError` where an applied file was edited or removed, or the lock cannot be had.
    """
    migrations = load(folder)
    warehouse.command("CREATE DATABASE IF NOT EXISTS ops", idempotent=True)
    if not _pending(warehouse, migrations):
        return []
    with _locked(warehouse, wait) as lost:
        warehouse.command(_LEDGER, idempotent=True)
        # Asked again under the lock: who held it before has applied something meanwhile.
        pending = _pending(warehouse, migrations)
        for migration, done in pending:
            statements = migration.statements
            for position, statement in enumerate(statements[done:], start=done + 1):
                if lost.is_set():
                    raise MigrationError("the migration lock was lost: another process has taken it over")
                warehouse.command(statement, idempotent=True)
                warehouse.insert_rows(
                    "ops.migrations",
                    [
                        {
                            "number": migration.number,
                            "name": migration.name,
                            "checksum": migration.checksum,
                            "statements": len(statements),
                            "done": position,
                        }
                    ],
                )
        return [migration.name for migration, _ in pending]


def _pending(warehouse: Warehouse, migrations: Sequence[Migration]) -> list[tuple[Migration, int]]:
    """Return what is to be applied, each with the number of its statements that are done; check the rest."""
    if not warehouse.query_rows("SELECT 1 AS there FROM system.tables WHERE database = 'ops' AND name = 'migrations'"):
        return [(migration, 0) for migration in migrations]
    applied = {row["number"]: row for row in warehouse.query_rows("SELECT * FROM ops.migrations FINAL")}
    known = {migration.number: migration for migration in migrations}
    for number, row in applied.items():
        if number not in known:
            raise MigrationError(f"{row['name']} was applied here, but this version of Isthmus does not have it")
        if row["checksum"] != known[number].checksum:
            raise MigrationError(f"{known[number].name} was edited after it was applied; write a new migration instead")
    pending = []
    for migration in migrations:
        row = applied.get(migration.number, {"done": 0, "statements": -1})
        if row["done"] != row["statements"]:
            pending.append((migration, int(row["done"])))
    return pending


@contextmanager
def _locked(warehouse: Warehouse, wait: float) -> Iterator[Event]:
    """Hold the lock while the block runs; the event is set when it was lost to another process."""
    holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    table = _acquire(warehouse, holder, wait)
    ended, lost = Event(), Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 3):
            try:
                if _locks(warehouse)[-1][0] != table:
                    lost.set()
                    return
                _comment(warehouse, table, holder, time.time() + LEASE_SECONDS)
            except WarehouseError:
                # Not reachable now: the next round tries again, and the lease decides.
                continue

    thread = Thread(target=renew, name="migration-lock", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()
        if not lost.is_set():
            _comment(warehouse, table, "", 0.0)
            for older, _ in _locks(warehouse):
                if older < table:
                    warehouse.command(f"DROP TABLE IF EXISTS ops.{older}", idempotent=True)


def _acquire(warehouse: Warehouse, holder: str, wait: float) -> str:
    deadline = time.monotonic() + wait
    while True:
        locks = _locks(warehouse)
        name, comment = locks[-1] if locks else (f"{_LOCK_PREFIX}{0:08d}", " 0")
        owner, _, until = comment.rpartition(" ")
        if owner and owner == holder:
            return name
        if not owner or float(until) < time.time():
            following = f"{_LOCK_PREFIX}{int(name.removeprefix(_LOCK_PREFIX)) + 1:08d}"
            try:
                warehouse.command(
                    f"CREATE TABLE ops.{following} (`x` UInt8) ENGINE = MergeTree ORDER BY x "
                    f"COMMENT '{holder} {time.time() + LEASE_SECONDS:.3f}'"
                )
            except WarehouseError as error:
                if error.code != 57:  # TABLE_ALREADY_EXISTS: another was first
                    raise
            continue
        if time.monotonic() > deadline:
            raise MigrationError(f"{owner} holds the migration lock (ops.{name}) and renews it; waited {wait:.0f} s")
        time.sleep(0.2)


def _locks(warehouse: Warehouse) -> list[tuple[str, str]]:
    rows = warehouse.query_rows(
        f"SELECT name, comment FROM system.tables WHERE database = 'ops' AND name LIKE '{_LOCK_PREFIX}%' ORDER BY name"  # noqa: S608 (a constant)
    )
    return [(row["name"], row["comment"]) for row in rows]


def _comment(warehouse: Warehouse, table: str, holder: str, until: float) -> None:
    warehouse.command(f"ALTER TABLE ops.{table} MODIFY COMMENT '{holder} {until:.3f}'", idempotent=True)


if __name__ == "__main__":
    for applied_name in migrate(WarehouseResource()) or ["nothing to apply"]:
        sys.stdout.write(f"{applied_name}\n")
