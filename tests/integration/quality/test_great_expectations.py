"""Our pushed-down evaluation against Great Expectations' own SQL engine: same tables, same suites, same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets.quality import catalogue, pushdown
from assets.quality.docs import write_data_docs
from ml.quality import SCHEMA_WISE, Outcome, Suite
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(240)

MARTS = [suite for suite in catalogue.suites() if suite.asset.startswith(("marts/", "staging/"))]


@pytest.fixture(scope="module")
def gx_source() -> Callable[[str], Any]:
    """Return a function that opens Great Expectations' own source over the warehouse, once."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    made: dict[str, Any] = {}

    def source(url: str) -> Any:
        if url not in made:
            made[url] = context.data_sources.add_sql("isthmus", connection_string=url)
        return made[url]

    return source


def by_great_expectations(source: Any, suite: Suite) -> list[bool]:
    """Return the success of each expectation that Great Expectations evaluates by itself."""
    from great_expectations.core import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    database, table = suite.table.split(".")
    asset = source.add_table_asset(name=f"{suite.asset}-{len(source.assets)}", table_name=table, schema_name=database)
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    gx_suite = ExpectationSuite(
        name=suite.asset,
        expectations=[
            ExpectationConfiguration(type=one.type, kwargs=dict(one.kwargs), meta={"at": at})
            for at, one in enumerate(_comparable(suite))
        ],
    )
    results = batch.validate(gx_suite)
    return [one.success for one in sorted(results.results, key=lambda one: one.expectation_config.meta["at"])]


def _comparable(suite: Suite) -> list[Any]:
    return [one for check in suite.checks for one in check.expectations if one.type not in SCHEMA_WISE]


def ours(warehouse: WarehouseResource, suite: Suite) -> list[Outcome]:
    outcomes = [one for check in pushdown.evaluate(warehouse, [suite]) for one in check.outcomes]
    return [one for one in outcomes if one.expectation.type not in SCHEMA_WISE]


FAULTS = [
    "",
    "ALTER TABLE marts.fct_sagas UPDATE status = NULL WHERE rand() % 3 = 0",
    "ALTER TABLE marts.fct_sagas UPDATE status = 'lost' WHERE saga_id = 'order-000003'",
    "INSERT INTO marts.fct_sagas SELECT * FROM marts.fct_sagas WHERE saga_id = 'order-000001'",
    "ALTER TABLE marts.fct_saga_steps UPDATE run_ms = -1, attempt = 0 WHERE step = 'notify'",
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_both_say_the_same(shop_tables: WarehouseResource, gx_source: Callable[[str], Any], fault: str) -> None:
    if fault:
        settings = " SETTINGS mutations_sync = 2" if fault.startswith("ALTER") else ""
        shop_tables.command(fault + settings)
    source = gx_source(shop_tables.url.replace("http://", "clickhousedb://"))
    for suite in MARTS:
        mine = ours(shop_tables, suite)
        theirs = by_great_expectations(source, suite)
        named = [(one.expectation.type, dict(one.expectation.kwargs)) for one in mine]
        assert [one.success for one in mine] == theirs, named


def test_the_pages_are_whole_and_point_nowhere_outside(shop_tables: WarehouseResource, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    shop_tables.command(
        "ALTER TABLE marts.fct_sagas UPDATE status = '<script>alert(1)</script>' WHERE saga_id = 'order-000003' "
        "SETTINGS mutations_sync = 2"
    )
    outcomes = pushdown.evaluate(shop_tables, catalogue.suites())
    folder = tmp_path / "data_docs"
    for _ in range(2):  # the second replaces the first
        index = write_data_docs(outcomes, folder, run_id="0123456789", evaluated_at=datetime.now(UTC))
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "static", "raw.events.html", "staging.stg_saga_events.html", "marts.fct_sagas.html",
        "marts.fct_saga_steps.html",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["data_docs"], "no draft is left"
    text = index.read_text()
    assert "1 check failed. 1 of them at ERROR" in text
    assert "&lt;script&gt;alert(1)" in text
    for page in folder.rglob("*.*"):
        content = page.read_text()
        assert "://" not in content, f"{page.name} points outside"
        assert "<script>alert" not in content
