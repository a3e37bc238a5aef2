"""The source's side: sums, hashes and rows of a PostgreSQL table, computed there.

What belongs here: statements and their spreading over connections. What does not: the expressions
(``ml.reconcile.postgres``) and what follows from the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.reconcile import postgres as dialect
from ml.reconcile.classify import Key, Row
from ml.reconcile.rowhash import START, Column
from ml.reconcile.segments import Keys, Sizes, Sums, ascending, gathered, located
from resources.postgres import PostgresResource

if TYPE_CHECKING:
    from resources.postgres import Connection

#: Share of the chunks that must lie in the key's order; with fewer the pages say nothing about keys.
IN_ORDER = 0.9
Range = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of both sides: its names, its key and the columns that are compared (the key among them).

    ``final``: the warehouse's table collapses rows of one key when it is read.
    """

    source: str
    warehouse: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    final: bool = False

    @property
    def numbered(self) -> bool:
        """Whether the key is one whole number, whose ranges are segments."""
        return len(self.key) == 1 and self.key[0].source_type in ("smallint", "integer", "bigint")


@dataclass(frozen=True, slots=True)
class Division:
    """Segments by their lower bounds, and the statements that read the table, each with the segment that it is of."""

    bounds: Keys
    statements: list[str]
    at: list[int]


