"""Suites from dbt's YAML: what each test becomes, what a person's edits survive, and that the files are fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.quality import catalogue, contracts
from assets.quality.contracts import ContractError, suites_of

MODEL = """
models:
  - name: orders
    config: {contract: {enforced: true}}
    columns:
      - name: id
        data_type: String
        data_tests: [not_null, unique]
      - name: state
        data_tests:
          - accepted_values: {arguments: {values: [open, "it's"]}, config: {where: id != ''}}
      - name: amount
        data_tests:
          - accepted_range: {min_value: 0, max_value: 10, config: {severity: warn}}
      - name: customer
        data_tests:
          - relationships: {to: ref('customers'), field: id}
      - {name: other, data_tests: [something_of_ours]}
    data_tests:
      - unique_combination: {arguments: {columns: [id, state]}}
      - holds: {arguments: {expression: amount >= 0}}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "marts").mkdir(parents=True)
    (folder / "marts" / "_orders.yml").write_text(MODEL)
    for name in ("orders", "customers"):
        (folder / "marts" / f"{name}.sql").write_text("select 1")
    return folder


ORDER = (
    "expect_table_columns_to_match_set",
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
)


def _place(one: dict[str, Any]) -> tuple[int, str]:
    place = ORDER.index(one["type"]) if one["type"] in ORDER else len(ORDER)
    query = one["kwargs"].get("unexpected_rows_query", "")
    return place, "a" if "'open'" in query else "c" if "customers" in query else "b"


def test_each_dbt_test_becomes_an_expectation(models: Path) -> None:
    suite = suites_of(models)["marts_orders.yml"]
    promised, hinted = suite["checks"]
    assert (promised["severity"], hinted["severity"]) == ("ERROR", "WARN")
    columns, null, unique, keys, values, holds, related = sorted(promised["expectations"], key=_place)
    assert columns["kwargs"]["exact_match"] is True
    assert null["kwargs"] == unique["kwargs"] == {"column": "id"}
    assert keys["kwargs"] == {"column_list": ["id", "state"]}
    assert holds["because"] == "amount >= 0"
    assert "(id != '') AND (toString(state) NOT IN ('open', 'it\\'s'))" in values["kwargs"]["unexpected_rows_query"]
    assert "NOT IN (SELECT id FROM marts.customers)" in related["kwargs"]["unexpected_rows_query"]
    assert [one["type"] for one in hinted["expectations"]] == [
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_between",
    ]


def test_edits_of_a_person_survive(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    assert contracts.write(folder, models) == ["marts_orders.yml"]
    assert contracts.write(folder, models) == [], "nothing changed"
    content = yaml.safe_load((folder / "marts_orders.yml").read_text())
    content["off"] = ["contract_hints"]
    content["checks"][0] |= {"edited": True, "severity": "WARN"}
    (folder / "marts_orders.yml").write_text(yaml.safe_dump(content))
    contracts.write(folder, models)
    (suite,) = catalogue.suites(folder)
    checks = {check.name: check for check in suite.checks}
    assert {name: check.severity for name, check in checks.items()} == {"expect_contract": "WARN"}


def test_a_reference_to_nothing_is_refused(models: Path) -> None:
    path = models / "marts" / "_orders.yml"
    path.write_text(MODEL.replace("customers", "nobody"))
    with pytest.raises(ContractError, match="no model of the project"):
        suites_of(models)


def test_the_files_are_those_of_the_project(tmp_path: Path) -> None:
    for path in contracts.FOLDER.glob("*.yml"):
        (tmp_path / path.name).write_text(path.read_text())
    assert contracts.write(tmp_path) == [], "run python -m assets.quality.contracts"


def test_contracts_and_written_suites_are_one_a_table() -> None:
    every = {suite.asset: suite for suite in catalogue.every()}
    names = {check.name for check in every["marts/fct_sagas"].checks}
    assert {"expect_volume", "expect_contract"} <= names
    assert "marts/kpi_hourly" in every
    assert not any(check.blocking for suite in catalogue.suites(catalogue.CONTRACTS) for check in suite.checks)
