"""Saga tables as dbt leaves them, small and seeded, made by hand so that these tests need no dbt run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from resources.warehouse import WarehouseResource

STEPS = (("reserve", "inventory", 40.0), ("charge", "payment", 120.0), ("notify", "notification", 15.0))

_TABLES = {
    "staging.stg_saga_events": """
        saga_type LowCardinality(String), saga_id String, source LowCardinality(String), event_id String,
        event_type LowCardinality(String), event_time DateTime64(6, 'UTC'), step LowCardinality(String),
        participant LowCardinality(String), attempt UInt32, status LowCardinality(String), worker Nullable(String),
        error Nullable(String), duration_ms Nullable(Float64), load Nullable(Float64), amount Nullable(Float64),
        currency Nullable(String), reason Nullable(String), attributes String, topic LowCardinality(String),
        partition Int32, offset Int64, appended_at DateTime64(3, 'UTC')""",
    "marts.fct_sagas": """
        saga_id String, saga_type LowCardinality(String), started_at Nullable(DateTime64(6, 'UTC')),
        ended_at Nullable(DateTime64(6, 'UTC')), status LowCardinality(Nullable(String)), abort_reason Nullable(String),
        amount Nullable(Float64), steps UInt32, retries UInt32, compensations UInt32, duration_ms Nullable(Float64),
        last_event_at DateTime64(6, 'UTC'), last_appended_at DateTime64(3, 'UTC')""",
    "marts.fct_saga_steps": """
        saga_id Nullable(String), saga_type LowCardinality(String), step LowCardinality(Nullable(String)),
        participant LowCardinality(Nullable(String)), attempt UInt32, step_number UInt32,
        opened_at DateTime64(6, 'UTC'), scheduled_at Nullable(DateTime64(6, 'UTC')),
        started_at Nullable(DateTime64(6, 'UTC')),
        ended_at Nullable(DateTime64(6, 'UTC')), status LowCardinality(Nullable(String)), queue_ms Nullable(Float64),
        run_ms Nullable(Float64), load Nullable(Float64), retries UInt32,
        is_compensated UInt8, error Nullable(String)""",
}


def build(warehouse: WarehouseResource, *, sagas: int = 300, seed: int = 7, landed_at: datetime | None = None) -> None:
    """Make the tables anew with ``sagas`` orders of three steps each; some steps fail once and are tried again."""
    for name, columns in _TABLES.items():
        warehouse.command(f"DROP TABLE IF EXISTS {name} SYNC")
        warehouse.command(f"CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
    warehouse.command("TRUNCATE TABLE raw.events")
    warehouse.command("TRUNCATE TABLE raw.landings")
    rng = np.random.default_rng(seed)
    now = landed_at or datetime.now(UTC)
    saga_rows, step_rows, event_rows, raw_rows = [], [], [], []
    offset = 0
    for number in range(sagas):
        saga = f"order-{number:06d}"
        at = now - timedelta(hours=20) + timedelta(seconds=60.0 * number)
        began, retries, failed = at, 0, False
        for position, (step, participant, base) in enumerate(STEPS, start=1):
            for attempt in (1, 2, 3):
                load = float(rng.gamma(3.0, 4.0))
                run = float(base * (1 + 0.08 * load) * rng.lognormal(0.0, 0.25))
                broke = bool(rng.random() < (0.12 if step == "charge" else 0.02))
                queue = float(rng.exponential(5.0))
                step_rows.append(
                    {
                        "saga_id": saga, "saga_type": "order", "step": step, "participant": participant,
                        "attempt": attempt, "step_number": position, "opened_at": at, "scheduled_at": at,
                        "started_at": at + timedelta(milliseconds=queue),
                        "ended_at": at + timedelta(milliseconds=queue + run),
                        "status": "failed" if broke else "completed", "queue_ms": queue, "run_ms": run, "load": load,
                        "retries": attempt - 1, "is_compensated": 0, "error": "unavailable" if broke else None,
                    }
                )  # fmt: skip
                event = {
                    "saga_type": "order", "saga_id": saga, "source": f"/shop/{participant}",
                    "event_id": f"{saga}/{step}/{attempt}", "event_type": "isthmus.saga.step", "event_time": at,
                    "step": step, "participant": participant, "attempt": attempt,
                    "status": "failed" if broke else "completed", "duration_ms": run, "load": load, "attributes": "{}",
                    "topic": "isthmus.sagas", "partition": 0, "offset": offset, "appended_at": now,
                }  # fmt: skip
                event_rows.append(event)
                raw_rows.append(
                    {
                        "topic": "isthmus.sagas", "partition": 0, "offset": offset, "appended_at": now, "key": saga,
                        "value": json.dumps(
                            {"specversion": "1.0", "id": event["event_id"], "source": event["source"],
                             "type": "isthmus.saga.step", "subject": saga, "time": at.isoformat()}
                        ),
                    }
                )  # fmt: skip
                offset += 1
                at += timedelta(milliseconds=queue + run)
                if not broke:
                    break
                retries += 1
                failed = failed or attempt == 3
        saga_rows.append(
            {
                "saga_id": saga, "saga_type": "order", "started_at": began, "ended_at": at,
                "status": "aborted" if failed else "completed", "abort_reason": "technical" if failed else None,
                "amount": float(rng.lognormal(4.0, 0.6)), "steps": 3, "retries": retries, "compensations": 0,
                "duration_ms": (at - began).total_seconds() * 1000, "last_event_at": at, "last_appended_at": now,
            }
        )  # fmt: skip
    warehouse.insert_rows("staging.stg_saga_events", event_rows)
    warehouse.insert_rows("marts.fct_sagas", saga_rows)
    warehouse.insert_rows("marts.fct_saga_steps", step_rows)
    warehouse.insert_rows("raw.events", raw_rows)
    land(warehouse, offset, now)


def land(warehouse: WarehouseResource, rows: int, landed_at: datetime) -> None:
    """Note in the ledger that ``rows`` offsets landed at ``landed_at``."""
    warehouse.insert_arrow(
        "raw.landings",
        pa.table(
            {
                "landing_id": [f"isthmus.sagas/0/0-{rows}"], "topic": ["isthmus.sagas"],
                "partition": pa.array([0], pa.int32()), "from_offset": [0], "to_offset": [rows],
                "rows": pa.array([rows], pa.uint64()), "bytes": pa.array([0], pa.uint64()), "run_id": ["by-hand"],
                "landed_at": pa.array([landed_at], pa.timestamp("us", "UTC")),
            }
        ),
    )  # fmt: skip
