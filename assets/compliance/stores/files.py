"""Files under the platform's home: pages of the quality report, logs, artefacts of models, SQLite databases.

What belongs here: searching, overwriting, deleting. What does not: the embedded services' own files, which their
stores answer for (``bus``, ``warehouse``).

A text is overwritten in place with stars, its length kept, so that a process which writes on loses nothing. What is no
text (a pickle, an archive, Parquet) is deleted: a page is made anew by the next report, a model by the next training.
"""

from __future__ import annotations

import gzip
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from assets.compliance.stores import Item, Notes, NotYet
from ml.privacy.matching import ERASED, Found, Matcher
from resources.errors import ResourceError
from resources.settings import Settings

#: Folders of the embedded services, and the platform's keys.
_OTHERS: Final = ("warehouse", "broker", "secrets")
#: Parts of a SQLite database, which answers for them.
_PARTS: Final = ("-wal", "-shm", "-journal")
_SQLITE: Final = b"SQLite format 3\0"
_BUSY_SECONDS: Final = 10.0


def _files(home: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(home):
        if Path(folder) == home:
            names[:] = [name for name in names if name not in _OTHERS]
        for name in sorted(files):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink() and not name.endswith(_PARTS):
                yield path


def _is_database(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(len(_SQLITE)) == _SQLITE


def contents(path: Path) -> Iterator[bytes]:
    """Yield what a file holds: its bytes, and what they are when unpacked (gzip, zlib, zstd, lz4, zip, Parquet)."""
    raw = path.read_bytes()
    yield raw
    if raw[:4] == b"PAR1":
        import pyarrow.parquet

        for column in pyarrow.parquet.read_table(path).columns:
            yield "\n".join(map(str, column.to_pylist())).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    elif raw[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        yield zstandard.ZstdDecompressor().stream_reader(raw).read()
    elif raw[:4] == b"\x04\x22\x4d\x18":
        import lz4.frame

        yield lz4.frame.decompress(raw)
    elif raw[:1] == b"\x78":
        yield zlib.decompressobj().decompress(raw)


@dataclass
class FileStore:
    """Every file under the home that is no database."""

    home: Path
    name: str = "files"
    absent: str = ""
    foreign: str = ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the files that mention the person, in name or content."""
        for path in _files(self.home):
            try:
                if _is_database(path):
                    continue
                found = max(
                    matcher.find(str(path.relative_to(self.home))), *(matcher.find(one) for one in contents(path))
                )
            except FileNotFoundError:
                continue  # a page was made anew, a log was turned
            except (OSError, ValueError, zlib.error, EOFError, zipfile.BadZipFile) as error:
                # What cannot be unpacked is searched as bytes.
                if isinstance(error, PermissionError):
                    raise NotYet(f"{path.relative_to(self.home)} may not be read: run as its owner") from None
                found = matcher.find(path.read_bytes())
            if found is not Found.NOTHING:
                yield Item(str(path.relative_to(self.home)), f"{path.stat().st_size} bytes", found is Found.NEAR)

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Overwrite the person in texts, delete what is no text."""
        starred, deleted = [], []
        for item in [one for one in self.items(matcher) if not one.near]:
            path = self.home / item.place
            raw = path.read_bytes()
            made = matcher.overwrite(raw) if matcher.find(item.place) is not Found.PERSON else None
            if made is None:
                path.unlink(missing_ok=True)
                deleted.append(path.suffix)
                continue
            with path.open("r+b") as opened:
                opened.write(made)
                opened.flush()
                os.fsync(opened.fileno())
            starred.append(path.suffix)
        return Notes(
            "texts overwritten in place, other files deleted: the next report and the next training make theirs anew",
            {"overwritten": len(starred), "deleted": len(deleted)},
        )


@dataclass
class SqliteStore:
    """SQLite databases under the home: Dagster's runs and events, MLflow's runs."""

    home: Path
    name: str = "sqlite"
    absent: str = ""
    foreign: str = ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the rows that mention the person."""
        for path in self._databases():
            place = str(path.relative_to(self.home))
            with _opened(path) as connection:
                for table, _, row, found in _rows(connection, matcher):
                    yield Item(f"{place}/{table}", [str(value) for value in row], found is Found.NEAR)
            for extra in (path, path.with_name(path.name + "-wal")):
                # Free pages and the write-ahead log: what is deleted and not overwritten.
                if extra.exists() and matcher.find(extra.read_bytes()) is Found.PERSON:
                    yield Item(f"{place} (pages)", "bytes of the file")
                    break

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Replace the values in the rows, then write the file without what was deleted."""
        changed = 0
        for path in self._databases():
            with _opened(path) as connection:
                held = [one for one in _rows(connection, matcher) if one[3] is Found.PERSON]
                pages = matcher.find(path.read_bytes()) is Found.PERSON
                if not held and not pages:
                    continue
                try:
                    connection.execute("PRAGMA secure_delete = ON")
                    for table, rowid, row, _ in held:
                        _replace(connection, table, rowid, row, matcher)
                    connection.commit()
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                except sqlite3.OperationalError:
                    raise NotYet(
                        f"{path.relative_to(self.home)} is in use: try again when no run is under way"
                    ) from None
                changed += len(held)
        return Notes("values replaced in rows, files vacuumed", {"rows": changed})

    def _databases(self) -> list[Path]:
        return [path for path in _files(self.home) if path.suffix not in {".draft"} and _is_database(path)]


def _opened(path: Path) -> closing[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return closing(connection)


def _rows(connection: sqlite3.Connection, matcher: Matcher) -> Iterator[tuple[str, int, dict[str, Any], Found]]:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables.fetchall():
        name = _quoted(table)
        cursor = connection.execute(f"SELECT rowid, * FROM {name}")  # noqa: S608 (quoted)
        columns = [one[0] for one in cursor.description][1:]
        for rowid, *values in cursor:
            raw = b"\n".join(one if isinstance(one, bytes) else str(one).encode("utf-8", "replace") for one in values)
            found = matcher.find(raw)
            if found is not Found.NOTHING:
                yield table, rowid, dict(zip(columns, values, strict=True)), found


def _replace(connection: sqlite3.Connection, table: str, rowid: int, row: dict[str, Any], matcher: Matcher) -> None:
    changes: dict[str, Any] = {}
    for name, value in row.items():
        if matcher.find(value if isinstance(value, bytes) else str(value)) is not Found.PERSON:
            continue
        changes[name] = matcher.scrub(value) if isinstance(value, str) else b"" if isinstance(value, bytes) else 0
    sets = ", ".join(f"{_quoted(name)} = ?" for name in changes)
    try:
        connection.execute(f"UPDATE {_quoted(table)} SET {sets} WHERE rowid = ?", [*changes.values(), rowid])  # noqa: S608
    except sqlite3.IntegrityError:
        # A key that is the person's and may stand once only.
        unique = {name: f"{value}{rowid}" if value == ERASED else value for name, value in changes.items()}
        connection.execute(f"UPDATE {_quoted(table)} SET {sets} WHERE rowid = ?", [*unique.values(), rowid])  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class TrackingStore:
    """MLflow where it is another's server: under the home its database and artefacts are files like others."""

    settings: Settings
    name: str = "mlflow"
    absent: str = field(init=False)
    foreign: str = field(init=False)

    def __post_init__(self) -> None:
        remote = bool(self.settings.mlflow_tracking_uri)
        self.absent = "" if remote else "its database and artefacts are files under the home"
        self.foreign = "MLflow is a server of its own: not searched, erasure is asked of its owner" if remote else ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield nothing: what is another's is not searched."""
        yield from ()

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Refuse: what is another's is not changed."""
        raise ResourceError(self.foreign)
