"""A table in both stores, differences in it, and writes to it: the world of ``quality_reconcile.py``.

What belongs here: making rows and breaking them. What does not: comparing, timing.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import psycopg

from ml.reconcile import clickhouse, postgres
from resources.warehouse import WarehouseResource

SOURCE, AT_REST, LIVE = "public.reconciled", "default.at_rest", "default.live"
DEFAULT: dict[str, Any] = {
    "rows": 5_000_000,
    "columns": [
        {"name": "id", "type": "bigint"},
        {"name": "customer_id", "type": "integer"},
        {"name": "status", "type": "text", "distinct": 5},
        {"name": "amount_cents", "type": "bigint"},
        {"name": "quantity", "type": "integer"},
        {"name": "updated_at", "type": "timestamp with time zone"},
    ],
    "differences": {"missing": 1, "extra": 1, "changed": 3},
}
#: Type → what makes a value of the number {n}, and the warehouse's type.
TYPES: dict[str, tuple[str, str]] = {
    "bigint": ("(({n}) % 1000000007)", "Int64"),
    "integer": ("(({n}) % 1000003)::int", "Int32"),
    "smallint": ("(({n}) % 30011)::smallint", "Int16"),
    "boolean": ("({n}) % 2 = 0", "Bool"),
    "date": ("date '2020-01-01' + (({n}) % 2000)::int", "Date32"),
    "text": ("'value ' || ({n}) % {distinct}", "{text}"),
    "double precision": ("(({n}) % 1000003) / 7.0::float8", "Float64"),
    "numeric(12,2)": ("(({n}) % 100000007)::numeric / 100", "Decimal(12, 2)"),
    "timestamp with time zone": (
        "timestamptz '2026-01-01' + ({n}) % 31536000000000 * interval '1 microsecond'",
        "DateTime64(6, 'UTC')",
    ),
}

#: How PostgreSQL writes values in COPY's text.
TEXT = {"date_time_input_format": "best_effort", "bool_true_representation": "t", "bool_false_representation": "f"}


class World:
    """The table on both sides, as it is described."""

    def __init__(self, described: dict[str, Any], url: str, warehouse: WarehouseResource, rows: int) -> None:
        self.columns, self.rows, self.url, self.warehouse = described["columns"], rows, url, warehouse
        self.differences: dict[str, int] = described.get("differences", DEFAULT["differences"])
        if self.columns[0]["type"] != "bigint" or (unknown := {c["type"] for c in self.columns} - set(TYPES)):
            raise SystemExit(f"the first column is the key, a bigint, and types are of {sorted(TYPES)}: {unknown}")
        self.names = ", ".join(postgres.quoted(column["name"]) for column in self.columns)
        self.key = self.columns[0]["name"]

    def value(self, at: int, id_: str, salt: int) -> str:
        """Return the expression of column ``at`` of row ``id_``."""
        column = self.columns[at]
        n = f"(hashint8extended({id_}, {salt + at}) & 4611686018427387903)"
        made = TYPES[column["type"]][0].format(n=n, distinct=column.get("distinct", 1000))
        share = column.get("nullable", 0)
        return f"CASE WHEN {n} % 100 >= {int(100 * share)} THEN {made} END" if share else made

    def values(self, id_: str, salt: int) -> str:
        """Return the expressions of a row."""
        return ", ".join([id_, *(self.value(at, id_, salt) for at in range(1, len(self.columns)))])

    def build(self) -> None:
        """Fill the source."""
        types = ", ".join(
            f"{postgres.quoted(c['name'])} {c['type']}{'' if c.get('nullable') else ' NOT NULL'}" for c in self.columns
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {SOURCE}")
            connection.execute(f"CREATE TABLE {SOURCE} ({types}, PRIMARY KEY ({postgres.quoted(self.key)}))")
            connection.execute(
                f"INSERT INTO {SOURCE} SELECT {self.values('id', 1)} FROM generate_series(1, {self.rows}::int8) AS id"
            )
            connection.execute(f"VACUUM (ANALYZE, FREEZE) {SOURCE}")

    def copy(self, target: str, engine: str, more: str = "") -> None:
        """Make ``target`` a copy of the source."""
        types = []
        for c in self.columns:
            type_ = TYPES[c["type"]][1].format(
                text="String" if c.get("distinct", 1000) > 100 else "LowCardinality(String)"
            )
            if c.get("nullable"):
                type_ = type_.replace("LowCardinality(String)", "String")
                type_ = f"Nullable({type_})"
            types.append(f"{clickhouse.quoted(c['name'])} {type_}")
        key = clickhouse.quoted(self.key)
        self.warehouse.command(f"DROP TABLE IF EXISTS {target}")
        self.warehouse.command(f"CREATE TABLE {target} ({', '.join(types)}{more}) ENGINE = {engine} ORDER BY {key}")
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            connection.execute("SET timezone = 'UTC'")
            statement = f"COPY (SELECT {self.names} FROM {SOURCE}) TO STDOUT"
            parts: list[bytes] = []
            size = 0
            with cursor.copy(statement) as copy:
                for part in copy:
                    parts.append(bytes(part))
                    size += len(part)
                    if size > 32 << 20:
                        self._send(target, b"".join(parts))
                        parts, size = [], 0
            self._send(target, b"".join(parts))
        self.warehouse.command(f"OPTIMIZE TABLE {target} FINAL")

    def _send(self, target: str, body: bytes) -> None:
        names = [column["name"] for column in self.columns]
        self.warehouse.client().raw_insert(target, names, body, settings=TEXT, fmt="TabSeparated")

    def break_(self, target: str, seed: int) -> dict[int, str]:
        """Bring in the differences, half of the changed ones at the source; return key → class."""
        chance = random.Random(seed)
        kinds = [kind for kind, many in sorted(self.differences.items()) for _ in range(many)]
        places = chance.sample(range(1, self.rows + 1), len(kinds))
        expected: dict[int, str] = {}
        key = clickhouse.quoted(self.key)
        with psycopg.connect(self.url, autocommit=True) as connection:
            for number, (kind, place) in enumerate(zip(kinds, places, strict=True)):
                expected[place] = kind
                if kind == "missing":
                    self.warehouse.command(
                        f"ALTER TABLE {target} DELETE WHERE {key} = {place} SETTINGS mutations_sync = 1"
                    )
                elif kind == "extra":
                    connection.execute(f"DELETE FROM {SOURCE} WHERE {postgres.quoted(self.key)} = {place}")
                else:
                    at = chance.randrange(1, len(self.columns))
                    self._change(connection, target, place, at, at_source=number % 2 == 0)
        return expected

    def _change(self, connection: Any, target: str, place: int, at: int, *, at_source: bool) -> None:
        """Give a cell another value."""
        name, condition = postgres.quoted(self.columns[at]["name"]), f"{postgres.quoted(self.key)} = {place}"
        for salt in range(100, 200):
            new = self.value(at, str(place), salt)
            row = connection.execute(
                f"SELECT ({new})::text, ({new}) IS DISTINCT FROM {name} FROM {SOURCE} WHERE {condition}"
            )
            text, other = row.fetchone()
            if other and text is not None:
                break
        if at_source:
            connection.execute(f"UPDATE {SOURCE} SET {name} = {new} WHERE {condition}")
            return
        type_ = TYPES[self.columns[at]["type"]][1].format(text="String")
        form = (
            "parseDateTime64BestEffort({v:String}, 6, 'UTC')"
            if "DateTime" in type_
            else f"CAST({{v:String}} AS {type_})"
        )
        self.warehouse.command(
            f"ALTER TABLE {target} UPDATE {clickhouse.quoted(self.columns[at]['name'])} = {form}"
            f" WHERE {clickhouse.quoted(self.key)} = {place} SETTINGS mutations_sync = 1",
            {"v": text},
        )


class Writes:
    """Writes to the source, and their way into the warehouse a moment later."""

    def __init__(self, world: World, keep: set[int], seed: int) -> None:
        self.world, self.keep, self.chance = world, keep, random.Random(seed)
        self.done = threading.Event()
        self.applied = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Writes:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 (handed to the main thread)
            self.error = error

    def _write(self) -> None:
        world, version, fresh = self.world, 1, self.world.rows + 1
        key = postgres.quoted(world.key)
        with psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute("SET timezone = 'UTC'")
            while not self.done.is_set():
                version += 1
                chosen = {self.chance.randint(1, world.rows) for _ in range(20)} - self.keep
                gone, changed = sorted(chosen)[:4], sorted(chosen)[4:]
                new = list(range(fresh, fresh + 6))
                fresh += 6
                updates = ", ".join(
                    f"{postgres.quoted(c['name'])} = {world.value(at, key, 1000 + version)}"
                    for at, c in enumerate(world.columns)
                    if at
                )
                with connection.transaction():
                    connection.execute(f"UPDATE {SOURCE} SET {updates} WHERE {key} = ANY('{{{listed(changed)}}}')")
                    connection.execute(f"DELETE FROM {SOURCE} WHERE {key} = ANY('{{{listed(gone)}}}')")
                    made = f"SELECT {world.values('id', 1)} FROM unnest('{{{listed(new)}}}'::int8[]) AS id"
                    connection.execute(f"INSERT INTO {SOURCE} {made}")
                self.done.wait(self.chance.uniform(0.05, 0.3))
                self._apply(connection, version, gone, [*changed, *new])
                self.applied += len(gone) + len(changed) + len(new)

    def _apply(self, connection: Any, version: int, gone: list[int], changed: list[int]) -> None:
        world = self.world
        key = postgres.quoted(world.key)
        with (
            connection.cursor() as cursor,
            cursor.copy(
                f"COPY (SELECT {world.names}, {version}, 0 FROM {SOURCE} WHERE {key} IN ({listed(changed)})) TO STDOUT"
            ) as copy,
        ):
            body = b"".join(bytes(part) for part in copy)
        names = [*(column["name"] for column in world.columns), "version_", "deleted_"]
        world.warehouse.client().raw_insert(LIVE, names, body, settings=TEXT, fmt="TabSeparated")
        lines = "\n".join(f'{{"{world.key}": {one}, "version_": {version}, "deleted_": 1}}' for one in gone)
        world.warehouse.client().raw_insert(LIVE, [world.key, "version_", "deleted_"], lines, fmt="JSONEachRow")


def listed(keys: list[int]) -> str:
    """Return keys with commas."""
    return ", ".join(map(str, keys))
