"""ClickHouse: every table of every database of ours, active parts and those that a mutation left behind.

What belongs here: searching, deleting, redacting. What does not: which tables keep rows (``rules``).

No value of the person may stand in a statement, for mutations keep theirs on the disk and servers log queries: the
needles lie in a table of memory, and rows that go are named by a hash of their columns in ``ops.erasure_rows``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from assets.compliance.rules import rules
from assets.compliance.stores import Item, Notes, NotYet
from assets.compliance.stores.events import redacted_event
from assets.quality.pushdown import quoted
from ml.privacy.matching import ERASED, Found, Matcher
from resources.warehouse import WarehouseResource

if TYPE_CHECKING:
    import pyarrow as pa

DATABASES: Final = ("raw", "staging", "intermediate", "marts", "ml", "quality", "ops")
ROWS: Final = "ops.erasure_rows"
#: Needles of one call: ClickHouse takes 255.
_CHUNK: Final = 200
_PATIENCE: Final = 120.0

_TABLES: Final = """
    SELECT database, table, groupArray((name, type)) AS columns FROM (
        SELECT c.database AS database, c.table AS table, c.name AS name, c.type AS type
        FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
        WHERE (c.database IN {databases:Array(String)} OR (c.database = 'system' AND endsWith(c.table, '_log')))
            AND t.engine LIKE '%MergeTree' AND c.default_kind NOT IN ('MATERIALIZED', 'ALIAS')
        ORDER BY c.position)
    WHERE concat(database, '.', table) != {rows:String}
    GROUP BY database, table ORDER BY database, table
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the columns that are stored."""

    database: str
    name: str
    columns: tuple[tuple[str, str], ...]

    @property
    def full(self) -> str:
        """database.table"""
        return f"{self.database}.{self.name}"

    @property
    def sql(self) -> str:
        """The same, quoted."""
        return f"{quoted(self.database)}.{quoted(self.name)}"

    @property
    def hash(self) -> str:
        """Expression of the row's hash, the same in a query and in a mutation."""
        texts = ", ".join(f"coalesce(toString({quoted(name)}), '\\0N')" for name, _ in self.columns)
        return f"reinterpretAsUInt128(sipHash128({texts}))"

    def texts(self) -> list[tuple[str, str]]:
        """Return (name, expression of its text) of each column that can hold a value of a person."""
        made = []
        for name, kind in self.columns:
            if "String" in kind and not kind.startswith(("Array", "Map", "Tuple", "Nested", "Variant", "JSON")):
                made.append((name, f"coalesce(toString({quoted(name)}), '')"))
            elif "String" in kind or kind.startswith(("JSON", "Dynamic", "Variant", "Enum", "Map", "Tuple", "Array")):
                made.append((name, f"toJSONString({quoted(name)})"))
            elif "Int" in kind or "UUID" in kind or "IP" in kind or "Decimal" in kind:
                made.append((name, f"coalesce(toString({quoted(name)}), '')"))
        return made


@dataclass(frozen=True, slots=True)
class Row:
    """A row that holds something of the person: its hash, its texts by column, and whether it is only near."""

    hash: str
    texts: dict[str, str]
    near: bool


