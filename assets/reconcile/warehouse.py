"""The warehouse's side: sums, hashes and rows of a table in ClickHouse, computed there.

What belongs here: statements. What does not: the expressions (``ml.reconcile.clickhouse``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assets.reconcile.source import Range, Table
from ml.reconcile import clickhouse as dialect
from ml.reconcile.classify import Key, Row
from ml.reconcile.segments import Keys, Sizes, Sums, gathered
from resources.errors import SourceError
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

# The hash's rounds are nested deeply. An alias must not hide a column of its name.
_SETTINGS = (
    "SETTINGS prefer_column_name_to_alias = 1, max_parser_depth = 100000, max_subquery_depth = 1000,"
    " compile_expressions = {compiled}, min_count_to_compile_expression = 0"
)
#: Rows from which compiling the hash pays: it takes a second, and halves the time of a row.
COMPILED_FROM = 1_000_000
#: Values of a text up to which its hash is looked up.
FEW = 100


@dataclass
class WarehouseTable:
    """A table of the warehouse, read as it stands."""

    table: Table
    warehouse: Warehouse
    _longest: dict[str, int] = field(default_factory=dict)
    _longest_key: int = 0
    _compiled: bool = False

    def __post_init__(self) -> None:
        name = ".".join(dialect.quoted(part) for part in self.table.warehouse.split(".", 1))
        self._from = f"{name}{' FINAL' if self.table.final else ''}"
        self._key = dialect.quoted(self.table.key[0].name)
        self._key_form = f"toInt64({self._key})" if self.table.numbered else dialect.key_text(self.table.key)

    def _ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return self.warehouse.query_arrow(f"{sql} {_SETTINGS.format(compiled=int(self._compiled))}", parameters)

    def measure(self) -> Table:
        """Look how long the texts are: that many bytes the hash has to take in.

        Returns the table with its long texts marked; this object is of that table from then on. Raises
        :class:`SourceError` where a key is too long.
        """
        texts = [column for column in self.table.columns if column.kind == "text"]
        parts = {f"l{at}_": f"max(length({dialect.canonical(column)}))" for at, column in enumerate(texts)}
        parts |= {f"u{at}_": f"uniqUpTo({FEW})({dialect.canonical(column)})" for at, column in enumerate(texts)}
        parts["rows_"] = "count()"
        if not self.table.numbered:
            parts["key_"] = f"max(length({self._key_form}))"
        found = self._ask(f"SELECT {', '.join(f'{e} AS {n}' for n, e in parts.items())} FROM {self._from}")  # noqa: S608
        sizes = {name: int(found.column(name)[0].as_py() or 0) for name in parts}
        self._longest = {column.name: sizes[f"l{at}_"] for at, column in enumerate(texts)}
        self._longest_key = sizes.get("key_", 0)
        if self._longest_key > dialect.LONGEST:
            raise SourceError(
                f"{self.table.warehouse}: its keys take up to {self._longest_key} bytes, which is too long"
            )
        few = {column.name for at, column in enumerate(texts) if sizes[f"u{at}_"] <= FEW}
        columns = tuple(
            replace(column, long=self._longest.get(column.name, 0) > dialect.LONGEST, few=column.name in few)
            for column in self.table.columns
        )
        self._longest |= {column.name: 32 for column in columns if column.long}
        self.table = replace(self.table, columns=columns)
        self._compiled = sizes["rows_"] >= COMPILED_FROM and dialect.lambdas(columns)
        return self.table

    def _hashed(self, keep: Mapping[str, str], where: str = "true") -> str:
        return dialect.hashed(self.table.columns, self._longest, self._from, keep, where)

    def segments(self, bounds: Keys) -> Sizes:
        """Return the sizes of the segments that begin at ``bounds``."""
        listed = f"[{', '.join(map(str, bounds.tolist()))}]::Array(Int64)"
        found = self._ask(
            "SELECT bound_, count() AS rows_, groupBitXor(hash_) AS sum_"  # noqa: S608
            f" FROM {self._hashed({'bound_': f'roundDown({self._key_form}, {listed})'})} GROUP BY bound_"
        )
        at = np.searchsorted(bounds, found.column("bound_").to_numpy())
        return _sizes(len(bounds), at, found)

    def buckets(self, buckets: int) -> Sizes:
        """Return the sizes of the buckets of the key's hash."""
        found = self._ask(
            "SELECT bound_, count() AS rows_, groupBitXor(hash_) AS sum_"  # noqa: S608
            f" FROM {self._hashed({'bound_': self._bucket(buckets)})} GROUP BY bound_"
        )
        return _sizes(buckets, found.column("bound_").to_numpy().astype(np.intp), found)

    def _bucket(self, buckets: int) -> str:
        return dialect.bucket(self.table.key, buckets, max(self._longest_key, 20))  # a number's digits

    def hashes(self, ranges: Sequence[Range]) -> tuple[NDArray[np.generic], Sums]:
        """Return keys and hashes of the rows in ranges ``[low, high)`` of the key."""
        parts = []
        for low, high in ranges:
            bounds = [f"{self._key} >= {low}"] if low is not None else []
            bounds += [f"{self._key} < {high}"] if high is not None else []
            parts.append(f"({' AND '.join(bounds) or 'true'})")
        return self._hashes(" OR ".join(parts) or "false")

    def hashes_of_buckets(self, chosen: Sequence[int], buckets: int) -> tuple[NDArray[np.generic], Sums]:
        """Return keys and hashes of the rows in these buckets."""
        wanted = ", ".join(str(int(bucket)) for bucket in chosen)
        return self._hashes(f"{self._bucket(buckets)} IN ({wanted})")

    def _hashes(self, condition: str) -> tuple[NDArray[np.generic], Sums]:
        found = self._ask(f"SELECT key_, hash_ FROM {self._hashed({'key_': self._key_form}, condition)}")  # noqa: S608
        keys = found.column("key_").to_numpy()
        return keys if self.table.numbered else keys.astype(np.str_), found.column("hash_").to_numpy()

    def rows(self, keys: Sequence[Key]) -> dict[Key, list[Row]]:
        """Return the rows of these keys as canonical texts; more than one where a key stands there twice."""
        if not keys:
            return {}
        shown = ", ".join(f"{dialect.shown(column)} AS c{at}_" for at, column in enumerate(self.table.columns))
        kind = "Int64" if self.table.numbered else "String"
        form = self._key if self.table.numbered else self._key_form
        found = self._ask(
            f"SELECT {self._key_form} AS key_, {shown} FROM {self._from} WHERE {form} IN {{keys:Array({kind})}}",  # noqa: S608
            {"keys": list(keys)},
        )
        rows: dict[Key, list[Row]] = {}
        for row in found.to_pylist():
            values = {column.name: row[f"c{at}_"] for at, column in enumerate(self.table.columns)}
            rows.setdefault(row["key_"], []).append(values)
        return rows


def _sizes(segments: int, at: NDArray[np.intp], found: pa.Table) -> Sizes:
    rows = found.column("rows_").to_numpy().astype(np.int64)
    return gathered(segments, at, rows, found.column("sum_").to_numpy().astype(np.uint64))
