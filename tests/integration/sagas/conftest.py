"""Staging filled straight from a source: no bus, no dbt."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from resources.warehouse import WarehouseResource

STAGING = "staging.stg_saga_events"
DDL = """CREATE TABLE {table} (
    saga_type LowCardinality(String), saga_id String, source String, event_id String,
    event_type LowCardinality(String), event_time DateTime64(6, 'UTC'), step LowCardinality(String),
    participant LowCardinality(String), attempt UInt32, status LowCardinality(String), worker Nullable(String),
    duration_ms Nullable(Float64), load Nullable(Float64), amount Nullable(Float64), reason Nullable(String),
    error Nullable(String), currency Nullable(String), attributes String, topic LowCardinality(String),
    partition Int32, offset Int64,
    appended_at DateTime64(3, 'UTC') DEFAULT toDateTime64('2026-01-01 00:00:00', 3, 'UTC')
) ENGINE = MergeTree ORDER BY (saga_type, saga_id)"""


def stage(warehouse: WarehouseResource, table: pa.Table, *, name: str = STAGING) -> None:
    """Replace a staging table by these events, in an order that tells nothing."""
    warehouse.command(f"DROP TABLE IF EXISTS {name} SYNC")
    warehouse.command(DDL.format(table=name))
    backwards = table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64()))
    warehouse.insert_arrow(name, backwards)


def data_folder() -> Path:
    """Return the loan applications' folder; the test is skipped where it is not there."""
    from resources.settings import get_settings

    folder = get_settings().data / "saga_bpic2012"
    if not (folder / "events.parquet").exists():
        pytest.skip(f"{folder} is not there")
    return folder
