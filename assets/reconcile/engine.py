"""Reconciliation of one table, from both sides' sums to the rows that differ.

What belongs here: the order of looks, and what is forgiven to rows in flight. What does not: either side's statements.

The source is looked at first, in one snapshot at a time ``t0``. Whatever stands in it must stand in the warehouse by
``t0 + lag`` or have been changed in the source since. So rows that differ are looked at again from then on: one that
agrees with the source was in flight; one whose source row changed between two looks still is, and is looked at again;
only one that the source left alone for ``lag`` seconds, and that the warehouse still has otherwise, is a difference.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from assets.reconcile.source import SourceSnapshot, Table, source_snapshot
from assets.reconcile.warehouse import WarehouseTable
from ml.reconcile.classify import Difference, Key, Row, classify
from ml.reconcile.rowhash import Column
from ml.reconcile.segments import Sizes, candidates, differing, joined
from resources.errors import SourceError
from resources.postgres import PostgresResource, columns_of
from resources.warehouse import Warehouse

#: Rows of a chunk of pages: a differing one is read whole.
CHUNK_ROWS = 16_000
#: Buckets for keys that are no whole number, or do not lie in order.
BUCKETS = 1024
#: Looks at a row that keeps changing, at most.
LOOKS = 5

Versions = dict[Key, tuple[str, Row]]


@dataclass(frozen=True, slots=True)
class Report:
    """What reconciling one table came to."""

    source: str
    warehouse: str
    rows_source: int
    rows_warehouse: int
    segments: int
    segments_differing: int
    differences: tuple[Difference, ...]
    #: Rows that differed at first and were in flight.
    in_flight: int
    #: Columns that one side lacks, or that the sides have in types that cannot be compared.
    drift: tuple[str, ...] = ()
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def real(self) -> tuple[Difference, ...]:
        """Differences that count: those that are not merely late."""
        return tuple(one for one in self.differences if one.kind != "late")

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON types; it holds keys and column names, no values."""
        names = ("source", "warehouse", "rows_source", "rows_warehouse", "segments", "segments_differing", "in_flight")
        record = {name: getattr(self, name) for name in names}
        return {**record, "drift": list(self.drift), "differences": [one.as_record() for one in self.differences]}


def describe(
    postgres: PostgresResource, warehouse: Warehouse, source: str, target: str, leave_out: Sequence[str] = ()
) -> tuple[Table, tuple[str, ...]]:
    """Return the table as both sides have it, and in words in which columns they do not agree.

    Raises :class:`SourceError` where the source's table has no primary key, or the warehouse lacks the table or key.
    """
    with postgres.reading() as (connection,):
        found = columns_of(connection, source)
    database, _, name = target.partition(".")
    held = {
        row["name"]: row["type"]
        for row in warehouse.query_rows(
            "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
            {"database": database, "table": name},
        )
    }
    if not held:
        raise SourceError(f"the warehouse has no table {target}")
    if not any(column.key for column in found):
        raise SourceError(f"{source} has no primary key, without which a row has no name")
    drift, columns, keys = [], [], {}
    for column in found:
        if column.name in leave_out:
            continue
        if column.name not in held:
            drift.append(f"{column.name}: the warehouse lacks it")
            if column.key:
                raise SourceError(f"{target} lacks {column.name}, a part of the key of {source}")
            continue
        type_ = held[column.name]
        compared = Column(column.name, column.type, column.nullable or "Nullable(" in type_, column.scale)
        if not _fits(compared, type_):
            drift.append(f"{column.name}: {column.type} in the source, {type_} in the warehouse")
            compared = Column(column.name, "as text", compared.nullable)
        columns.append(compared)
        if column.key:
            keys[column.key] = compared
    drift += [f"{name}: the source lacks it" for name in held if name not in {c.name for c in found} | set(leave_out)]
    engine = warehouse.query_rows(
        "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": database, "table": name},
    )[0]["engine"]
    key = tuple(keys[at] for at in sorted(keys))
    return Table(source, target, key, tuple(columns), final="Replacing" in engine), tuple(drift)


def _fits(column: Column, type_: str) -> bool:
    """Return whether the warehouse's type holds what the source's does."""
    bare = type_.replace("LowCardinality(", "").replace("Nullable(", "").rstrip(")")
    if column.source_type.startswith("numeric"):
        return bare.startswith("Decimal") and column.scale is not None
    return {
        "int4": (bare.startswith(("Int", "UInt", "Bool")) and column.source_type != "date")
        or (column.source_type == "date" and bare.startswith("Date") and not bare.startswith("DateTime")),
        "int8": bare in ("Int64", "UInt64"),
        "time": bare.startswith("DateTime64(6"),
        "float": bare.startswith("Float"),
        "text": not bare.startswith(("Int", "UInt", "Float", "Decimal", "Bool", "DateTime")),
    }[column.kind]


