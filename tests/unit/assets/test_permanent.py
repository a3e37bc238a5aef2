"""Which failed runs Dagster starts again: as its own instance decides, by the tag that it sets when a run fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from assets.bi.project import may_pass
from assets.permanent import no_retry_of_permanent
from definitions import defs
from resources.errors import RangeGone, WarehouseError, WarehouseUnavailable


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True, "max_retries": 2}}) as one:
        yield one


def failing_check() -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="c", passed=False)])


def raising(error: Exception) -> Callable[[], dg.MaterializeResult]:  # type: ignore[type-arg]
    def body() -> dg.MaterializeResult:  # type: ignore[type-arg]
        raise error

    return body


@pytest.mark.parametrize(
    ("body", "again"),
    [
        pytest.param(failing_check, False, id="blocking check"),
        pytest.param(raising(dg.Failure("no", allow_retries=False)), False, id="final failure"),
        pytest.param(raising(WarehouseError("unknown column", 47)), False, id="refused by the warehouse"),
        pytest.param(raising(RangeGone("aged out")), False, id="offsets that are gone"),
        pytest.param(raising(dg.Failure("may pass")), True, id="failure"),
        pytest.param(raising(WarehouseUnavailable("disk is full", 243)), True, id="warehouse away"),
        pytest.param(raising(OSError("connection reset")), True, id="anything else"),
    ],
)
def test_a_run_is_started_again_only_where_that_may_help(
    instance: dg.DagsterInstance,
    body: Callable[[], dg.MaterializeResult],  # type: ignore[type-arg]
    again: bool,
) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("c", asset="table", blocking=True)], hooks={no_retry_of_permanent})
    def table() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return body()

    job = dg.define_asset_job("build", tags={"dagster/max_retries": "2"})
    resolved = dg.Definitions(assets=[table], jobs=[job]).resolve_job_def("build")
    done = resolved.execute_in_process(instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    assert run.tags["dagster/will_retry"] == str(again).lower()


def test_every_job_that_is_repeated_and_every_asset_with_blocking_checks_minds_it() -> None:
    for job in (defs.resolve_job_def(one.name) for one in defs.jobs or ()):
        if int(job.tags.get("dagster/max_retries", 0)):
            assert no_retry_of_permanent in job.hook_defs, job.name
    for assets in defs.assets or ():
        if isinstance(assets, dg.AssetsDefinition) and any(spec.blocking for spec in assets.check_specs):
            assert no_retry_of_permanent in assets.hook_defs, assets.keys


@pytest.mark.parametrize(
    ("errors", "passes"),
    [
        (["model.a: Database Error Code: 47. DB::Exception: Unknown identifier"], False),
        (["model.a: Compilation Error in model a"], False),
        (["model.a: Database Error Code: 243. DB::Exception: no room"], True),
        (["model.a: Code: 47", "model.b: Code: 241"], True),
        (["dbt was killed"], True),
    ],
)
def test_a_build_is_repeated_where_its_errors_may_pass(errors: list[str], passes: bool) -> None:
    assert may_pass(errors) is passes
