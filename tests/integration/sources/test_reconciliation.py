"""Both stores' hashes are one, differences are found exactly, and repaired after a person said so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest

from assets.reconcile.engine import describe, reconcile
from assets.reconcile.repair import apply, propose
from assets.reconcile.source import SourceSnapshot, source_snapshot
from assets.reconcile.warehouse import WarehouseTable
from resources.decisions import DecisionConflict, DecisionStore
from resources.errors import SourceError
from resources.postgres import PostgresResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.services
ROWS = 3000
SOURCE_COLUMNS = """
    id bigint PRIMARY KEY, region text NOT NULL, note text, amount numeric(12,2) NOT NULL, quantity int,
    paid boolean NOT NULL, story text, share double precision, small smallint, day date, code uuid NOT NULL,
    made_at timestamptz NOT NULL, seen_at timestamp
"""
HELD_COLUMNS = """
    id Int64, region LowCardinality(String), note Nullable(String), amount Decimal(12, 2), quantity Nullable(Int32),
    paid Bool, story Nullable(String), share Nullable(Float64), small Nullable(Int16), day Nullable(Date32), code UUID,
    made_at DateTime64(6, 'UTC'), seen_at Nullable(DateTime64(6, 'UTC'))
"""
FILLED = """
    SELECT CASE WHEN n % 50 = 0 THEN -n * 1000000000000 ELSE n END, chr(97 + n % 5),
        CASE WHEN n % 7 > 0 THEN repeat('é', n % 45) END, (n - 1500) * 1.01, CASE WHEN n % 11 > 0 THEN n - 1500 END,
        n % 2 = 0, repeat('long ', n % 60),
        CASE n % 6 WHEN 0 THEN NULL WHEN 1 THEN 0 WHEN 2 THEN '-0' WHEN 3 THEN 'NaN' ELSE n / -7.0 END,
        (n % 300 - 150)::smallint, date '1969-06-01' + n, md5(n::text)::uuid,
        timestamptz '1999-12-31 23:00+00' + n * interval '1.000001 s',
        timestamp '1950-01-01' + n * interval '9 days 1 us'
    FROM generate_series(1, {rows}) AS n
