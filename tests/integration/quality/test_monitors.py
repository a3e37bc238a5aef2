"""Monitors on a real warehouse: what is kept of an hour, and which hour alarms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from assets.quality import hours
from assets.quality.hours import Monitored, MonitoredError, monitored
from assets.quality.monitors import watch
from ml.monitors.measures import measure
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(120)

NOW = datetime.now(UTC).replace(minute=10, second=0, microsecond=0)
TABLE = Monitored("marts/watched", "marts.watched", "came_at")


def fill(warehouse: WarehouseResource, first: datetime, count: int, *, seed: int, wrong: bool = False) -> None:
    random = np.random.default_rng(seed)
    rows = count * 120
    amount = random.lognormal(3, 0.5, rows) * (100 if wrong else 1)
    warehouse.insert_arrow(
        "marts.watched",
        pa.table(
            {
                "kind": random.choice(["web", "app"], rows),
                "amount": pa.array(amount, mask=random.random(rows) < (0.6 if wrong else 0.05)),
                "came_at": pa.array(
                    [first + timedelta(seconds=30.0 * number) for number in range(rows)], pa.timestamp("ms", "UTC")
                ),
            }
        ),
    )


@pytest.fixture
def watched(own_warehouse: WarehouseResource) -> WarehouseResource:
    own_warehouse.command("CREATE DATABASE IF NOT EXISTS marts")
    own_warehouse.command("DROP TABLE IF EXISTS marts.watched SYNC")
    own_warehouse.command(
        "CREATE TABLE marts.watched (kind LowCardinality(String), amount Nullable(Float64), "
        "came_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY came_at"
    )
    for table in (hours.HOURS, hours.REFERENCES):
        own_warehouse.command(f"TRUNCATE TABLE {table}")
    return own_warehouse


def test_a_wrong_hour_alarms_and_a_good_one_does_not(watched: WarehouseResource) -> None:
    begin = NOW.replace(minute=0) - timedelta(hours=100)
    fill(watched, begin, 97, seed=1)
    first = watch(watched, (TABLE,), run_id="a", now=NOW - timedelta(hours=3))[TABLE.table]
    assert {row["state"] for row in first} == {"learning"}
    fill(watched, begin + timedelta(hours=97), 1, seed=2)
    fill(watched, begin + timedelta(hours=98), 1, seed=3, wrong=True)
    quiet, wrong, silent = watch(watched, (TABLE,), run_id="b", now=NOW)[TABLE.table]
    assert quiet["state"] == "quiet", quiet
    assert {"nulls:amount", "spread:amount"} <= set(wrong["alarms"])
    assert {"volume", "silence"} <= set(silent["alarms"]), "the feed stopped"
    assert watch(watched, (TABLE,), run_id="c", now=NOW)[TABLE.table] == [], "an hour is judged once"


def test_the_warehouse_measures_what_arrays_do(watched: WarehouseResource) -> None:
    begin = NOW.replace(minute=0) - timedelta(hours=50)
    fill(watched, begin, 2, seed=4)
    by = hours.learn_references(watched, TABLE, hours.columns_of(watched, TABLE))
    hour = int(begin.timestamp()) // 3600
    ours = hours.measure_hours(watched, TABLE, by, hour, hour)[hour]
    frame = watched.query_arrow(
        "SELECT kind::String AS kind, amount, came_at FROM marts.watched ORDER BY came_at"
    ).to_pandas()
    frame = frame.iloc[:120]
    arrival = frame["came_at"].dt.tz_convert(None).to_numpy("datetime64[us]").view(np.int64)
    theirs = measure(frame, by, arrival, (hour * 3_600_000_000, (hour + 1) * 3_600_000_000))
    assert (ours.rows, dict(ours.nulls), dict(ours.counts)) == (theirs.rows, dict(theirs.nulls), dict(theirs.counts))


def test_a_table_that_is_not_there_is_passed_over(own_warehouse: WarehouseResource) -> None:
    gone = Monitored("marts/gone", "marts.gone", "came_at")
    assert watch(own_warehouse, (gone,), run_id="a", now=NOW) == {"marts.gone": []}


def test_the_list_of_tables_is_read_strictly(tmp_path: object) -> None:
    assert {one.asset for one in monitored()} >= {"raw/events", "marts/fct_sagas"}
    from pathlib import Path

    path = Path(str(tmp_path)) / "monitored.yml"
    path.write_text("- {asset: a/b, table: a.b, tme: t}")
    with pytest.raises(MonitoredError, match=r"monitored\.yml"):
        monitored(path)
