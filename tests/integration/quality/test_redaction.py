"""A redacted copy of a warehouse table by what is declared of its columns: whole, swapped in, and without a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from assets.quality import redaction
from ml.pii.inventory import Declaration
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(120)
NAMES = ["Maren Ollivier", "Tobias Quandt", "Maren Ollivier", None]


def declared(column: str, action: str) -> Declaration:
    return Declaration(f"marts.people.{column}", ("PERSON",), "team:data", "contract", "1 year", action)  # type: ignore[arg-type]


@pytest.fixture
def people(own_warehouse: WarehouseResource) -> WarehouseResource:
    own_warehouse.command("DROP TABLE IF EXISTS marts.people SYNC")
    own_warehouse.command(
        "CREATE TABLE marts.people (id UInt32, name Nullable(String), mail String, phone String, born String, "
        "city LowCardinality(String)) ENGINE = MergeTree ORDER BY id"
    )
    rows = [
        {"id": n, "name": name, "mail": f"p{n}@example.org", "phone": f"555-01{n}", "born": f"19{n}0", "city": "Ulm"}
        for n, name in enumerate(NAMES)
    ]
    own_warehouse.insert_rows("marts.people", rows)
    return own_warehouse


def test_each_action_is_applied_and_the_rest_stays(people: WarehouseResource) -> None:
    rules = [declared("name", "hash"), declared("mail", "token"), declared("phone", "mask"), declared("born", "drop")]
    policy = redaction.policies(people, rules)
    assert {table: sorted(columns) for table, columns in policy.items()} == {
        "marts.people": ["born", "mail", "name", "phone"]
    }
    for run in ("one", "two"):  # the second replaces the first
        row = redaction.redact(people, "marts.people", policy["marts.people"], run_id=run, now=datetime.now(UTC))
        assert (row["target"], row["rows"]) == ("marts.people_redacted", len(NAMES))
    rows = people.query_rows("SELECT * FROM marts.people_redacted ORDER BY id")
    assert [row["city"] for row in rows] == ["Ulm"] * 4
    assert "born" not in rows[0]
    assert rows[0]["name"] == rows[2]["name"] != rows[1]["name"]
    assert rows[3]["name"] is None
    assert all(row["mail"] != f"p{n}@example.org" and "@" in row["mail"] for n, row in enumerate(rows))
    text = str(rows)
    assert not any(name in text for name in NAMES if name)
    assert "555-01" not in text
    assert redaction.policies(people, rules).keys() == {"marts.people"}, "the copy is not redacted again"


def test_a_table_without_an_action_is_left_alone(people: WarehouseResource) -> None:
    rule = Declaration("marts.people.*", ("PERSON",), "team:data", "contract", "1 year")
    assert redaction.policies(people, [rule]) == {}