"""


@pytest.fixture
def shop(
    postgres: str, own_warehouse: WarehouseResource, unique: Callable[[str], str]
) -> tuple[PostgresResource, WarehouseResource, str]:
    """A table in both stores; its name."""
    name = unique("orders").replace("-", "_")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} ({SOURCE_COLUMNS})")
        connection.execute(f"INSERT INTO {name} {FILLED.format(rows=ROWS)}")
        connection.execute(f"VACUUM ANALYZE {name}")
    own_warehouse.command(f"CREATE TABLE marts.{name} ({HELD_COLUMNS}) ENGINE = MergeTree ORDER BY id")
    fill(postgres, own_warehouse, name)
    return PostgresResource(url=postgres), own_warehouse, name


def fill(postgres: str, warehouse: WarehouseResource, name: str) -> None:
    with psycopg.connect(postgres, options="-c timezone=UTC") as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY {name} TO STDOUT") as copy:
            body = b"".join(bytes(part) for part in copy)
        names = [column.name for column in connection.execute(f"SELECT * FROM {name} LIMIT 0").description or ()]
    settings = {
        "date_time_input_format": "best_effort",
        "bool_true_representation": "t",
        "bool_false_representation": "f",
    }
    warehouse.client().raw_insert(f"marts.{name}", names, body, settings=settings, fmt="TabSeparated")


def test_both_stores_compute_the_same_hash(shop: tuple[PostgresResource, WarehouseResource, str]) -> None:
    postgres, warehouse, name = shop
    table, drift = describe(postgres, warehouse, f"public.{name}", f"marts.{name}")
    assert drift == ()
    held = WarehouseTable(table, warehouse)
    with source_snapshot(postgres, held.measure(), connections=2) as snapshot:
        keys, hashes = snapshot.hashes([(None, 0), (0, None)])
    theirs, sums = held.hashes([(None, None)])
    assert len(set(hashes.tolist())) == len(keys) == ROWS
    left, right = np.argsort(keys), np.argsort(theirs)
    assert np.array_equal(keys[left], theirs[right])
    assert np.array_equal(hashes[left], sums[right])


def broken(postgres: str, warehouse: WarehouseResource, name: str) -> dict[int, str]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"UPDATE {name} SET amount = -amount WHERE id = 17")
        connection.execute(f"UPDATE {name} SET note = NULL WHERE id = 90")  # it was empty
        connection.execute(f"UPDATE {name} SET quantity = NULL, small = 0 WHERE id = 1501")
        connection.execute(f"DELETE FROM {name} WHERE id = 2001")
        # Rows that moved to other pages and are as they were: no difference.
        connection.execute(f"UPDATE {name} SET region = region WHERE id % 97 = 1")
    one = "SETTINGS mutations_sync = 1"
    warehouse.command(f"ALTER TABLE marts.{name} DELETE WHERE id IN (1, 2999) {one}")
    warehouse.command(f"ALTER TABLE marts.{name} UPDATE seen_at = seen_at + INTERVAL 1 MICROSECOND WHERE id = 44 {one}")
    warehouse.command(f"ALTER TABLE marts.{name} UPDATE region = 'b ' WHERE id = 46 {one}")
    warehouse.command(
        f"INSERT INTO marts.{name} SELECT * REPLACE (123456 AS id) FROM (SELECT * FROM marts.{name} WHERE id = 5)"
    )
    warehouse.command(f"INSERT INTO marts.{name} SELECT * FROM marts.{name} WHERE id = 7")
    return {
        17: "changed", 90: "changed", 1501: "changed", 44: "changed", 46: "type_drift",
        2001: "extra", 123456: "extra", 7: "extra", 1: "missing", 2999: "missing",
    }  # fmt: skip


def test_exact_rows_are_found_proposed_approved_and_repaired(
    shop: tuple[PostgresResource, WarehouseResource, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres, warehouse, name = shop
    table, drift = describe(postgres, warehouse, f"public.{name}", f"marts.{name}")
    assert reconcile(postgres, warehouse, table).differences == ()
    expected = broken(postgres.url, warehouse, name)
    report = reconcile(postgres, warehouse, table, drift=drift)
    assert {one.key: one.kind for one in report.real} == expected
    assert {one.key: one.columns for one in report.real}[1501] == ("quantity", "small")
    # By buckets of the key's hash, as for keys that are no numbers.
    monkeypatch.setattr(SourceSnapshot, "divide", lambda *_: None)
    assert {one.key: one.kind for one in reconcile(postgres, warehouse, table).real} == expected
    monkeypatch.undo()

    sources = {"shop": {"url": postgres.url, "compare": {f"public.{name}": f"marts.{name}"}}}
    monkeypatch.setenv("ISTHMUS_SOURCES", json.dumps(sources))
    get_settings.cache_clear()
    try:
        decision = propose(warehouse, "shop", report, run_id="run")
        assert decision.status == "proposed"
        assert "é" not in json.dumps(decision.action), "a report holds keys, no values"
        store = DecisionStore(warehouse)
        with pytest.raises(DecisionConflict, match="no approval"):
            apply(store, warehouse, decision.decision_id, actor="ann")
        assert len(reconcile(postgres, warehouse, table).real) == len(expected), "nothing is repaired silently"
        store.approve(decision.decision_id, actor="ann", note="the source is right")
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"UPDATE {name} SET amount = -amount WHERE id = 17")  # agrees again by itself
        done = apply(store, warehouse, decision.decision_id, actor="ann")
        assert done.status == "applied"
        assert done.events[-1].details["repaired"] == len(expected) - 1
        assert reconcile(postgres, warehouse, table).differences == ()
        apply(store, warehouse, decision.decision_id, actor="ann")
        assert reconcile(postgres, warehouse, table).differences == ()
    finally:
        get_settings.cache_clear()


def test_rows_in_flight_are_no_difference(shop: tuple[PostgresResource, WarehouseResource, str]) -> None:
    postgres, warehouse, name = shop
    table, _ = describe(postgres, warehouse, f"public.{name}", f"marts.{name}")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {name} SET quantity = 1 WHERE id IN (3, 4)")
        connection.execute(f"DELETE FROM {name} WHERE id = 6")
        connection.execute(f"UPDATE {name} SET quantity = 2 WHERE id = 9")
        looks: list[float] = []

        def meanwhile(seconds: float) -> None:
            """The warehouse catches up with rows 3 and 6 at the first look; row 9 changes before each."""
            looks.append(seconds)
            if len(looks) == 1:
                one = "SETTINGS mutations_sync = 1"
                warehouse.command(f"ALTER TABLE marts.{name} UPDATE quantity = 1 WHERE id = 3 {one}")
                warehouse.command(f"ALTER TABLE marts.{name} DELETE WHERE id = 6 {one}")
            connection.execute(f"UPDATE {name} SET quantity = {len(looks) + 10} WHERE id = 9")

        now = iter(range(10_000))
        report = reconcile(postgres, warehouse, table, lag=100.0, clock=lambda: float(next(now)), sleep=meanwhile)
    assert {one.key: one.kind for one in report.differences} == {4: "changed", 9: "late"}
    assert [one.key for one in report.real] == [4]
    assert report.in_flight == 3
    assert 50 < looks[0] <= 100


def test_keys_that_are_no_numbers(
    postgres: str, own_warehouse: WarehouseResource, unique: Callable[[str], str]
) -> None:
    name = unique("keys").replace("-", "_")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (a text, b int, v int NOT NULL, PRIMARY KEY (a, b))")
        connection.execute(f"INSERT INTO {name} SELECT 'k' || n % 40, n, n FROM generate_series(1, 900) AS n")
        own_warehouse.command(
            f"CREATE TABLE marts.{name} (a String, b Int32, v Int32) ENGINE = MergeTree ORDER BY (a, b)"
        )
        fill(postgres, own_warehouse, name)
        connection.execute(f"UPDATE {name} SET v = 0 WHERE b = 77")
    resource = PostgresResource(url=postgres)
    table, _ = describe(resource, own_warehouse, f"public.{name}", f"marts.{name}")
    (found,) = reconcile(resource, own_warehouse, table).real
    assert (found.key, found.kind, found.columns) == ("k37\x1f77", "changed", ("v",))


def test_types_that_drift_are_told_and_the_rest_compared(
    shop: tuple[PostgresResource, WarehouseResource, str],
) -> None:
    postgres, warehouse, name = shop
    warehouse.command(f"ALTER TABLE marts.{name} DROP COLUMN small")
    warehouse.command(f"ALTER TABLE marts.{name} ADD COLUMN extra String")
    warehouse.command(f"ALTER TABLE marts.{name} MODIFY COLUMN quantity Nullable(String) SETTINGS mutations_sync = 1")
    table, drift = describe(postgres, warehouse, f"public.{name}", f"marts.{name}")
    assert drift == (
        "quantity: integer in the source, Nullable(String) in the warehouse",
        "small: the warehouse lacks it",
        "extra: the source lacks it",
    )
    assert reconcile(postgres, warehouse, table).differences == ()
    with pytest.raises(SourceError, match="the warehouse has no table"):
        describe(postgres, warehouse, f"public.{name}", "marts.nowhere")


def test_empty_tables_agree(postgres: str, own_warehouse: WarehouseResource, unique: Callable[[str], str]) -> None:
    name = unique("empty").replace("-", "_")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text)")
        own_warehouse.command(
            f"CREATE TABLE marts.{name} (id Int32, v Nullable(String)) ENGINE = MergeTree ORDER BY id"
        )
        resource = PostgresResource(url=postgres)
        table, _ = describe(resource, own_warehouse, f"public.{name}", f"marts.{name}")
        assert reconcile(resource, own_warehouse, table).differences == ()
        own_warehouse.insert_rows(f"marts.{name}", [{"id": 1, "v": None}])
        assert [one.kind for one in reconcile(resource, own_warehouse, table).real] == ["extra"]
        connection.execute(f"INSERT INTO {name} VALUES (2, NULL), (1, NULL)")
        assert [one.key for one in reconcile(resource, own_warehouse, table).real] == [2]


def test_the_assets_copy_compare_and_check(
    shop: tuple[PostgresResource, WarehouseResource, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    from assets.sources import source_reconciliation, source_rows

    postgres, warehouse, name = shop
    sources: dict[str, Any] = {
        "shop": {
            "url": postgres.url,
            "tables": [f"public.{name}"],
            "compare": {f"public.{name}": f"marts.{name}"},
            "lag_seconds": 0,
        }
    }
    monkeypatch.setenv("ISTHMUS_SOURCES", json.dumps(sources))
    get_settings.cache_clear()
    try:
        with dg.DagsterInstance.ephemeral() as instance:

            def run() -> dict[str, bool]:
                done = dg.materialize(
                    [source_rows, source_reconciliation], instance=instance, resources={"warehouse": warehouse},
                    raise_on_error=False,
                )  # fmt: skip
                return {one.check_name: one.passed for one in done.get_asset_check_evaluations()}

            assert run() == {"whole": True, "agrees": True, "types": True}
            warehouse.command(f"ALTER TABLE marts.{name} DELETE WHERE id = 8 SETTINGS mutations_sync = 1")
            assert run() == {"whole": True, "agrees": False, "types": True}
    finally:
        get_settings.cache_clear()
    (decision,) = DecisionStore(warehouse).list(kind="data_repair", subject=f"marts.{name}")
    assert [row["key"] for row in decision.action["rows"]] == ["8"]
    (row,) = warehouse.query_rows(
        f"SELECT differences, rows_source FROM quality.reconciliations WHERE warehouse_table = 'marts.{name}'"
        " ORDER BY reconciled_at DESC LIMIT 1"
    )
    assert row == {"differences": 1, "rows_source": ROWS}
