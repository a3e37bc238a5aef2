"""The whole graph: every asset says what it is, whose it is and how it is checked; the code location loads light."""

from __future__ import annotations

import json
import subprocess
import sys

import dagster as dg
import pytest

from benchmarks.startup import HEAVY
from definitions import defs
from tests.conftest import ROOT

GROUPS = {"bus", "landing", "bi", "quality", "sagas", "decisions", "incidents", "sources", "compliance"}


def own_specs() -> list[dg.AssetSpec]:
    """Return the specs of what the platform makes; the bus's topics are the outside world's."""
    own = [spec for spec in defs.resolve_all_asset_specs() if spec.key.path[0] != "bus"]
    return sorted(own, key=lambda spec: spec.key)


@pytest.mark.parametrize("spec", own_specs(), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert spec.group_name in GROUPS
    assert spec.owners, "no owner"
    assert spec.kinds, "no kind"
    assert spec.description, "no description"
    assert spec.code_version, "no code version"
    assert spec.freshness_policy, "no freshness policy"


def test_every_asset_is_checked() -> None:
    checked = {key.asset_key for key in defs.resolve_asset_graph().asset_check_keys}
    unchecked = [spec.key.to_user_string() for spec in own_specs() if spec.key not in checked]
    assert not unchecked


def test_jobs_and_schedules_are_these() -> None:
    jobs = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs == {
        *("landing", "hourly_build", "daily_train", "daily_report", "everything"),
        *("saga_burst", "policy_after_burst", "sources", "compliance", "privacy"),
    }
    assert {schedule.name for schedule in defs.schedules or ()} == {
        "hourly_build",
        "daily_train",
        "daily_report",
        "sources",
        "compliance",
        "privacy",
    }
    assert {sensor.name for sensor in defs.sensors or ()} == {
        *("landing_sensor", "burst_sensor", "drift_sensor", "run_failures"),
    }


def test_every_asset_is_in_a_job() -> None:
    graph = defs.resolve_asset_graph()
    covered: set[dg.AssetKey] = set()
    for job in defs.resolve_all_job_defs():
        if not job.name.startswith("__"):
            covered |= set(job.asset_layer.executable_asset_keys)
    assert set(graph.executable_asset_keys) <= covered


def test_the_code_location_loads_in_a_fresh_interpreter_without_heavy_libraries() -> None:
    script = (
        "import json, sys, definitions; definitions.defs.get_repository_def(); print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & set(HEAVY)
