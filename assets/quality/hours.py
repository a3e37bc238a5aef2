"""Hourly measures of tables as aggregates in the warehouse, and their history in ``quality``.

What belongs here: SQL and the tables that keep the history. What does not: what is usual (``ml.monitors``), and the
asset (``monitors``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any, Protocol

from assets.quality.pushdown import quoted
from ml.monitors.types import BINS, VALUES, Measures, Reference

HOURS, REFERENCES = "quality.monitor_hours", "quality.monitor_references"
#: Hours that are looked back at, at most: what is usual changes, and a first run must end.
MEMORY_HOURS = 35 * 24
_NUMBERS = ("Int", "UInt", "Float", "Decimal")
#: Columns that say where a row lies or when it came: their spread is the log's, not the data's.
_PLACES = ("partition", "offset", "version")


class MonitoredError(ValueError):
    """A list of monitored tables that cannot be used; the text names the entry."""


class Warehouse(Protocol):
    """What is needed of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        """Append rows."""


@dataclass(frozen=True, slots=True)
class Monitored:
    """A table and the column that says when a row came."""

    asset: str
    table: str
    time: str
    final: bool = False

    @property
    def source(self) -> str:
        """Return what follows FROM, quoted."""
        database, name = self.table.split(".", 1)
        return f"{quoted(database)}.{quoted(name)}" + (" FINAL" if self.final else "")


@lru_cache
def monitored(path: Path = Path(__file__).parent / "monitored.yml") -> tuple[Monitored, ...]:
    """Return the tables that are watched. Raises :class:`MonitoredError`."""
    import yaml  # type: ignore[import-untyped]

    try:
        entries = yaml.safe_load(path.read_text())
        found = tuple(Monitored(**entry) for entry in entries)
    except (yaml.YAMLError, TypeError) as error:
        raise MonitoredError(f"{path.name}: {error}") from error
    for one in found:
        if one.table.count(".") != 1:
            raise MonitoredError(f"{path.name}: {one.table} is not database.table")
    return found


def columns_of(warehouse: Warehouse, one: Monitored) -> dict[str, str]:
    """Return {column: type} of those that can be measured; empty where there is no such table."""
    database, table = one.table.split(".", 1)
    rows = warehouse.query_rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": database, "table": table},
    )
    kinds = {str(row["name"]): str(row["type"]) for row in rows}
    if one.time not in kinds:
        return {}
    return {
        name: _plain(kind)
        for name, kind in kinds.items()
        if name not in _PLACES and (_plain(kind).startswith(_NUMBERS) or _plain(kind) == "String")
    }


def _plain(kind: str) -> str:
    for wrapper in ("LowCardinality(", "Nullable("):
        while kind.startswith(wrapper):
            kind = kind[len(wrapper) : -1]
    return kind


def learn_references(warehouse: Warehouse, one: Monitored, columns: Mapping[str, str]) -> dict[str, Reference]:
    """Return the bins of each column by the table's last weeks; texts of many values have none."""
    shares = ", ".join(f"{number / BINS:.6f}" for number in range(1, BINS))
    parts, names = [], list(columns)
    for number, name in enumerate(names):
        if columns[name].startswith(_NUMBERS):
            parts.append(f"quantiles({shares})(toFloat64({quoted(name)})) AS c{number}")
        else:
            parts.append(f"groupUniqArray({VALUES + 1})(toString({quoted(name)})) AS c{number}")
    if not parts:
        return {}
    sql = (
        f"SELECT {', '.join(parts)} FROM {one.source} WHERE {quoted(one.time)} >= now() - INTERVAL {MEMORY_HOURS} HOUR"  # noqa: S608 (names are quoted)
    )
    row = warehouse.query_rows(sql)[0]
    found = {}
    for number, name in enumerate(names):
        values = [value for value in row[f"c{number}"] if value is not None and not _is_nan(value)]
        if columns[name].startswith(_NUMBERS):
            edges = tuple(sorted({float(value) for value in values}))
            if edges:
                found[name] = Reference(edges=edges)
        elif 0 < len(values) <= VALUES:
            found[name] = Reference(values=tuple(sorted(str(value) for value in values)))
    return found


def read_references(warehouse: Warehouse, table: str) -> dict[str, Reference]:
    """Return the bins that are kept for a table, none where it has none."""
    rows = warehouse.query_rows(
        f"SELECT content FROM {REFERENCES} FINAL WHERE table_name = {{table:String}}",  # noqa: S608 (a constant)
        {"table": table},
    )
    content = json.loads(rows[0]["content"]) if rows else {}
    return {name: Reference(tuple(one["edges"]), tuple(one["values"])) for name, one in content.items()}


def keep_references(warehouse: Warehouse, table: str, by: Mapping[str, Reference], now: datetime) -> None:
    """Keep a table's bins."""
    content = {name: {"edges": list(one.edges), "values": list(one.values)} for name, one in by.items()}
    warehouse.insert_rows(REFERENCES, [{"table_name": table, "content": json.dumps(content), "learned_at": now}])


