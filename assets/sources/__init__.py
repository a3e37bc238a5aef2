"""Operational sources: tables of PostgreSQL and collections of MongoDB, copied into ``raw`` and compared.

What belongs here: the assets and what they tell. What does not: copying (``snapshot.py``), comparing
(``assets.reconcile``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.resting import decides
from assets.sources.snapshot import Copied, copy
from resources.errors import ResourceError, SourceError, Unavailable
from resources.settings import Source, get_settings
from resources.warehouse import Warehouse, WarehouseResource

if TYPE_CHECKING:
    from assets.reconcile.engine import Report

SOURCE_ROWS = dg.AssetKey(["raw", "source_rows"])
RECONCILIATION = dg.AssetKey(["quality", "source_reconciliation"])
#: The check that decisions may rest on.
AGREES = dg.AssetCheckKey(RECONCILIATION, "agrees")
_RETRIES = 3
_POSTGRES = ("postgresql://", "postgres://")
_MONGO = ("mongodb://", "mongodb+srv://")
_DAILY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


@dg.asset(
    key=SOURCE_ROWS,
    group_name="sources",
    owners=["team:platform"],
    kinds={"clickhouse", "postgres", "mongodb"},
    hooks={no_retry_of_permanent},
    description="The configured sources' tables and collections, each row once: read raw.source_current.",
    code_version="1",
    pool="sources",  # two copies of one table would drop each other's pages
    freshness_policy=_DAILY,
    check_specs=[
        dg.AssetCheckSpec("whole", asset=SOURCE_ROWS, description="Every table has a whole copy of this run.")
    ],
)
def source_rows(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Copy each table; one that cannot be copied now is tried again, the others are not copied twice."""
    run = context.run.root_run_id or context.run_id
    copied: dict[str, Copied] = {}
    failed: dict[str, ResourceError] = {}
    for name, source in get_settings().sources.items():
        for table in source.tables:
            try:
                copied[f"{name}/{table}"] = copy_table(warehouse, name, source, table, run_id=run)
            except ResourceError as error:
                failed[f"{name}/{table}"] = error
    if any(isinstance(error, Unavailable) for error in failed.values()) and context.retry_number < _RETRIES:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=2.0 ** (context.retry_number + 1))
    words = "; ".join(f"{table}: {error}" for table, error in failed.items())
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(one.rows for one in copied.values()),
            "tables": dg.MetadataValue.json(
                {table: {"rows": one.rows, "pages": one.pages, "resumed": one.resumed} for table, one in copied.items()}
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=SOURCE_ROWS,
                check_name="whole",
                passed=not failed,
                description=words or f"{len(copied)} tables copied",
            )
        ],
    )


def compared(tables: Iterable[str]) -> bool:
    """Return whether one of these assets (``marts/fct_sagas``) is a table that is compared with a source."""
    targets = {target for source in get_settings().sources.values() for target in source.compare.values()}
    return any(table.replace("/", ".") in targets for table in tables)


def copy_table(warehouse: Warehouse, name: str, source: Source, table: str, *, run_id: str) -> Copied:
    """Copy one table or collection of a source; raises :class:`SourceError` where the URL is of neither kind."""
    url = source.url.get_secret_value()
    if url.startswith(_POSTGRES):
        from assets.sources.postgres import postgres_origin
        from resources.postgres import PostgresResource

        with postgres_origin(PostgresResource(url=url), table) as origin:
            return copy(origin, warehouse, source=name, table=table, run_id=run_id)
    if url.startswith(_MONGO):
        from assets.sources.mongo import mongo_origin
        from resources.mongo import MongoResource

        with mongo_origin(MongoResource(url=url), table, run_id=run_id) as collection:
            return copy(collection, warehouse, source=name, table=table, run_id=run_id)
    raise SourceError(f"source {name}: the URL begins neither with postgresql:// nor with mongodb://")


def compare_table(warehouse: Warehouse, name: str, source: Source, table: str, target: str) -> "Report":
    """Compare one table or collection of a source; raises :class:`SourceError` where the URL is of neither kind."""
    url = source.url.get_secret_value()
    if url.startswith(_POSTGRES):
        from assets.reconcile.engine import describe, reconcile
        from resources.postgres import PostgresResource

        postgres = PostgresResource(url=url)
        described, drift = describe(postgres, warehouse, table, target)
        return reconcile(postgres, warehouse, described, lag=source.lag_seconds, drift=drift)
    if url.startswith(_MONGO):
        from assets.reconcile.documents import reconcile_collection
        from resources.mongo import MongoResource

        mongo = MongoResource(url=url)
        return reconcile_collection(mongo, warehouse, name, table, target, lag=source.lag_seconds)
    raise SourceError(f"source {name}: the URL begins neither with postgresql:// nor with mongodb://")


@dg.asset(
    key=RECONCILIATION,
    deps=[SOURCE_ROWS],  # copies that are compared are tonight's
    group_name="sources",
    owners=["team:platform"],
    kinds={"clickhouse", "postgres", "mongodb"},
    hooks={no_retry_of_permanent},
    description="The warehouse's tables compared with the sources that they follow, to the rows that differ; repairs "
    "are proposed as decisions.",
    code_version="1",
    metadata=decides("data_repair", rests_on=[AGREES]),
    pool="sources",
    freshness_policy=_DAILY,
    check_specs=[
        dg.AssetCheckSpec(
            "agrees", asset=RECONCILIATION, blocking=True, description="No row differs that was not in flight."
        ),
        dg.AssetCheckSpec("types", asset=RECONCILIATION, description="Both sides have the same columns."),
    ],
)
def source_reconciliation(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Compare each table, keep the report, propose a repair where rows differ."""
    from assets.reconcile.engine import Report
    from assets.reconcile.repair import propose

    reports: list[tuple[str, Report]] = []
    wrong: list[str] = []
    for name, source in get_settings().sources.items():
        for table, target in source.compare.items():
            try:
                report = compare_table(warehouse, name, source, table, target)
            except Unavailable as error:
                raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=10) from error
            except ResourceError as error:
                wrong.append(f"{name}/{table}: {error}")
                continue
            reports.append((name, report))
            if report.real:
                decision = propose(warehouse, name, report, run_id=context.run_id)
                wrong.append(
                    f"{name}/{table}: {len(report.real)} rows differ, repair proposed as {decision.decision_id}"
                )
    now = datetime.now(UTC)
    warehouse.insert_rows(
        "quality.reconciliations",
        [
            {
                "reconciled_at": now,
                "source": name,
                "table_name": report.source,
                "warehouse_table": report.warehouse,
                "rows_source": report.rows_source,
                "rows_warehouse": report.rows_warehouse,
                "in_flight": report.in_flight,
                "differences": len(report.real),
                "report": json.dumps(report.as_record()),
                "seconds": report.seconds,
                "run_id": context.run_id,
            }
            for name, report in reports
        ],
        token=f"reconciliation/{context.run_id}",
    )
    drift_words = [f"{report.source}: {words}" for _, report in reports for words in report.drift]
    return dg.MaterializeResult(
        metadata={
            "tables": len(reports),
            "rows": sum(report.rows_source for _, report in reports),
            "differences": sum(len(report.real) for _, report in reports),
            "in_flight": sum(report.in_flight for _, report in reports),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=RECONCILIATION,
                check_name="agrees",
                passed=not wrong,
                description="; ".join(wrong)[:4000] or f"{len(reports)} tables agree with their sources",
            ),
            dg.AssetCheckResult(
                asset_key=RECONCILIATION,
                check_name="types",
                passed=not drift_words,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(drift_words)[:4000] or "no column drifted",
            ),
        ],
    )
