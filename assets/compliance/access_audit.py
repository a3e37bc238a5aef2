"""The audit of access as an asset: who read what personal data, day by day, and what stands out.

What belongs here: the asset, its history and its checks. What does not: reading logs (``resources.access``), what is
unusual (``ml.access``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from assets.compliance.limits import personal
from assets.compliance.retention import DAILY
from assets.permanent import no_retry_of_permanent
from assets.quality.pii import INVENTORY
from ml.access import Reader, unusual
from resources.access import Access, logged, opened
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.warehouse import Warehouse, WarehouseResource

ACCESS = dg.AssetKey(["compliance", "access_audit"])
TABLE = "ops.access_audit"
#: Days that are read again: the engine's own log reaches back three, and a late row is taken in.
BACK = 3
MEMORY = 90


@dg.asset(
    key=ACCESS,
    deps=[INVENTORY],
    group_name="compliance",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Who read what personal data by day: the warehouse's log of queries and the audit of what was opened.",
    code_version="1",
    freshness_policy=DAILY,
    hooks={no_retry_of_permanent},
    check_specs=[
        dg.AssetCheckSpec(
            "complete",
            asset=ACCESS,
            description="The log of queries is there and the days since the last look are in it.",
            metadata={"severity": "ERROR"},
        ),
        dg.AssetCheckSpec(
            "usual",
            asset=ACCESS,
            description="Nobody new read a table of persons, and nobody far more than ever.",
            metadata={"severity": "WARN"},
        ),
    ],
)
def access_audit(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Keep the newest days anew, each beside the days before it."""
    today = datetime.now(UTC).date()
    since = today - timedelta(days=BACK - 1)
    found = personal(warehouse)
    columns = [f"{table}.{column}" for table, names in found.columns.items() for column in sorted(names)]
    missing = "" if found.scanned else "nobody has looked for personal data yet: materialize quality/pii_inventory"
    last = _last_day(warehouse)
    if last is not None and last < since - timedelta(days=1):
        missing = f"nothing is known of the days from {last} to {since}: the log of queries reaches back {BACK} days"
    seen = opened(warehouse, since=since)
    try:
        seen += logged(warehouse, columns, since=since)
    except WarehouseUnavailable:
        raise
    except WarehouseError as error:
        missing = (
            f"the server's log of queries cannot be read ({type(error).__name__}): switch query_log on, and let the "
            "platform's user read it"
        )
    flagged = flags(seen, _past(warehouse, since), since)
    warehouse.insert_rows(
        TABLE,
        [_row(one, flagged.get((one.day, one.principal, one.table), []), context.run_id) for one in seen],
        token=f"access/{context.run_id}",
    )
    words = [f"{day} {who}, {table}: {'; '.join(why)}" for (day, who, table), why in sorted(flagged.items())]
    return dg.MaterializeResult(
        metadata={
            "principals": len({one.principal for one in seen}),
            "tables": len({one.table for one in seen}),
            "reads": sum(one.reads for one in seen),
            "unusual": words,
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=ACCESS,
                check_name="complete",
                passed=not missing,
                description=missing or f"{since} to {today} are kept",
            ),
            dg.AssetCheckResult(
                asset_key=ACCESS,
                check_name="usual",
                passed=not words,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(words)[:4000] or "as usual, or too little history to say",
            ),
        ],
    )


def flags(
    seen: Sequence[Access], past: Mapping[Reader, Mapping[date, int]], since: date
) -> dict[tuple[date, str, str], list[str]]:
    """Return what stands out of ``seen``: (day, principal, table) → reasons. A day's past are all days before it."""
    found: dict[tuple[date, str, str], list[str]] = {}
    known: dict[Reader, dict[date, int]] = {reader: dict(days) for reader, days in past.items()}
    for day in sorted({one.day for one in seen if one.day >= since}):
        rows: dict[Reader, int] = {}
        for one in seen:
            if one.day == day:
                reader = one.principal, one.table
                rows[reader] = rows.get(reader, 0) + one.rows
        days = len({at for by_day in known.values() for at in by_day})
        for (principal, table), why in unusual(rows, known, days=days).items():
            found[day, principal, table] = why
        for reader, count in rows.items():
            known.setdefault(reader, {})[day] = count
    return found


def _past(warehouse: Warehouse, before: date) -> dict[Reader, dict[date, int]]:
    sql = """
        SELECT principal, table_name, day, sum(rows) AS n FROM ops.access_audit FINAL
        WHERE day < {before:Date} AND day >= {first:Date} GROUP BY principal, table_name, day
    """
    found: dict[Reader, dict[date, int]] = {}
    for row in warehouse.query_rows(sql, {"before": before, "first": before - timedelta(days=MEMORY)}):
        found.setdefault((row["principal"], row["table_name"]), {})[row["day"]] = int(row["n"])
    return found


def _last_day(warehouse: Warehouse) -> date | None:
    row = warehouse.query_rows("SELECT count() AS n, max(day) AS day FROM ops.access_audit")[0]
    return row["day"] if row["n"] else None


def _row(one: Access, why: Sequence[str], run_id: str) -> dict[str, Any]:
    return {
        "day": one.day.isoformat(),
        "principal": one.principal,
        "store": one.store,
        "table_name": one.table,
        "purpose": one.purpose,
        "reads": one.reads,
        "rows": one.rows,
        "columns": list(one.columns),
        "unusual": list(why),
        "run_id": run_id,
    }
