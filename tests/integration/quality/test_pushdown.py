"""Each fault that a suite is for, caused in a real warehouse, and the check that says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from assets.quality import catalogue, pushdown
from ml.quality import Check, CheckOutcome, Expectation, Suite, summary
from resources.warehouse import WarehouseResource
from tests.integration.quality import shop

pytestmark = pytest.mark.timeout(120)


def outcomes(warehouse: WarehouseResource) -> dict[tuple[str, str], CheckOutcome]:
    found = pushdown.evaluate(warehouse, catalogue.suites())
    return {(outcome.suite.asset, outcome.check.name.removeprefix(catalogue.PREFIX)): outcome for outcome in found}


def failed(warehouse: WarehouseResource) -> dict[tuple[str, str], str]:
    return {key: outcome.message for key, outcome in outcomes(warehouse).items() if not outcome.success}


def test_sound_tables_pass_everything(shop_tables: WarehouseResource) -> None:
    assert failed(shop_tables) == {}
    found = list(outcomes(shop_tables).values())
    assert summary(found)["checks"] == sum(len(suite.checks) for suite in catalogue.suites())


FAULTS = [
    ("ALTER TABLE marts.fct_sagas UPDATE status = NULL WHERE rand() % 3 = 0", ("marts/fct_sagas", "nulls"), "status"),
    ("ALTER TABLE marts.fct_sagas DROP COLUMN amount", ("marts/fct_sagas", "schema"), "missing amount"),
    ("ALTER TABLE marts.fct_saga_steps RENAME COLUMN run_ms TO runtime", ("marts/fct_saga_steps", "schema"), "run_ms"),
    ("TRUNCATE TABLE marts.fct_saga_steps", ("marts/fct_saga_steps", "volume"), "0 rows"),
    ("DROP TABLE marts.fct_sagas SYNC", ("marts/fct_sagas", "volume"), "does not exist"),
    (
        "ALTER TABLE marts.fct_sagas UPDATE status = 'lost' WHERE saga_id = 'order-000003'",
        ("marts/fct_sagas", "values"),
        "1 row breaks it: a saga is running, completed or aborted, such as lost",
    ),
    (
        "ALTER TABLE marts.fct_saga_steps UPDATE run_ms = -run_ms WHERE attempt = 1",
        ("marts/fct_saga_steps", "ranges"),
        "a duration is not negative",
    ),
    (
        "ALTER TABLE marts.fct_saga_steps UPDATE run_ms = nan WHERE attempt = 1",
        ("marts/fct_saga_steps", "ranges"),
        "a duration is not negative",
    ),
    (
        "INSERT INTO marts.fct_sagas SELECT * FROM marts.fct_sagas WHERE saga_id = 'order-000001'",
        ("marts/fct_sagas", "identity"),
        "2 rows break it: a saga is one row, such as ('order','order-000001')",
    ),
    (
        "ALTER TABLE marts.fct_sagas DELETE WHERE saga_id = 'order-000002'",
        ("marts/fct_sagas", "references"),
        "every saga of staging has its row",
    ),
    (
        "INSERT INTO staging.stg_saga_events SELECT * FROM staging.stg_saga_events LIMIT 1",
        ("staging/stg_saga_events", "identity"),
        "an event is one row",
    ),
    (
        "INSERT INTO raw.events (topic, partition, offset, appended_at, key, value) "
        "SELECT 'isthmus.sagas', 1, number, now(), '', 'not json' FROM numbers(50)",
        ("raw/events", "quarantine"),
        "at most 1%",
    ),
]


@pytest.mark.parametrize(
    ("statement", "check", "words"), FAULTS, ids=[f"{c[0]}-{c[1]}-{n}" for n, (_, c, _w) in enumerate(FAULTS)]
)
def test_a_fault_is_named_by_its_check(
    shop_tables: WarehouseResource, statement: str, check: tuple[str, str], words: str
) -> None:
    if statement.startswith("ALTER") and ("UPDATE" in statement or "DELETE" in statement):
        statement += " SETTINGS mutations_sync = 2"
    shop_tables.command(statement)
    found = failed(shop_tables)
    assert check in found
    assert words in found[check]


def test_a_feed_that_stopped_is_seen(shop_tables: WarehouseResource) -> None:
    shop.build(shop_tables, sagas=5, landed_at=datetime.now(UTC) - timedelta(days=2))
    assert set(failed(shop_tables)) == {("raw/events", "freshness")}


def test_an_empty_warehouse_fails_closed(own_warehouse: WarehouseResource) -> None:
    for name in ("staging.stg_saga_events", "marts.fct_sagas", "marts.fct_saga_steps"):
        own_warehouse.command(f"DROP TABLE IF EXISTS {name} SYNC")
    own_warehouse.command("TRUNCATE TABLE raw.events")
    found = outcomes(own_warehouse)
    assert all(not outcome.success for key, outcome in found.items() if key[0] != "raw/events")
    assert not found["raw/events", "volume"].success


def test_one_refused_query_does_not_hide_the_others(shop_tables: WarehouseResource) -> None:
    broken = Expectation("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT nothing FROM {batch}"})
    sound = Expectation("expect_column_values_to_not_be_null", {"column": "saga_id"})
    suite = Suite("a/b", "marts.fct_sagas", (Check("broken", (broken,)), Check("sound", (sound,))))
    first, second = pushdown.evaluate(shop_tables, [suite])
    assert not first.success
    assert "refuses" in first.message
    assert second.success


def test_names_and_values_cannot_break_out_of_the_query(shop_tables: WarehouseResource) -> None:
    evil = "x'); DROP TABLE marts.fct_sagas; --"
    suite = Suite(
        "a/b",
        "marts.fct_sagas",
        (
            Check(
                "value", (Expectation("expect_column_values_to_be_in_set", {"column": "status", "value_set": [evil]}),)
            ),
            Check("name", (Expectation("expect_column_values_to_not_be_null", {"column": f"status`{evil}"}),)),
        ),
    )
    value, name = pushdown.evaluate(shop_tables, [suite])
    assert not value.success
    assert "is missing" in name.message
    assert shop_tables.query_rows("SELECT count() AS n FROM marts.fct_sagas")[0]["n"] == 300