@dataclass
class SourceSnapshot:
    """One state of the source, read over several connections."""

    table: Table
    connections: list[Connection]
    _idle: SimpleQueue[Connection] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        for connection in self.connections:
            self._idle.put(connection)
        self._name = ".".join(dialect.quoted(part) for part in self.table.source.split(".", 1))
        self._literal = "'" + self._name.replace("'", "''") + "'"
        self._hash = dialect.row_hash(self.table.columns)
        self._key = (
            f"{dialect.quoted(self.table.key[0].name)}::int8"
            if self.table.numbered
            else f"({dialect.key_text(self.table.key)})"
        )

    def _run(self, statement: str) -> list[tuple[Any, ...]]:
        connection = self._idle.get()
        try:
            return connection.execute(statement.encode()).fetchall()
        finally:
            self._idle.put(connection)

    def _all(self, statements: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        with ThreadPoolExecutor(len(self.connections), thread_name_prefix="reconcile") as pool:
            yield from pool.map(self._run, statements)

    def divide(self, chunks: int) -> Division | None:
        """Return how the table is read once, by ranges of its pages; None where rows do not lie in the key's order.

        PostgreSQL spends as much on grouping a row as on hashing it, so nothing is grouped.
        """
        if not self.table.numbered:
            return None
        pages = self._run(f"SELECT pg_relation_size({self._literal}) / current_setting('block_size')::int8")[0][0]
        edges = np.unique(np.linspace(0, max(pages, 1), chunks + 1).astype(np.int64)[:-1]).tolist()
        firsts = self._run(
            f"SELECT (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY k) FROM (SELECT {self._key} AS k"  # noqa: S608
            f" FROM {self._name} WHERE ctid >= format('(%s,0)', page)::tid LIMIT 9) AS few)"
            f" FROM unnest('{{{','.join(map(str, edges))}}}'::int8[]) AS page ORDER BY page"
        )
        known = [(edge, first) for edge, (first,) in zip(edges, firsts, strict=True) if first is not None]
        if not known:
            return Division(np.zeros(1, np.int64), [], [])
        rising = ascending([first for _, first in known])
        if len(rising) < IN_ORDER * len(known):
            return None
        bounds = np.array([known[at][1] for at in rising], np.int64)
        segment_of = {int(at): segment for segment, at in enumerate(rising)}
        statements: list[str] = []
        at: list[int] = []
        for number, (edge, _) in enumerate(known):
            last = number + 1 == len(known)
            pages_of = f"ctid >= '({0 if number == 0 else edge},0)'"
            pages_of += "" if last else f" AND ctid < '({known[number + 1][0]},0)'"
            segment = segment_of.get(number)
            astray = "true" if segment is None else self._outside(bounds, segment)
            statements.append(
                f"SELECT count(*), coalesce(bit_xor(h), 0), array_agg(ARRAY[k, h]) FILTER (WHERE {astray})"  # noqa: S608
                f" FROM (SELECT {self._key} AS k, {self._hash} AS h FROM {self._name} WHERE {pages_of}) AS rows"
            )
            at.append(0 if segment is None else segment)
        return Division(bounds, statements, at)

    def segments(self, division: Division) -> Sizes:
        """Return the sizes of the segments; a row whose page lies elsewhere than its key counts where its key does."""
        rows: list[int] = []
        sums: list[int] = []
        strays: list[tuple[int, Keys]] = []
        for ((count, checksum, found),), here in zip(self._all(division.statements), division.at, strict=True):
            rows.append(count)
            sums.append(checksum)
            if found:
                strays.append((here, np.array(found, np.int64)))
        return _placed(division.bounds, division.at, rows, sums, strays)

    @staticmethod
    def _outside(bounds: Keys, segment: int) -> str:
        parts = [f"k < {bounds[segment]}"] if segment else []
        parts += [f"k >= {bounds[segment + 1]}"] if segment + 1 < len(bounds) else []
        return " OR ".join(parts) or "false"

    def estimate(self) -> int:
        """Return about how many rows there are, by the planner's statistics and the table's size."""
        count = self._run(
            "SELECT CASE WHEN relpages > 0 THEN reltuples / relpages ELSE 100 END * pg_relation_size(oid)"  # noqa: S608
            f" / current_setting('block_size')::int8 FROM pg_class WHERE oid = {self._literal}::regclass"
        )[0][0]
        return max(0, int(count))

    def buckets(self, buckets: int) -> Sizes:
        """Return the sizes of ``buckets`` buckets (a power of two) of the key's hash: for any key, at two passes."""
        found = self._run(
            f"SELECT {self._bucket(buckets)}, count(*), bit_xor({self._hash}) FROM {self._name} GROUP BY 1"  # noqa: S608
        )
        at, rows, sums = zip(*found, strict=True) if found else ((), (), ())
        return gathered(buckets, np.array(at, np.intp), np.array(rows, np.int64), np.array(sums, np.int64).view("u8"))

    def _bucket(self, buckets: int) -> str:
        return f'(hashtextextended(({dialect.key_text(self.table.key)}) COLLATE "C", {START}) & {buckets - 1})'

    def hashes(self, ranges: Sequence[Range]) -> tuple[NDArray[np.generic], Sums]:
        """Return keys and hashes of the rows in ranges ``[low, high)`` of the key."""
        statements = []
        for low, high in ranges:
            key = dialect.quoted(self.table.key[0].name)
            parts = [f"{key} >= {low}"] if low is not None else []
            parts += [f"{key} < {high}"] if high is not None else []
            statements.append(self._hashes(" AND ".join(parts) or "true"))
        return _columns(self._all(statements), np.int64)

    def hashes_of_buckets(self, chosen: Sequence[int], buckets: int) -> tuple[NDArray[np.generic], Sums]:
        """Return keys and hashes of the rows in these buckets."""
        wanted = ", ".join(str(int(bucket)) for bucket in chosen)
        statement = self._hashes(f"{self._bucket(buckets)} IN ({wanted})")
        return _columns(iter([self._run(statement)]), np.int64 if self.table.numbered else np.str_)

    def _hashes(self, condition: str) -> str:
        # Two arrays are parsed faster than as many rows.
        return f"SELECT array_agg({self._key}), array_agg({self._hash}) FROM {self._name} WHERE {condition}"  # noqa: S608

    def rows(self, keys: Sequence[Key]) -> dict[Key, tuple[str, Row]]:
        """Return the rows of these keys, each as the name of its version and as canonical texts."""
        names = [column.name for column in self.table.columns]
        shown = ", ".join(dialect.shown(column) for column in self.table.columns)
        found = self._of(keys, f"{self._key}, xmin::text, {shown}")
        return {row[0]: (row[1], dict(zip(names, row[2:], strict=True))) for row in found}

    def documents(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """Return the rows of these keys as JSON objects of the compared columns."""
        wanted = {column.name for column in self.table.columns}
        found = self._of(keys, "row_to_json(row_)")
        return [{name: value for name, value in row[0].items() if name in wanted} for row in found]

    def _of(self, keys: Sequence[Key], select: str) -> list[tuple[Any, ...]]:
        if not keys:
            return []
        # A whole number as it is, so that its index serves.
        key = dialect.quoted(self.table.key[0].name) if self.table.numbered else self._key
        statement = f"SELECT {select} FROM {self._name} AS row_ WHERE {key} = ANY("  # noqa: S608
        connection = self._idle.get()
        try:
            return connection.execute(f"{statement.replace('%', '%%')}%s)".encode(), [list(keys)]).fetchall()
        finally:
            self._idle.put(connection)


@contextmanager
def source_snapshot(postgres: PostgresResource, table: Table, *, connections: int) -> Iterator[SourceSnapshot]:
    """Yield one state of the source's table."""
    with postgres.reading(connections) as opened:
        yield SourceSnapshot(table, opened)


def _placed(
    bounds: Keys, at: Sequence[int], rows: Sequence[int], sums: Sequence[int], strays: Sequence[tuple[int, Keys]]
) -> Sizes:
    """Return the segments' sizes from their chunks', the strays counted where their keys belong."""
    places, counts = [np.array(at, np.intp)], [np.array(rows, np.int64)]
    checksums = [np.array(sums, np.int64).view(np.uint64)]
    for here, found in strays:
        keys, hashes = found[:, 0], np.ascontiguousarray(found[:, 1]).view(np.uint64)
        places += [np.full(len(keys), here, np.intp), located(bounds, keys)]
        counts += [np.full(len(keys), -1, np.int64), np.ones(len(keys), np.int64)]
        checksums += [hashes, hashes]
    return gathered(len(bounds), np.concatenate(places), np.concatenate(counts), np.concatenate(checksums))


def _columns(answers: Iterator[list[tuple[Any, ...]]], kind: Any) -> tuple[NDArray[np.generic], Sums]:
    found = [answer[0] for answer in answers if answer[0][0] is not None]
    keys = np.concatenate([np.array(keys, kind) for keys, _ in found]) if found else np.array([], kind)
    hashes = np.concatenate([np.array(sums, np.int64) for _, sums in found]) if found else np.array([], np.int64)
    return keys, hashes.view(np.uint64)
