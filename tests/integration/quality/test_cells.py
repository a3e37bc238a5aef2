"""Learned validation of a warehouse table: findings and answers kept, without a value of the table."""

from __future__ import annotations

import pytest

from assets.quality import cells
from resources.errors import WarehouseError
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(120)
TABLE = "marts.towns"


@pytest.fixture
def towns(own_warehouse: WarehouseResource) -> WarehouseResource:
    """The warehouse with a table of 240 rows, four of them misspelt."""
    own_warehouse.command(f"DROP TABLE IF EXISTS {TABLE} SYNC")
    own_warehouse.command(
        f"CREATE TABLE {TABLE} (id UInt32, code String, town Nullable(String)) ENGINE = MergeTree ORDER BY id"
    )
    names = ["Northwick", "Eastbourne", "Westerham", "Southgate"]
    rows = [{"id": i, "code": f"c{i % 4}", "town": names[i % 4]} for i in range(240)]
    for place in (17, 90, 155, 230):
        rows[place]["town"] = str(rows[place]["town"]).replace("e", "3").replace("i", "!")
    own_warehouse.insert_rows(TABLE, rows)
    return own_warehouse


def test_findings_name_rows_by_hash_and_keep_no_value(towns: WarehouseResource) -> None:
    found = cells.assess(towns, TABLE)
    kept = cells.keep(towns, found, run_id="test")
    rows = towns.query_rows("SELECT * FROM quality.cell_findings WHERE run_id = 'test'")
    assert len(rows) == kept >= 3
    assert {row["column_name"] for row in rows} == {"town"}
    assert {row["labelled_rows"] for row in rows} == {0}
    ids = towns.query_rows(
        f"SELECT id FROM {TABLE} WHERE hex(sipHash128(toString(id))) IN"
        " (SELECT row_key FROM quality.cell_findings WHERE run_id = 'test')"
    )
    assert {row["id"] for row in ids} <= {17, 90, 155, 230}
    assert "3ast" not in str(rows)


def test_answers_are_kept_audited_and_believed(towns: WarehouseResource) -> None:
    sample = cells.read(towns, TABLE)
    wrong_row = next(row for row, town in enumerate(sample.cells["town"]) if "3" in town or "!" in town)
    cells.answer(towns, sample, {0: [], wrong_row: ["town"]}, actor="steward")
    cells.answer(towns, sample, {0: ["code"]}, actor="steward")
    asked, wrong = cells.labels(towns, sample)
    assert sorted(asked.tolist()) == sorted({0, wrong_row})
    assert wrong[asked.tolist().index(0)].tolist() == [False, True, False]
    found = cells.assess(towns, TABLE)
    assert found.p[wrong_row, 2] == 1
    audit = towns.query_rows(
        "SELECT * FROM ops.audit WHERE action = 'quality_cells_labelled' AND subject = 'marts.towns'"
    )
    assert len(audit) >= 2
    assert audit[0]["actor"] == "steward"


@pytest.mark.parametrize(
    ("name", "words"),
    [("towns", "database.table"), ("marts.none", "no table"), ("marts.t; DROP TABLE x", "database.table")],
)
def test_what_cannot_be_read_is_explained(own_warehouse: WarehouseResource, name: str, words: str) -> None:
    with pytest.raises(WarehouseError, match=words):
        cells.read(own_warehouse, name)


def test_a_column_or_row_that_is_not_there_is_refused(towns: WarehouseResource) -> None:
    sample = cells.read(towns, TABLE)
    with pytest.raises(WarehouseError, match="no column"):
        cells.answer(towns, sample, {0: ["nothing"]}, actor="steward")
    with pytest.raises(WarehouseError, match="no row"):
        cells.answer(towns, sample, {9999: []}, actor="steward")
