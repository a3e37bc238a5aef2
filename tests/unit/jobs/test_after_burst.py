"""The job after a burst: it builds what a policy rests on, and nothing that its tests could miss."""

from __future__ import annotations

from dagster import AssetKey

from assets.bi.assets import _GRAPH
from assets.decisions.evidence import INPUTS
from definitions import defs


def test_what_a_policy_rests_on_is_built_and_what_its_tests_refer_to() -> None:
    job = defs.resolve_job_def("policy_after_burst")
    built = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert built >= {*INPUTS, "quality/report", "ops/saga_policy"}
    assert "marts/kpi_hourly" not in built
    referred = {"/".join(dep) for check in _GRAPH["checks"] if "/".join(check["key"]) in built for dep in check["deps"]}
    assert referred <= built


def test_a_part_of_the_tables_is_not_said_to_be_a_whole_build() -> None:
    stateful = {AssetKey(asset["key"]) for asset in _GRAPH["assets"]}
    assert not stateful <= defs.resolve_job_def("policy_after_burst").asset_layer.selected_asset_keys
