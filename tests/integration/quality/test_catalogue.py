"""The suite files that ship, and those that a person may write wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.quality import catalogue
from assets.quality.catalogue import SuiteError

GOOD = """
asset: marts/t
table: marts.t
checks:
  - name: volume
    expectations:
      - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}}
"""


def test_the_suites_that_ship_come_in_the_way_of_an_event() -> None:
    assets = [suite.asset for suite in catalogue.suites()]
    assert assets == ["raw/events", "staging/stg_saga_events", "marts/fct_saga_steps", "marts/fct_sagas"]
    for suite in catalogue.suites():
        assert any(check.severity == "ERROR" for check in suite.checks)
        kinds = {check.name.removeprefix(catalogue.PREFIX) for check in suite.checks}
        assert {"volume", "schema"} <= kinds
        assert all(check.description for check in suite.checks)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_value: 1}", "min_value: 1", "while parsing"),
        ("name: volume", "nam: volume", "unknown keys"),
        ("    expectations:", "    severity: FATAL\n    expectations:", "severity is ERROR or WARN"),
        ("    expectations:", "    severity: WARN\n    blocking: true\n    expectations:", "only ERROR blocks"),
        ("expect_table_row_count_to_be_between", "expect_table_row_cont", "not an expectation that can be pushed down"),
        ("kwargs:", "kwarg:", "unknown keys"),
        ("table: marts.t", "", "'table'"),
        ("asset: marts/t", "assets: marts/t", "unknown keys"),
        ("      - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}}", "      []", "expects nothing"),
    ],
)
def test_a_wrong_suite_is_refused_with_its_place(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "t.yml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SuiteError, match=r"t\.yml") as error:
        catalogue.read_suite(path)
    assert words in str(error.value)


def test_two_suites_for_one_asset_are_refused(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(SuiteError, match="two suites"):
        catalogue.suites(tmp_path)
