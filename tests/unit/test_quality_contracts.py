"""Suites from dbt's YAML: what each test becomes, what a person's edits survive, and that the files are fresh."""

from __future__ import annotations

from pathlib import Path

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


def test_each_dbt_test_becomes_an_expectation(models: Path) -> None:
    suite = suites_of(models)["marts_orders.yml"]
    checks = {check["name"]: check for check in suite["checks"]}
    assert checks["contract_columns"]["expectations"][0]["kwargs"]["exact_match"] is True
    assert checks["contract_ranges_warn"]["severity"] == "WARN"
    assert len(checks["contract_unique"]["expectations"]) == 2
    (values,) = checks["contract_values"]["expectations"]
    assert "(id != '') AND (toString(state) NOT IN ('open', 'it\\'s'))" in values["kwargs"]["unexpected_rows_query"]
    (related,) = checks["contract_references"]["expectations"]
    assert "NOT IN (SELECT id FROM marts.customers)" in related["kwargs"]["unexpected_rows_query"]
    assert set(checks) == {
        "contract_columns", "contract_types", "contract_nulls", "contract_unique", "contract_values",
        "contract_ranges", "contract_ranges_warn", "contract_references",
    }  # fmt: skip


def test_edits_of_a_person_survive(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    assert contracts.write(folder, models) == ["marts_orders.yml"]
    assert contracts.write(folder, models) == [], "nothing changed"
    content = yaml.safe_load((folder / "marts_orders.yml").read_text())
    content["off"] = ["contract_types"]
    nulls = next(check for check in content["checks"] if check["name"] == "contract_nulls")
    nulls |= {"edited": True, "severity": "WARN"}
    (folder / "marts_orders.yml").write_text(yaml.safe_dump(content))
    contracts.write(folder, models)
    (suite,) = catalogue.suites(folder)
    checks = {check.name: check for check in suite.checks}
    assert checks["expect_contract_nulls"].severity == "WARN"
    assert "expect_contract_types" not in checks


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
    assert {"expect_volume", "expect_contract_unique"} <= names
    assert "marts/kpi_hourly" in every
    assert not any(check.blocking for suite in catalogue.suites(catalogue.CONTRACTS) for check in suite.checks)
