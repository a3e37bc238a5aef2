"""BI's asset graph: complete, described, light to load, and what a run asks of dbt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]

from assets.bi import assets as bi
from assets.bi import project
from assets.bi.lineage import column_lineage
from resources.settings import get_settings
from tests.conftest import ROOT

GRAPH = project.asset_graph()
MODELS = {path.stem: path for path in (project.project_folder() / "models").rglob("*.sql")}


def declared() -> dict[str, dict[str, Any]]:
    files = (project.project_folder() / "models").rglob("*.yml")
    return {
        model["name"]: model for file in files for model in (yaml.safe_load(file.read_text()) or {}).get("models", ())
    }


def test_every_model_is_an_asset_with_a_check() -> None:
    assert {asset["name"] for asset in GRAPH["assets"]} == set(MODELS)
    checked = {tuple(check["key"]) for check in GRAPH["checks"]}
    assert not [asset["name"] for asset in GRAPH["assets"] if tuple(asset["key"]) not in checked]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_and_column_is_described(name: str) -> None:
    model = declared()[name]
    assert len(model["description"]) > 10
    assert not [column["name"] for column in model["columns"] if not column.get("description")]


@pytest.mark.parametrize("spec", list(bi.bi_models.specs), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert spec.group_name == "bi"
    assert spec.owners
    assert {"dbt", "clickhouse"} < spec.kinds
    assert spec.description
    assert spec.code_version
    assert spec.freshness_policy
    assert spec.key.path[0] in ("staging", "intermediate", "marts")
    assert spec.metadata["dagster/column_schema"].columns


def test_all_tables_of_raw_are_one_asset() -> None:
    upstream = {tuple(dep) for asset in GRAPH["assets"] for dep in asset["deps"]}
    assert {key for key in upstream if key[0] == "raw"} == {("raw", "events")}


def test_loading_imports_neither_dbt_nor_its_helpers() -> None:
    script = "import json, sys, assets.bi.assets; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"dbt", "dagster_dbt", "sqlglot"} & set(json.loads(done.stdout.splitlines()[-1]))


def selection(assets: list[dg.AssetKey], checks: list[dg.AssetCheckKey]) -> Any:
    return SimpleNamespace(selected_asset_keys=set(assets), selected_asset_check_keys=set(checks))


def test_a_run_of_everything_selects_nothing_and_a_part_names_its_models() -> None:
    everything = [spec.key for spec in bi.bi_models.specs]
    build = ["build", "--exclude-resource-type", "unit_test"]
    assert bi.dbt_arguments(selection(everything, []), bi.BuildConfig()) == build
    assert bi.dbt_arguments(selection(everything, []), bi.BuildConfig(full_refresh=True)) == [*build, "--full-refresh"]
    part = [dg.AssetKey(["marts", "saga_funnel"]), dg.AssetKey(["marts", "fct_sagas"])]
    assert bi.dbt_arguments(selection(part, []), bi.BuildConfig()) == [
        *build,
        "--indirect-selection",
        "empty",
        "--select",
        "fct_sagas",
        "saga_funnel",
    ]


def test_a_run_of_checks_alone_runs_tests_alone() -> None:
    check = GRAPH["checks"][0]
    key = dg.AssetCheckKey(dg.AssetKey(check["key"]), check["name"])
    assert bi.dbt_arguments(selection([], [key]), bi.BuildConfig()) == ["test", "--select", check["name"]]


def finished(folder: Path, returncode: int, results: list[dict[str, str]] | None) -> Any:
    if results is not None:
        (folder / "run_results.json").write_text(json.dumps({"results": results}))
    process = SimpleNamespace(wait=lambda: returncode)
    return SimpleNamespace(process=process, target_path=folder, get_error=lambda: RuntimeError("dbt said no"))


@pytest.mark.parametrize(
    ("returncode", "results", "errors"),
    [
        (0, [], []),
        (1, [{"status": "fail", "unique_id": "test.a", "message": "3 rows"}], []),
        (1, [{"status": "error", "unique_id": "model.a", "message": "no table"}], ["model.a: no table"]),
        (1, [{"status": "success", "unique_id": "model.a", "message": ""}], ["dbt said no"]),
        (2, None, ["dbt said no"]),
    ],
)
def test_a_failed_test_is_no_error_and_everything_else_is(
    tmp_path: Path, returncode: int, results: list[dict[str, str]] | None, errors: list[str]
) -> None:
    assert project.build_errors(finished(tmp_path, returncode, results)) == errors


def test_the_environment_holds_the_warehouse_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_WAREHOUSE_URL", "https://bi:p%40ss@warehouse.example:9440")
    get_settings.cache_clear()
    try:
        environment = project.dbt_environment()
    finally:
        get_settings.cache_clear()
    wanted = {"HOST": "warehouse.example", "PORT": "9440", "USER": "bi", "PASSWORD": "p@ss", "SECURE": "True"}
    assert {name: environment[f"DBT_{name}"] for name in wanted} == wanted


def test_the_digest_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: x")
    (tmp_path / "profiles.yml").touch()
    monkeypatch.setattr(project, "_PROJECT", tmp_path)
    before = project.digest()
    assert project.digest() == before
    (tmp_path / "models" / "a.sql").write_text("select 1")
    assert project.digest() != before


def test_lineage_goes_through_steps_to_the_parents() -> None:
    sql = "with a as (select x + y as s, z from db.t) select s * 2 as twice, count() as n from a group by s"
    found = column_lineage(sql, ["twice", "n"], {("db", "t"): ["x", "y", "z"]})
    assert found == {"twice": [(("db", "t"), "x"), (("db", "t"), "y")]}


def test_lineage_that_cannot_be_read_is_empty() -> None:
    assert column_lineage("select from where", ["a"], {}) == {}