def measure_hours(
    warehouse: Warehouse, one: Monitored, by: Mapping[str, Reference], first: int, last: int
) -> dict[int, Measures]:
    """Return the measures of the hours ``first`` to ``last`` (since the epoch, inclusive), those without a row too.

    Silence is in whole minutes here. One pass over the table, whatever the number of columns.
    """
    parts: list[str] = []
    parameters: dict[str, Any] = {"first": first * 3600, "last": (last + 1) * 3600}
    names = list(by)
    for number, name in enumerate(names):
        column, reference = quoted(name), by[name]
        parts.append(f"countIf(isNull({column})) AS n{number}")
        if reference.values:
            parameters[f"v{number}"] = list(reference.values)
            index = f"indexOf({{v{number}:Array(String)}}, ifNull(toString({column}), ''))"
            size, there = len(reference.values), f"isNotNull({column})"
            bins = [f"countIf({there} AND {index} = {place})" for place in (*range(1, size + 1), 0)]
        else:
            parameters[f"v{number}"] = list(reference.edges)
            # Bin i holds what is above i edges.
            index = f"arrayCount(edge -> edge < toFloat64({column}), {{v{number}:Array(Float64)}})"
            there = f"isNotNull({column}) AND isFinite(toFloat64({column}))"
            bins = [f"countIf({there} AND {index} = {place})" for place in range(len(reference.edges) + 1)]
        parts.append(f"[{', '.join(bins)}] AS b{number}")
    time = quoted(one.time)
    more = "".join(f", {part}" for part in parts)
    sql = (
        f"SELECT intDiv(toUnixTimestamp(toDateTime({time})), 3600) AS hour, count() AS n, "  # noqa: S608 (names are quoted, values bound)
        f"groupUniqArray(60)(toMinute({time})) AS minutes{more} FROM {one.source} "
        f"WHERE {time} >= toDateTime({{first:UInt32}}, 'UTC') AND {time} < toDateTime({{last:UInt32}}, 'UTC') "
        "GROUP BY hour"
    )
    found = {
        hour: Measures(0, 3600.0, dict.fromkeys(names, 0), {name: _none(by[name]) for name in names})
        for hour in range(first, last + 1)
    }
    for row in warehouse.query_rows(sql, parameters):
        found[int(row["hour"])] = Measures(
            int(row["n"]),
            _silence([int(minute) for minute in row["minutes"]]),
            {name: int(row[f"n{number}"]) for number, name in enumerate(names)},
            {name: tuple(int(count) for count in row[f"b{number}"]) for number, name in enumerate(names)},
        )
    return found


def _none(reference: Reference) -> tuple[int, ...]:
    return (0,) * (len(reference.values or reference.edges) + 1)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and isnan(value)


def _silence(minutes: Sequence[int]) -> float:
    """Return the longest run of minutes without a row, in seconds."""
    edges = [-1, *sorted(minutes), 60]
    return 60.0 * max(after - before - 1 for before, after in pairwise(edges))


def first_hour(warehouse: Warehouse, one: Monitored, now: datetime) -> int | None:
    """Return the first whole hour that the table has rows in, within :data:`MEMORY_HOURS`; None without a row."""
    since = now - timedelta(hours=MEMORY_HOURS)
    time = quoted(one.time)
    row = warehouse.query_rows(
        f"SELECT count() AS n, toUnixTimestamp(toDateTime(min({time}))) AS first FROM {one.source} "  # noqa: S608 (names are quoted)
        f"WHERE {time} >= toDateTime({{since:UInt32}}, 'UTC')",
        {"since": int(since.timestamp())},
    )[0]
    return -(-int(row["first"]) // 3600) if row["n"] else None


def history(warehouse: Warehouse, table: str, before: int) -> dict[int, tuple[Measures, bool]]:
    """Return {hour: (measures, alarmed)} of what is kept of a table before ``before``."""
    rows = warehouse.query_rows(
        f"SELECT intDiv(toUnixTimestamp(hour), 3600) AS hours, measures, state FROM {HOURS} FINAL "  # noqa: S608 (a constant)
        "WHERE table_name = {table:String} AND hour >= toDateTime({since:UInt32}, 'UTC') "
        "AND hour < toDateTime({before:UInt32}, 'UTC') ORDER BY hour",
        {"table": table, "since": (before - MEMORY_HOURS) * 3600, "before": before * 3600},
    )
    return {
        int(row["hours"]): (Measures.from_json(json.loads(row["measures"])), row["state"] == "alarm") for row in rows
    }


def as_row(  # noqa: PLR0917
    table: str,
    hour: int,
    measures: Measures,
    p: Mapping[str, float] | None,
    alarms: Sequence[str],
    run_id: str,
    now: datetime,
) -> dict[str, Any]:
    """Return a row of :data:`HOURS`; ``p`` is None while there is too little history."""
    return {
        "table_name": table,
        "hour": datetime.fromtimestamp(hour * 3600, UTC),
        "measures": json.dumps(measures.as_json()),
        "state": "learning" if p is None else "alarm" if alarms else "quiet",
        "p": json.dumps(p or {}),
        "alarms": list(alarms),
        "run_id": run_id,
        "evaluated_at": now,
    }