@dataclass
class WarehouseStore:
    """The warehouse."""

    warehouse: WarehouseResource
    name: str = "clickhouse"
    absent: str = ""
    foreign: str = ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the rows that mention the person, and parts on the disk that nobody could search."""
        with self._needles(matcher) as (needles, chunks):
            for table in self._tables():
                kept = rules().kept.get(table.full)
                for row in self._rows(table, matcher, needles, chunks):
                    yield Item(table.full, row.texts, row.near, kept.basis if kept else "")
        for left in self._left_behind("detached_parts"):
            yield Item(left, "a detached part, which no query reads: attach or drop it")

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Delete the rows, or replace the values in them, and see that no old part stays on the disk."""
        # What a killed erasure listed is listed anew: rows may have changed since.
        self._forget(request_id)
        self._drop_leftovers()
        changed: dict[str, int] = {}
        with self._needles(matcher) as (needles, chunks):
            for table in self._tables():
                if table.full in rules().kept:
                    continue
                found = [row for row in self._rows(table, matcher, needles, chunks) if not row.near]
                if found:
                    self._labels(table, found)
                    self._take_out(table, found, matcher, request_id)
                    changed[table.full] = len(found)
        self.clean()
        self._forget(request_id)
        return Notes(
            "rows deleted by mutations that were waited for, or rewritten without the values; inactive parts gone from "
            "the disk",
            {"rows": changed},
        )

    def _tables(self) -> list[Table]:
        # What is buffered for a log of the server is searched too.
        self.warehouse.command("SYSTEM FLUSH LOGS", idempotent=True)
        found = self.warehouse.query_rows(_TABLES, {"databases": list(DATABASES), "rows": ROWS})
        return [
            Table(row["database"], row["table"], tuple((str(name), str(kind)) for name, kind in row["columns"]))
            for row in found
        ]

    @contextmanager
    def _needles(self, matcher: Matcher) -> Iterator[tuple[str, int]]:
        """Lend a table of memory that holds the needles; it never reaches the disk, nor their text a statement."""
        name = f"ops.erasure_needles_{token_hex(8)}"
        self.warehouse.command(f"CREATE TABLE {name} (`chunk` UInt8, `needle` String) ENGINE = Memory")
        try:
            self.warehouse.insert_arrow(name, _needle_table(matcher.needles))
            yield name, (len(matcher.needles) - 1) // _CHUNK + 1
        finally:
            self.warehouse.command(f"DROP TABLE IF EXISTS {name} SYNC", idempotent=True)

    def _rows(self, table: Table, matcher: Matcher, needles: str, chunks: int) -> Iterator[Row]:
        texts = table.texts()
        if not texts:
            return
        lists = [f"(SELECT groupArray(needle) FROM {needles} WHERE chunk = {at})" for at in range(chunks)]  # noqa: S608
        holds = " OR ".join(f"multiSearchAny(lower({text}), {one})" for _, text in texts for one in lists)
        selected = ", ".join(f"{text} AS `text {at}`" for at, (_, text) in enumerate(texts))
        found = self.warehouse.query_arrow(
            f"SELECT toString({table.hash}) AS `row hash`, {selected} FROM {table.sql} WHERE {holds}"  # noqa: S608 (quoted)
        )
        columns = [_bytes(found.column(at + 1)) for at in range(len(texts))]
        for at, hash_ in enumerate(found.column(0).to_pylist()):
            held = {name: column[at] for (name, _), column in zip(texts, columns, strict=True)}
            best = max(map(matcher.find, held.values()))
            if best is not Found.NOTHING:
                shown = {name: text.decode("utf-8", "backslashreplace") for name, text in held.items()}
                yield Row(str(hash_), shown, best is Found.NEAR)

    def _take_out(self, table: Table, found: list[Row], matcher: Matcher, request_id: str) -> None:
        self.warehouse.insert_rows(
            ROWS, [{"request_id": request_id, "table_name": table.full, "row_hash": row.hash} for row in found]
        )
        where = {"request": request_id, "table": table.full}
        chosen = (
            f"{table.hash} IN (SELECT row_hash FROM {ROWS}"  # noqa: S608 (constants; values are bound)
            " WHERE request_id = {request:String} AND table_name = {table:String})"
        )
        if table.full in rules().redact:
            self._redact(table, chosen, where, matcher)
        if table.full == "raw.source_pages":
            # A copy that was cut off would go on from a key that is gone: it begins anew instead.
            self.warehouse.command(
                "ALTER TABLE raw.source_pages DELETE WHERE snapshot_id NOT IN"
                " (SELECT snapshot_id FROM raw.source_snapshots) SETTINGS mutations_sync = 2",
                idempotent=True,
            )
        self.warehouse.command(
            f"ALTER TABLE {table.sql} DELETE WHERE {chosen} SETTINGS mutations_sync = 2", where, idempotent=True
        )

    def _redact(self, table: Table, chosen: str, where: dict[str, Any], matcher: Matcher) -> None:
        """Write the rows without the values beside them, those that do not stand there yet: a kill doubles none."""
        names = ", ".join(quoted(name) for name, _ in table.columns)
        kept = self.warehouse.query_arrow(f"SELECT {names} FROM {table.sql} WHERE {chosen}", where)  # noqa: S608 (quoted)
        made = _redacted(kept, table, matcher)
        draft = f"ops.erasure_draft_{token_hex(8)}"
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in table.columns)
        self.warehouse.command(f"CREATE TABLE {draft} ({columns}) ENGINE = Memory")
        try:
            self.warehouse.insert_arrow(draft, made)
            self.warehouse.command(
                f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {draft} WHERE {table.hash} NOT IN"  # noqa: S608
                f" (SELECT {table.hash} FROM {table.sql} WHERE {table.hash} IN (SELECT {table.hash} FROM {draft}))"
                " SETTINGS insert_deduplicate = 0",
                idempotent=True,
            )
        finally:
            self.warehouse.command(f"DROP TABLE IF EXISTS {draft} SYNC", idempotent=True)

    def _labels(self, table: Table, found: list[Row]) -> None:
        """Delete what stewards and the learned validation said of these rows: it names them by a hash of their key."""
        keys = self.warehouse.query_rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}"
            " AND is_in_sorting_key ORDER BY position",
            {"database": table.database, "table": table.name},
        )
        if not keys:
            return
        key = "hex(sipHash128(" + ", ".join(f"ifNull(toString({quoted(row['name'])}), '')" for row in keys) + "))"
        hashes = [row.hash for row in found]
        named = self.warehouse.query_rows(
            f"SELECT DISTINCT {key} AS row_key FROM {table.sql}"  # noqa: S608 (quoted)
            f" WHERE toString({table.hash}) IN {{hashes:Array(String)}}",
            {"hashes": hashes},
        )
        for said in ("quality.cell_findings", "quality.cell_labels"):
            about = {"table": table.full, "keys": [row["row_key"] for row in named]}
            condition = "table_name = {table:String} AND row_key IN {keys:Array(String)}"
            if self.warehouse.query_rows(f"SELECT 1 AS one FROM {said} WHERE {condition} LIMIT 1", about):  # noqa: S608
                self.warehouse.command(
                    f"ALTER TABLE {said} DELETE WHERE {condition} SETTINGS mutations_sync = 2", about, idempotent=True
                )

    def _drop_leftovers(self) -> None:
        """Drop the tables of memory of killed erasures; needles that a person's look may use just now are spared."""
        left = self.warehouse.query_rows(
            "SELECT name FROM system.tables WHERE database = 'ops' AND (startsWith(name, 'erasure_draft_')"
            " OR startsWith(name, 'erasure_needles_') AND metadata_modification_time < now() - INTERVAL 10 MINUTE)"
        )
        for row in left:
            self.warehouse.command(f"DROP TABLE IF EXISTS ops.{quoted(str(row['name']))} SYNC", idempotent=True)

    def _forget(self, request_id: str) -> None:
        where = {"request": request_id}
        if self.warehouse.query_rows(
            f"SELECT 1 AS one FROM {ROWS} WHERE request_id = {{request:String}} LIMIT 1",  # noqa: S608
            where,
        ):
            self.warehouse.command(
                f"ALTER TABLE {ROWS} DELETE WHERE request_id = {{request:String}} SETTINGS mutations_sync = 2",
                where,
                idempotent=True,
            )

    def clean(self) -> None:
        """See that parts which mutations and merges replaced leave the disk, of every table: an old merge may have
        left a part with the person's rows behind."""
        deadline = time.monotonic() + _PATIENCE
        touched: set[str] = set()
        try:
            while left := self._left_behind("parts"):
                for table in left:
                    if table not in touched:
                        touched.add(table)
                        self.warehouse.command(
                            f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 0", idempotent=True
                        )
                    # Wakes the thread that cleans, which else sleeps for minutes.
                    self.warehouse.command(f"SYSTEM START CLEANUP {table}", idempotent=True)
                if time.monotonic() > deadline:
                    raise NotYet(f"old parts are still on the disk: {', '.join(left)}; a long query may read them")
                time.sleep(0.2)
        finally:
            for table in touched:
                self.warehouse.command(f"ALTER TABLE {table} RESET SETTING old_parts_lifetime", idempotent=True)

    def _left_behind(self, which: str) -> list[str]:
        condition = "AND NOT active" if which == "parts" else ""
        rows = self.warehouse.query_rows(
            f"SELECT DISTINCT concat(database, '.', table) AS place FROM system.{which}"  # noqa: S608 (constants)
            f" WHERE database IN {{databases:Array(String)}} {condition} ORDER BY place",
            {"databases": [*DATABASES, "system"]},
        )
        return [".".join(quoted(part) for part in str(row["place"]).split(".", 1)) for row in rows]


