"""BI: the dbt project's models as assets, its tests as asset checks.

What belongs here: the assets, and what a run of theirs does. What does not: the SQL (``dbt_project/``), where dbt is
and how it is called (``assets.bi.project``), how dbt's graph becomes assets (``assets.bi.translation``).
"""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from assets.bi.metadata import Lineage, row_count
from assets.bi.project import (
    DbtResource,
    asset_graph,
    build_errors,
    may_pass,
    prepared_folder,
)
from assets.permanent import no_retry_of_permanent
from assets.refusal import refuse_when_blocked
from resources.warehouse import WarehouseResource

_GRAPH = asset_graph()
_BY_KEY = {dg.AssetKey(asset["key"]): asset for asset in _GRAPH["assets"]}
_CHECKS = {dg.AssetCheckKey(dg.AssetKey(check["key"]), check["name"]): check for check in _GRAPH["checks"]}
_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=3))


def _spec(asset: Mapping[str, Any]) -> dg.AssetSpec:
    columns = [
        dg.TableColumn(column["name"], column["type"], description=column["description"]) for column in asset["columns"]
    ]
    return dg.AssetSpec(
        key=dg.AssetKey(asset["key"]),
        deps=[dg.AssetKey(key) for key in asset["deps"]],
        description=asset["description"],
        group_name="bi",
        owners=asset["owners"],
        kinds=set(asset["kinds"]),
        code_version=asset["code_version"],
        freshness_policy=_FRESHNESS,
        skippable=True,
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/table_name": ".".join(asset["relation"]),
            "dagster_dbt/unique_id": asset["unique_id"],
        },
    )


def _check_spec(check: Mapping[str, Any]) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=check["name"],
        asset=dg.AssetKey(check["key"]),
        description=check["description"] or None,
        additional_deps=[dg.AssetKey(key) for key in check["deps"]],
        blocking=check["blocking"],
        metadata={"dagster_dbt/unique_id": check["unique_id"]},
    )


class BuildConfig(dg.Config):
    """How the models are built."""

    full_refresh: bool = Field(
        default=False, description="Build every table anew from raw, instead of what the pending landings touched."
    )


@dg.multi_asset(
    name="bi_models",
    specs=[_spec(asset) for asset in _GRAPH["assets"]],
    check_specs=[_check_spec(check) for check in _GRAPH["checks"]],
    can_subset=True,
    pool="dbt_build",
    hooks={refuse_when_blocked, no_retry_of_permanent},
)
def bi_models(
    context: dg.AssetExecutionContext, config: BuildConfig, dbt: DbtResource, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]  # Dagster wants the bare class
    """Run ``dbt build`` over the selected models and their tests.

    A failed test is a failed check (a blocking one fails the step after everything was reported); a failed model, or a
    dbt that did not run at all, raises ``dg.Failure``, and the next build takes the same landings in again.
    """
    from assets.bi.translation import BiTranslator

    manifest = json.loads((prepared_folder() / "manifest.json").read_bytes())
    lineage = Lineage(dbt.state_folder() / f"lineage-{_GRAPH['digest']}.json")
    with dbt.building():
        invocation = dbt.invoke(dbt_arguments(context, config), manifest=manifest, translator=BiTranslator())
        for event in invocation.stream():
            if isinstance(event, dg.AssetMaterialization) and event.asset_key in context.selected_asset_keys:
                asset = _BY_KEY[event.asset_key]
                yield dg.MaterializeResult(
                    asset_key=event.asset_key,
                    metadata={
                        **event.metadata,
                        **row_count(warehouse, asset),
                        "dagster/column_lineage": lineage.of(asset, invocation.target_path),
                    },
                )
            elif isinstance(event, dg.AssetCheckEvaluation) and event.asset_check_key in _selected_checks(context):
                yield dg.AssetCheckResult(
                    asset_key=event.asset_key,
                    check_name=event.check_name,
                    passed=event.passed,
                    severity=event.severity,
                    metadata=event.metadata,
                )
        errors = build_errors(invocation)
    lineage.save()
    if errors:
        raise dg.Failure("dbt failed: " + "; ".join(errors)[:4000], allow_retries=may_pass(errors))


def _selected_checks(context: dg.AssetExecutionContext) -> set[dg.AssetCheckKey]:
    return set(context.selected_asset_check_keys)


def dbt_arguments(context: dg.AssetExecutionContext, config: BuildConfig) -> list[str]:
    """Return dbt's arguments for what the run selected: everything, some models with their tests, or tests alone."""
    models = [_BY_KEY[key]["name"] for key in sorted(context.selected_asset_keys)]
    tests = [_CHECKS[key]["name"] for key in sorted(_selected_checks(context) & _CHECKS.keys())]
    if not models:
        return ["test", "--select", *tests]
    # Unit tests judge code, not data: `make test` runs them.
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    if config.full_refresh:
        arguments.append("--full-refresh")
    if len(models) == len(_BY_KEY):
        return arguments
    # Left alone, dbt adds the tests of every table that refers to a selected one, which may not be there yet.
    return [*arguments, "--indirect-selection", "empty", "--select", *models, *tests]
