"""The warehouse resource against the real engine."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from resources.errors import WarehouseError, WarehouseUnavailable
from resources.migrate import MigrationError, load, migrate
from resources.warehouse import WarehouseResource
from tests.conftest import free_port


@pytest.fixture
def warehouse(warehouse_url: str) -> WarehouseResource:
    return WarehouseResource(url=warehouse_url)


@pytest.fixture
def table(warehouse: WarehouseResource, unique: Callable[[str], str]) -> str:
    warehouse.command("CREATE DATABASE IF NOT EXISTS raw")
    name = "raw." + unique("table").replace("-", "_")
    warehouse.command(
        f"CREATE TABLE {name} (a Int64, b String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY a"
        " SETTINGS non_replicated_deduplication_window = 100"
    )
    return name


def test_rows_and_arrow_go_in_and_come_out(warehouse: WarehouseResource, table: str) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    warehouse.insert_rows(table, [{"a": 1, "b": "x\n;'é", "at": now}])
    warehouse.insert_arrow(table, pa.table({"a": [2], "b": pa.array([b"\xff"], pa.binary())}))
    rows = warehouse.query_rows(
        f"SELECT a, hex(b) AS b, at FROM {table} WHERE a <= {{top:Int64}} ORDER BY a", {"top": 2}
    )
    assert rows[0] == {"a": 1, "b": "x\n;'é".encode().hex().upper(), "at": now}
    assert rows[1]["b"] == "FF"
    assert warehouse.query_arrow(f"SELECT sum(a) AS s FROM {table}")["s"].to_pylist() == [3]
    with pytest.raises(TypeError):
        warehouse.insert_rows(table, [{"a": 1, "at": datetime(2026, 1, 1)}])  # noqa: DTZ001 (refused)


def test_a_token_is_taken_once(warehouse: WarehouseResource, table: str) -> None:
    for _ in range(3):
        warehouse.insert_arrow(table, pa.table({"a": [1, 2]}), token="same")
        warehouse.insert_rows(table, [{"a": 3}], token="other")
    assert warehouse.query_rows(f"SELECT count() AS rows FROM {table}") == [{"rows": 3}]


def test_errors_are_typed_and_hold_no_password() -> None:
    password = secrets.token_hex(8)
    gone = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{free_port()}", attempts=2)
    with pytest.raises(WarehouseUnavailable) as caught:
        gone.query_rows("SELECT 1")
    assert caught.value.sent is False
    assert password not in str(caught.value) + repr(caught.value) + repr(gone) + str(gone)


def test_a_refused_statement_or_password_is_permanent(warehouse: WarehouseResource, warehouse_url: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        warehouse.query_rows("SELECT nothing_of_this_name")
    assert (caught.value.code, isinstance(caught.value, WarehouseUnavailable)) == (47, False)
    stranger = WarehouseResource(url=warehouse_url.replace("isthmus:", "isthmus:wrong"))
    with pytest.raises(WarehouseError) as refused:
        stranger.query_rows("SELECT 1")
    assert not isinstance(refused.value, WarehouseUnavailable)


def _one(url: str) -> int:
    return int(WarehouseResource(url=url).query_rows("SELECT 1 AS one")[0]["one"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_one_client_serves_threads_and_children(warehouse: WarehouseResource, warehouse_url: str, method: str) -> None:
    assert warehouse.client() is WarehouseResource(url=warehouse_url).client()
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(_one, [warehouse_url] * 30)) == 30
    with multiprocessing.get_context(method).Pool(2) as children:
        assert children.map(_one, [warehouse_url] * 4) == [1] * 4


def _migrate(url: str) -> list[str]:
    return migrate(WarehouseResource(url=url))


def test_migrations_are_applied_once_by_whoever_is_first(warehouse_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        threads.map(_migrate, [warehouse_url] * 4)
    rows = WarehouseResource(url=warehouse_url).query_rows(
        "SELECT name, count() AS times FROM ops.migrations WHERE done = statements GROUP BY name ORDER BY name"
    )
    assert [(row["name"], row["times"]) for row in rows] == [(one.name, 1) for one in load()]
    assert _migrate(warehouse_url) == []


def test_an_edited_or_removed_migration_is_an_error(warehouse: WarehouseResource, tmp_path: Path) -> None:
    migrate(warehouse)
    for migration in load():
        (tmp_path / migration.name).write_text(migration.sql)
    last = tmp_path / load()[-1].name
    last.write_text(last.read_text() + "\n-- edited")
    with pytest.raises(MigrationError, match="edited"):
        migrate(warehouse, folder=tmp_path)
    last.unlink()
    with pytest.raises(MigrationError, match="does not have it"):
        migrate(warehouse, folder=tmp_path)


def test_a_lock_whose_holder_died_is_taken_over(warehouse: WarehouseResource) -> None:
    from resources.migrate import _acquire, _locks

    warehouse.command("CREATE DATABASE IF NOT EXISTS ops")
    number = int(_locks(warehouse)[-1][0][-8:]) + 1 if _locks(warehouse) else 1
    held = f"migration_lock_{number:08d}"
    create = f"CREATE TABLE ops.{held} (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT 'other/1/x {{}}'"
    warehouse.command(create.format("9999999999.0"))
    with pytest.raises(MigrationError, match="holds the migration lock"):
        _acquire(warehouse, "me", 0.3)
    warehouse.command(f"ALTER TABLE ops.{held} MODIFY COMMENT 'other/1/x 1.0'")
    taken = _acquire(warehouse, "me", 0.3)
    assert taken == f"migration_lock_{number + 1:08d}"
    warehouse.command(f"ALTER TABLE ops.{taken} MODIFY COMMENT ' 0.0'")
