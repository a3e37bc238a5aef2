"""Monitors of tables over time: each complete hour measured, judged by what is usual, all of them in one round.

What belongs here: the asset and its checks. What does not: measures and their history (``hours``), baselines and rounds
(``ml.monitors``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality import hours
from assets.quality.hours import Monitored, monitored
from ml.monitors.types import Measures
from resources.warehouse import WarehouseResource

MONITORS = dg.AssetKey(["quality", "monitors"])


def check_name(one: Monitored) -> str:
    """Return the name of a table's check."""
    return f"usual_{one.asset.replace('/', '_')}"


@dg.asset(
    key=MONITORS,
    deps=[dg.AssetKey(one.asset.split("/")) for one in monitored()],
    group_name="quality",
    owners=["team:data"],
    kinds={"clickhouse", "python"},
    description="Volume, silence, nulls and spread of tables by the hour, against what is usual then.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec(
            check_name(one),
            asset=MONITORS,
            description=f"The newest hours of {one.table} are as usual; one rate of false alarms over all monitors.",
            metadata={"severity": "WARN"},
        )
        for one in monitored()
    ],
    hooks={no_retry_of_permanent},
)
def quality_monitors(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]:
    """Measure the complete hours that were not measured yet, judge them round by round, keep both."""
    judged = watch(warehouse, monitored(), run_id=context.run_id, now=datetime.now(UTC))
    rows = [row for one in judged.values() for row in one]
    alarmed = [row for row in rows if row["alarms"]]
    yield dg.MaterializeResult(
        asset_key=MONITORS,
        metadata={
            "hours_judged": len(rows),
            "hours_learning": sum(row["state"] == "learning" for row in rows),
            "hours_alarmed": len(alarmed),
            "alarms": dg.MetadataValue.md(
                "\n".join(
                    f"- **{row['table_name']}** {row['hour']:%Y-%m-%d %H:%M}: {', '.join(row['alarms'])}"
                    for row in alarmed
                )
                or "None."
            ),
        },
    )
    for one in monitored():
        mine = judged[one.table]
        bad = [row for row in mine if row["alarms"]]
        learning = sum(row["state"] == "learning" for row in mine)
        said = "; ".join(f"{row['hour']:%Y-%m-%d %H:%M} {', '.join(row['alarms'])}" for row in bad[-3:])
        quiet = f"{len(mine)} hours as usual" + (f", of which {learning} only learned from" if learning else "")
        yield dg.AssetCheckResult(
            asset_key=MONITORS,
            check_name=check_name(one),
            passed=not bad,
            severity=dg.AssetCheckSeverity.WARN,
            description=said[:2000] or quiet,
            metadata={"hours": len(mine), "hours_alarmed": len(bad)},
        )


def watch(
    warehouse: hours.Warehouse, tables: tuple[Monitored, ...], *, run_id: str, now: datetime
) -> dict[str, list[dict[str, Any]]]:
    """Judge every complete hour since the last one that is kept; return the rows that were written, by table.

    A table's bins are taken at its first run. An hour that alarmed is never learned from.
    """
    from ml.monitors import baseline
    from ml.monitors.rounds import alarms

    last = int(now.timestamp()) // 3600 - 1
    fresh: dict[str, dict[int, Measures]] = {}
    bases: dict[str, baseline.Baseline] = {}
    for one in tables:
        fresh[one.table], base = _measured(warehouse, one, last, now)
        if base is not None:
            bases[one.table] = base
    rows: dict[str, list[dict[str, Any]]] = {one.table: [] for one in tables}
    for hour in sorted({hour for measures in fresh.values() for hour in measures}):
        p = {
            f"{table}/{name}": value
            for table, base in bases.items()
            if hour in fresh[table]
            for name, value in base.p(hour, fresh[table][hour]).items()
        }
        found = alarms(p)
        for table, measures in fresh.items():
            if hour in measures:
                mine = _of(table, p) if table in bases else None
                bad = sorted(name.split("/", 1)[1] for name in found if name.startswith(f"{table}/"))
                rows[table].append(hours.as_row(table, hour, measures[hour], mine, bad, run_id, now))
    for table, written in rows.items():
        warehouse.insert_rows(hours.HOURS, written, token=f"monitors/{run_id}/{table}")
    return rows


def _of(table: str, p: Mapping[str, float]) -> dict[str, float]:
    return {name.split("/", 1)[1]: value for name, value in p.items() if name.startswith(f"{table}/")}


def _measured(warehouse: hours.Warehouse, one: Monitored, last: int, now: datetime) -> tuple[dict[int, Measures], Any]:
    """Return a table's hours that were not measured yet, and its baseline, None where there is too little history."""
    from ml.monitors import baseline

    columns = hours.columns_of(warehouse, one)
    if not columns:
        return {}, None
    by = hours.read_references(warehouse, one.table)
    if not by:
        by = hours.learn_references(warehouse, one, columns)
        if by:
            hours.keep_references(warehouse, one.table, by, now)
    # A column that is gone counts as null: its nulls alarm, and the schema check says why.
    there = {name: bins for name, bins in by.items() if name in columns}
    known = hours.history(warehouse, one.table, last + 1)
    first = max(known) + 1 if known else hours.first_hour(warehouse, one, now)
    if first is None or first > last:
        return {}, None
    fresh = hours.measure_hours(warehouse, one, there, first, last)
    gone = {name: bins for name, bins in by.items() if name not in columns}
    for hour, measures in fresh.items():
        nulls = {**measures.nulls, **dict.fromkeys(gone, measures.rows)}
        counts = {**measures.counts, **{name: (0,) * (len(b.values or b.edges) + 1) for name, b in gone.items()}}
        fresh[hour] = Measures(measures.rows, measures.silence, nulls, counts)
    good = {hour: measures for hour, (measures, alarmed) in known.items() if not alarmed}
    try:
        return fresh, baseline.learn(list(good), list(good.values()))
    except baseline.TooShort:
        return fresh, None
