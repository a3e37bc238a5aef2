"""The quality report: every suite evaluated, each check attached to the table that it is about.

What belongs here: the Dagster asset and its check specs. What does not: suites (``catalogue``), their evaluation
(``pushdown``, ``ml.quality``) and the pages (``docs``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality.catalogue import every
from assets.quality.over_suites import over_suites
from assets.quality.pushdown import evaluate
from assets.refusal import refuse_when_blocked
from ml.quality import Check, CheckOutcome, Suite, summary
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

REPORT = dg.AssetKey(["quality", "report"])
RESULTS = "quality.results"

#: Metadata of an evaluation: the data version of the table that it looked at, which the decisions' gate compares.
DATA_VERSION = "data_version"


def check_key(suite: Suite, check: Check) -> dg.AssetCheckKey:
    """Return the key of a suite's check: on its own asset, or on the report where the suite says ``on_report``."""
    if suite.on_report:
        return dg.AssetCheckKey(REPORT, f"{suite.asset.replace('/', '_')}_{check.name}")
    return dg.AssetCheckKey(dg.AssetKey(suite.asset.split("/")), check.name)


def check_specs() -> list[dg.AssetCheckSpec]:
    """Return one spec a check, on the asset that it is about, and the report's own."""
    keyed = [(check_key(suite, check), check) for suite in every() for check in suite.checks]
    specs = [
        dg.AssetCheckSpec(
            key.name,
            asset=key.asset_key,
            blocking=check.blocking,
            description=check.description,
            metadata={"severity": check.severity},
        )
        for key, check in keyed
    ]
    own = dg.AssetCheckSpec("complete", asset=REPORT, description="Every check of every suite could be evaluated.")
    return [*specs, own]


# Dagster's own dbt integration passes `allow_arbitrary_check_specs` for the same need: checks on assets that another
# step makes. One step evaluates them all, for Great Expectations must be imported once at most.
# A job that selects a table selects its checks with it, hence `can_subset`.
@dg.multi_asset(
    name="quality_report",
    specs=[
        over_suites(
            REPORT,
            kinds={"greatexpectations", "clickhouse"},
            description="Volume, freshness, schema, nulls, values, keys and references of landed and mart tables.",
            suites=every(),
        )
    ],
    check_specs=check_specs(),
    allow_arbitrary_check_specs=True,
    hooks={refuse_when_blocked, no_retry_of_permanent},
    can_subset=True,
)
def quality_report(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]:
    """Evaluate the suites in the warehouse, keep the results, write the pages.

    A run that builds a table without the report evaluates that table's checks only, and imports no Great Expectations.
    """
    whole = REPORT in context.selected_asset_keys
    chosen = context.selected_asset_check_keys
    evaluated_at = datetime.now(UTC)
    outcomes = evaluate(warehouse, every(), chosen=lambda suite, check: whole or check_key(suite, check) in chosen)
    warehouse.insert_rows(
        RESULTS, result_rows(outcomes, context.run_id, evaluated_at), token=f"quality/{context.run_id}"
    )
    versions = _data_versions(context, [outcome.suite.asset for outcome in outcomes])
    for outcome in outcomes:
        if check_key(outcome.suite, outcome.check) in chosen:
            yield _check_result(outcome, versions[outcome.suite.asset])
    # The checks stand by now, whatever may befall the pages.
    if whole:
        yield from _report(context, outcomes, evaluated_at)


def _report(
    context: dg.AssetExecutionContext, outcomes: Sequence[CheckOutcome], evaluated_at: datetime
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]:
    from assets.quality.docs import write_data_docs

    page = write_data_docs(
        outcomes, get_settings().home / "quality" / "data_docs", run_id=context.run_id, evaluated_at=evaluated_at
    )
    yield dg.MaterializeResult(
        asset_key=REPORT,
        metadata={
            **summary(outcomes),
            "report": dg.MetadataValue.url(page.resolve().as_uri()),
            "failed": dg.MetadataValue.md(_failed(outcomes)),
        },
    )
    if dg.AssetCheckKey(REPORT, "complete") in context.selected_asset_check_keys:
        errors = [one.error for outcome in outcomes for one in outcome.outcomes if one.error]
        yield dg.AssetCheckResult(
            asset_key=REPORT,
            check_name="complete",
            passed=not errors,
            severity=dg.AssetCheckSeverity.WARN,  # the checks concerned have failed themselves
            description="; ".join(dict.fromkeys(errors))[:2000] if errors else "all were evaluated",
        )


def result_rows(outcomes: Sequence[CheckOutcome], run_id: str, evaluated_at: datetime) -> list[dict[str, Any]]:
    """Return the rows of ``quality.results``: one a check."""
    from assets.quality.docs import observed_json

    return [
        {
            "evaluated_at": evaluated_at,
            "run_id": run_id,
            "asset_key": outcome.suite.asset,
            "check_name": outcome.check.name,
            "expectation": ", ".join(dict.fromkeys(one.expectation.type for one in outcome.outcomes)),
            "success": outcome.success,
            "severity": outcome.check.severity,
            "observed": observed_json(outcome),
            "message": outcome.message,
        }
        for outcome in outcomes
    ]


def _check_result(outcome: CheckOutcome, data_version: str | None) -> dg.AssetCheckResult:
    key = check_key(outcome.suite, outcome.check)
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=outcome.success,
        severity=dg.AssetCheckSeverity[outcome.check.severity],
        description=outcome.message[:2000],
        metadata={
            "expectations": len(outcome.outcomes),
            "failed": [one.message for one in outcome.outcomes if not one.success],
            **({DATA_VERSION: data_version} if data_version else {}),
        },
    )


def _data_versions(context: dg.AssetExecutionContext, assets: Sequence[str]) -> dict[str, str | None]:
    """Return the data version of the newest materialization of each asset, None where it has none."""
    versions: dict[str, str | None] = {}
    for asset in dict.fromkeys(assets):
        event = context.instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
        tags = event.asset_materialization.tags if event and event.asset_materialization else None
        versions[asset] = (tags or {}).get("dagster/data_version")
    return versions


def _failed(outcomes: Sequence[CheckOutcome]) -> str:
    lines = [
        f"- **{outcome.suite.asset}** {outcome.check.name} ({outcome.check.severity}): {outcome.message}"
        for outcome in outcomes
        if not outcome.success
    ]
    return "\n".join(lines) or "None: every check holds."