def reconcile(
    postgres: PostgresResource,
    warehouse: Warehouse,
    table: Table,
    *,
    lag: float = 0.0,
    drift: tuple[str, ...] = (),
    connections: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Return the differences of one table.

    ``lag`` (seconds) is how far the warehouse may follow behind; 0 says that nothing is in flight.
    """
    held = WarehouseTable(table, warehouse)
    began = clock()
    stages: dict[str, float] = {}
    workers = connections or max(4, min(8, os.cpu_count() or 1))
    with ThreadPoolExecutor(1, thread_name_prefix="reconcile") as pool:
        measured = pool.submit(held.measure)
        with postgres.reading(workers) as opened:
            snapshot = SourceSnapshot(measured.result(), opened)
            stages["measure"] = clock() - began
            keys, rows, segments, wrong = _suspects(snapshot, held, stages, clock)
            before = snapshot.rows(keys) if lag <= 0 else {}
    if lag <= 0:
        found, in_flight = judged(keys, before, held.rows(keys)), 0
    else:

        def look(left: Sequence[Key]) -> Versions:
            with source_snapshot(postgres, held.table, connections=1) as now:
                return now.rows(left)

        found, in_flight = settled(look, held.rows, keys, lag=lag, clock=clock, sleep=sleep)
    stages["rows"] = clock() - began - sum(each for name, each in stages.items() if name != "source")
    return Report(
        table.source, table.warehouse, *rows, segments, wrong, tuple(found), in_flight, drift, clock() - began, stages
    )


def _suspects(
    snapshot: SourceSnapshot, held: WarehouseTable, stages: dict[str, float], clock: Callable[[], float]
) -> tuple[list[Key], tuple[int, int], int, int]:
    """Return the keys whose rows differ at first sight, the rows of both sides, the segments, and those that differ."""
    at = clock()
    division = snapshot.divide(max(1, min(4096, -(-snapshot.estimate() // CHUNK_ROWS))))
    stages["divide"], at = clock() - at, clock()
    # Both sides at the same time: each has processors of its own, as a rule.
    with ThreadPoolExecutor(1, thread_name_prefix="reconcile") as pool:
        if division:
            theirs: Future[Sizes] = pool.submit(held.segments, division.bounds)
            left = snapshot.segments(division)
        else:
            theirs = pool.submit(held.buckets, BUCKETS)
            left = snapshot.buckets(BUCKETS)
        stages["source"] = clock() - at
        right = theirs.result()
        stages["sums"], at = clock() - at, clock()
        wrong = differing(left, right)
        keys: list[Key] = []
        if len(wrong) and division:
            ranges = joined(division.bounds, wrong)
            rest = pool.submit(held.hashes, ranges)
            keys = candidates(*snapshot.hashes(ranges), *rest.result())
        elif len(wrong):
            rest = pool.submit(held.hashes_of_buckets, wrong.tolist(), BUCKETS)
            keys = candidates(*snapshot.hashes_of_buckets(wrong.tolist(), BUCKETS), *rest.result())
    stages["segments"] = clock() - at
    return keys, (int(left.rows.sum()), int(right.rows.sum())), len(left.rows), len(wrong)


def judged(keys: Sequence[Key], source: Versions, held: dict[Key, list[Row]]) -> list[Difference]:
    """Return the differences of the rows of ``keys``."""
    judged = (classify(key, source[key][1] if key in source else None, held.get(key, [])) for key in keys)
    return [one for one in judged if one is not None]


def settled(
    look: Callable[[Sequence[Key]], Versions],
    held: Callable[[Sequence[Key]], dict[Key, list[Row]]],
    keys: Sequence[Key],
    *,
    lag: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[list[Difference], int]:
    """Return the differences that last, and how many rows were in flight; what never came to rest is late.

    ``look`` and ``held`` return the rows of keys as the source and the warehouse have them now.
    """
    left = list(keys)
    lasting: list[Difference] = []
    doubted: dict[Key, list[Row]] = {}
    if not left:
        return [], 0
    before, since = look(left), clock()
    for _ in range(LOOKS):
        sleep(max(0.0, since + lag - clock()))
        # The warehouse first: what it shows is compared with what the source had a lag before.
        rows = held(left)
        now, at = look(left), clock()
        differ = {one.key: one for one in judged(left, now, rows)}
        rest = []
        for key, one in differ.items():
            # A row that is not there has no version: that it came and went meanwhile shows in a second look only.
            again = key in now or doubted.get(key) == rows.get(key)
            if before.get(key) == now.get(key) and again:
                lasting.append(one)
            else:
                rest.append(key)
        doubted = {key: rows[key] for key in rest if key in rows and key not in now and key not in before}
        left, before, since = rest, {key: now[key] for key in rest if key in now}, at
        if not left:
            break
    late = [Difference(key, "late", detail="the source kept changing it") for key in left]
    return sorted([*lasting, *late], key=lambda one: str(one.key)), len(keys) - len(lasting)
