"""What a decision rests on, read from the Dagster instance and the warehouse as they are now.

What belongs here: reading materializations, check evaluations and landing times. What does not: judging them
(``ml.decisions``).

A blocking check of Dagster holds back only its own run, and only what is downstream of it there. So a decision reads
the evaluations itself, in whichever run it is made.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)

from assets.quality.catalogue import suites
from assets.quality.pushdown import evaluate
from assets.quality.report import DATA_VERSION, check_key
from assets.sources import AGREES, compared
from ml.decisions import CheckRead, InputRead, Severity
from resources.warehouse import WarehouseResource

#: Tables that saga policies are computed from, or that vouch for these.
INPUTS = ("staging/stg_saga_events", "marts/fct_sagas", "marts/fct_saga_steps")
#: Upstream of the inputs. Landing never rests, so its checks are read for what they say, not for which version.
UPSTREAM = ("raw/events",)

TOPIC = "isthmus.sagas"


def read_inputs(
    instance: dg.DagsterInstance, warehouse: WarehouseResource, *, saga_type: str, max_age: timedelta
) -> tuple[InputRead, ...]:
    """Return the inputs' newest materializations, with the newest landing of the saga type that they hold."""
    landed_at = _landed_at(warehouse, saga_type)
    reads = []
    for asset in INPUTS:
        records = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=1).records
        record = records[0] if records else None
        materialization = record.asset_materialization if record else None
        reads.append(
            InputRead(
                asset=asset,
                data_version=(materialization.tags or {}).get("dagster/data_version") if materialization else None,
                version=record.storage_id if record else None,
                run_id=record.run_id if record else None,
                materialized_at=datetime.fromtimestamp(record.timestamp, UTC) if record else None,
                landed_at=landed_at,
                max_age=max_age,
            )
        )
    return tuple(reads)


def read_checks(instance: dg.DagsterInstance, blocking: Iterable[dg.AssetCheckKey] = ()) -> tuple[CheckRead, ...]:
    """Return the newest finished evaluation of every check that a saga policy rests on; None passed where none is.

    These are the suites' checks at ERROR on the inputs and what lies upstream, and ``blocking``: the checks of the code
    location that are declared so, such as landing's and dbt's; and the comparison with a source that an input follows.
    """
    required = of_suites(INPUTS + UPSTREAM)
    for key in blocking:
        if key.asset_key.to_user_string() in INPUTS + UPSTREAM:
            required.setdefault(key, "ERROR")
    if compared(INPUTS):
        required[AGREES] = "ERROR"
    return tuple(
        _newest(instance, key, severity) for key, severity in sorted(required.items(), key=lambda item: item[0])
    )


def of_suites(tables: Iterable[str]) -> dict[dg.AssetCheckKey, Severity]:
    """Return the checks of the written suites on these assets, with their severity."""
    wanted = set(tables)
    return {
        check_key(suite, check): check.severity for suite in suites() if suite.asset in wanted for check in suite.checks
    }


def _newest(instance: dg.DagsterInstance, key: dg.AssetCheckKey, severity: Severity) -> CheckRead:
    asset = key.asset_key.to_user_string()
    # A check that a running or crashed run has planned says nothing yet; the one before it still names what it saw.
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=COMPLETED)
    evaluation = records[0].evaluation if records else None
    if evaluation is None:
        return CheckRead(asset, key.name, None, severity)
    entry = records[0].event
    target = evaluation.target_materialization_data
    version = evaluation.metadata.get(DATA_VERSION)
    return CheckRead(
        asset=asset,
        check=key.name,
        passed=evaluation.passed,
        # A check may report a lesser severity than its declaration; a failure that only warns refuses nothing.
        severity=severity if evaluation.passed else _lesser(severity, evaluation.severity.value),
        evaluated_at=datetime.fromtimestamp(entry.timestamp, UTC) if entry else None,
        run_id=records[0].run_id,
        version=target.storage_id if target else None,
        data_version=str(version.value) if version else None,
        detail=(evaluation.description or "")[:500],
    )


def _lesser(declared: Severity, reported: str) -> Severity:
    return "WARN" if "WARN" in (declared, reported) else "ERROR"


def live_checks(warehouse: WarehouseResource, tables: Iterable[str], *, run_id: str) -> tuple[CheckRead, ...]:
    """Return the suites' checks at ERROR on these assets, evaluated on what the tables hold right now."""
    wanted, now = set(tables), datetime.now(UTC)
    outcomes = evaluate(
        warehouse,
        [suite for suite in suites() if suite.asset in wanted],
        chosen=lambda _, check: check.severity == "ERROR",
    )
    reads = []
    for outcome in outcomes:
        key = check_key(outcome.suite, outcome.check)
        asset = key.asset_key.to_user_string()
        detail = "" if outcome.success else outcome.message[:500]
        reads.append(CheckRead(asset, key.name, outcome.success, evaluated_at=now, run_id=run_id, detail=detail))
    return tuple(reads)


def live_failures(warehouse: WarehouseResource) -> list[str]:
    """Return what the suites at ERROR find in the inputs right now: a table may have changed since it was checked."""
    inputs = [suite for suite in suites() if suite.asset in INPUTS]
    outcomes = evaluate(warehouse, inputs, chosen=lambda _, check: check.severity == "ERROR")
    return [
        f"{outcome.suite.asset}: check {outcome.check.name} fails now: {outcome.message[:500]}"
        for outcome in outcomes
        if not outcome.success
    ]


def saga_types(warehouse: WarehouseResource) -> Sequence[str]:
    """Return the saga types that have steps."""
    rows = warehouse.query_rows("SELECT DISTINCT toString(saga_type) AS saga_type FROM marts.fct_saga_steps ORDER BY 1")
    return [row["saga_type"] for row in rows if row["saga_type"]]


def _landed_at(warehouse: WarehouseResource, saga_type: str) -> datetime | None:
    """Return when the newest event of the saga type that the marts hold was landed on the bus; None where unknown."""
    from resources.errors import WarehouseError, WarehouseUnavailable

    sql = """
        SELECT count() AS sagas, max(last_appended_at) AS newest
        FROM marts.fct_sagas WHERE saga_type = {saga_type:String}
    """
    try:
        row = warehouse.query_rows(sql, {"saga_type": saga_type})[0]
    except WarehouseUnavailable:
        raise
    except WarehouseError:
        return None  # the table is gone or has lost the column; unknown refuses, and the schema check says why
    return row["newest"] if row["sagas"] else None


def trace_id(instance: dg.DagsterInstance, warehouse: WarehouseResource, run_id: str) -> str:
    """Return the W3C trace id that the run carries on: its tag, else that of the newest landed event, else its own."""
    run = instance.get_run_by_id(run_id)
    tagged = run.tags.get("isthmus/trace_id") if run else None
    if tagged:
        return tagged
    # The ledger names the newest offset, so that one row is read by its primary key.
    sql = """
        SELECT tupleElement(envelope, 'traceparent') AS traceparent FROM raw.events
        WHERE (topic, partition, generation, offset) IN (
            SELECT topic, partition, generation, to_offset - 1 FROM raw.landings FINAL
            WHERE topic = {topic:String} ORDER BY landed_at DESC LIMIT 1)
        LIMIT 1
    """
    rows = warehouse.query_rows(sql, {"topic": TOPIC})
    parts = rows[0]["traceparent"].split("-") if rows else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else run_id.replace("-", "")