def _needle_table(needles: list[bytes]) -> pa.Table:
    import pyarrow as pa

    chunks = pa.array([at // _CHUNK for at in range(len(needles))], pa.uint8())
    return pa.table({"chunk": chunks, "needle": pa.array(needles, pa.binary())})


def _bytes(column: pa.ChunkedArray) -> list[bytes]:
    import pyarrow as pa

    whole = column.combine_chunks()
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    values: list[bytes] = whole.cast(pa.binary()).to_pylist()
    return values


def _redacted(rows: pa.Table, table: Table, matcher: Matcher) -> pa.Table:
    """Return ``rows`` without the person: texts scrubbed, a landed event by its schema, any other value emptied."""
    import pyarrow as pa

    for at, (name, kind) in enumerate(table.columns):
        column = rows.column(at).combine_chunks()
        if "String" not in kind:
            continue
        if kind.startswith("Map"):
            pairs = [
                [(k, ERASED if matcher.find(f"{k}\n{v}") is Found.PERSON else v) for k, v in one]
                for one in column.to_pylist()
            ]
            rows = rows.set_column(at, name, pa.array(pairs, column.type))
        elif kind.startswith("Array"):
            lists = [[matcher.scrub(one) for one in each] for each in column.to_pylist()]
            rows = rows.set_column(at, name, pa.array(lists, pa.list_(pa.string())))
        else:
            texts = [None if one is None else _scrubbed(one, table, name, matcher) for one in _bytes(rows.column(at))]
            rows = rows.set_column(at, name, pa.array(texts, pa.binary()))
    return rows


def _scrubbed(raw: bytes, table: Table, name: str, matcher: Matcher) -> bytes:
    if matcher.find(raw) is not Found.PERSON:
        return raw
    if table.full == "raw.events":
        return redacted_event(raw, matcher) if name == "value" else b""
    try:
        return matcher.scrub(raw.decode()).encode()
    except UnicodeDecodeError:
        return b""
