"""What is declared of retention, and which tables hold personal data.

What belongs here: reading ``retention.yml``, the declarations and the inventory. What does not: what is held
(``holdings``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from assets.quality.pii_declarations import declarations
from ml.retention import period
from resources.warehouse import Warehouse

FILE: Final = Path(__file__).with_name("retention.yml")
_TABLE_KEYS: Final = {"table", "time", "days", "until", "because"}
_FILE_KEYS: Final = {"name", "path", "days", "remove"}

#: The newest scan: which columns hold what, and what is declared of them.
_INVENTORY: Final = """
    SELECT column, entity, found, sampled, confidence, declared, undeclared, owner, lawful_basis, retention, action
    FROM quality.pii_inventory FINAL
    WHERE run_id = (SELECT argMax(run_id, scanned_at) FROM quality.pii_inventory)
    ORDER BY column, entity
"""


class RetentionError(ValueError):
    """``retention.yml`` cannot be used; the text names the entry."""


@dataclass(frozen=True, slots=True)
class TableLimit:
    """A table's declared period by a time column, or a criterion."""

    table: str
    time: str = ""
    limit: timedelta | None = None
    until: str = ""


@dataclass(frozen=True, slots=True)
class FileLimit:
    """Files under a folder, relative to the platform's home."""

    name: str
    path: str
    limit: timedelta
    remove: bool


@dataclass(frozen=True, slots=True)
class Declared:
    """All of ``retention.yml``."""

    tables: Mapping[str, TableLimit]
    files: tuple[FileLimit, ...]
    runs: timedelta


@lru_cache
def declared(path: Path = FILE) -> Declared:
    """Return what ``retention.yml`` says. Raises :class:`RetentionError` for an entry that says nothing or too much."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text())
        tables = [_table(entry) for entry in content.get("tables") or ()]
        files = tuple(_file(entry) for entry in content.get("files") or ())
        return Declared({one.table: one for one in tables}, files, timedelta(days=float(content["runs"]["days"])))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RetentionError(f"{path.name}: {error}") from error


def _table(entry: Mapping[str, Any]) -> TableLimit:
    if unknown := set(entry) - _TABLE_KEYS:
        raise ValueError(f"{entry.get('table')} has unknown keys {sorted(unknown)}")
    if bool(entry.get("until")) == bool(entry.get("days")) or bool(entry.get("days")) != bool(entry.get("time")):
        raise ValueError(f"{entry.get('table')} says either days with the time column, or until")
    limit = timedelta(days=float(entry["days"])) if entry.get("days") else None
    return TableLimit(entry["table"], entry.get("time", ""), limit, entry.get("until", ""))


def _file(entry: Mapping[str, Any]) -> FileLimit:
    if unknown := set(entry) - _FILE_KEYS:
        raise ValueError(f"{entry.get('name')} has unknown keys {sorted(unknown)}")
    if Path(entry["path"]).is_absolute() or ".." in Path(entry["path"]).parts:
        raise ValueError(f"{entry['name']}: the path lies under ISTHMUS_HOME")
    return FileLimit(entry["name"], entry["path"], timedelta(days=float(entry["days"])), bool(entry.get("remove")))


@dataclass(frozen=True, slots=True)
class Personal:
    """Columns with personal data by the newest scan, and declared ones; ``scanned`` is False before a first scan."""

    rows: tuple[Mapping[str, Any], ...]

    @property
    def scanned(self) -> bool:
        """Return whether there was a scan."""
        return bool(self.rows)

    @property
    def columns(self) -> dict[str, set[str]]:
        """Return the personal columns of each table."""
        found: dict[str, set[str]] = {}
        named = [row["column"] for row in self.rows if row["declared"] or row["undeclared"]]
        named += [one.column for one in declarations() if "*" not in one.column]
        for full in named:
            database, table, column = full.split("$")[0].split(".", 2)
            found.setdefault(f"{database}.{table}", set()).add(column)
        return found

    def declared_limit(self, table: str) -> tuple[timedelta, str] | None:
        """Return the shortest period that a declaration of one of the table's columns names, and where."""
        found = [
            (limit, f"declaration of {one.column}")
            for one in declarations()
            if one.column.split("$")[0].rpartition(".")[0] == table and (limit := period(one.retention))
        ]
        return min(found, default=None)


def personal(warehouse: Warehouse) -> Personal:
    """Return what the newest scan found."""
    return Personal(tuple(warehouse.query_rows(_INVENTORY)))
