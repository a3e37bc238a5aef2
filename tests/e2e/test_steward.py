"""The steward's page in a real browser: rows labelled, a held row released, nobody let in without a token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from resources.warehouse import WarehouseResource
from tests.conftest import ROOT
from tests.e2e.test_pages import browser, page, shoot
from tests.integration.conftest import migrated_warehouse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
__all__ = ["browser", "page"]
PAYLOAD = (
    '{"id": "order-1/0", "source": "/shop", "type": "isthmus.saga.started", "subject": "order-1",'
    ' "time": "2026-11-02T10:00:00Z",'
    ' "data": {"saga_type": "order", "amount": 12.5, "currency": "EURO", "note": "<b>x</b>"}}'
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseResource]:
    """A warehouse with a held row, and sagas of which some have a strange type."""
    with migrated_warehouse(tmp_path_factory.mktemp("steward")) as made:
        at = datetime(2026, 11, 2, 10, tzinfo=UTC)
        place = {"topic": "isthmus.sagas", "partition": 0, "generation": 0, "offset": 7}
        made.insert_rows("raw.events", [{**place, "appended_at": at, "key": "order-1", "value": PAYLOAD}])
        made.insert_rows(
            "quality.row_verdicts",
            [
                {
                    **place,
                    "appended_at": at,
                    "verdict": "quarantined",
                    "reasons": ["form:currency"],
                    "run_id": "test",
                    "judged_at": at,
                }
            ],
        )
        made.command(
            "CREATE TABLE marts.fct_sagas (saga_id String, saga_type String, status String) ENGINE = MergeTree "
            "ORDER BY saga_id"
        )
        made.insert_rows(
            "marts.fct_sagas",
            [
                {
                    "saga_id": f"order-{n:04d}",
                    "saga_type": "order" if n % 40 else "ordr",
                    "status": ("completed", "aborted")[n % 5 == 0],
                }
                for n in range(240)
            ],
        )
        yield made


@pytest.fixture(scope="module")
def address(warehouse: WarehouseResource, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    env = {**os.environ, "ISTHMUS_HOME": str(home), "ISTHMUS_WAREHOUSE_URL": warehouse.url}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "quality", "steward", "--port", "0"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=(home / "log").open("w"),
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"{line}{Path(home / 'log').read_text()}"
        yield found.group()
    finally:
        process.terminate()
        process.wait(30)


def test_nobody_comes_in_without_the_token(address: str) -> None:
    bare = address.split("?", 1)[0]
    with pytest.raises(HTTPError) as refused:
        urlopen(bare + "held")
    assert refused.value.code == 401
    token = address.rsplit("=", 1)[1]
    form = Request(
        bare + "held", b"decision=release", {"Cookie": f"isthmus_steward={token}", "Origin": "http://elsewhere.example"}
    )
    with pytest.raises(HTTPError) as strange:
        urlopen(form)
    assert strange.value.code == 403
    with pytest.raises(HTTPError) as renamed:
        urlopen(Request(bare, headers={"Host": "elsewhere.example"}))
    assert renamed.value.code == 421


def test_a_held_row_is_released_with_a_reason(page: Any, address: str, warehouse: WarehouseResource) -> None:
    page.goto(address)
    assert "token" not in page.url
    shoot(page, "steward-start")
    page.get_by_role("link", name="1 row waits for a decision").click()
    assert "EURO" in page.inner_text("pre")
    assert "<b>x</b>" in page.inner_text("pre")
    shoot(page, "steward-held")
    page.get_by_label("Why").fill("a new way to write it")
    page.get_by_role("button", name="Release").click()
    page.get_by_text("No row waits for a decision.").wait_for()
    assert warehouse.query_rows("SELECT count() AS n FROM quality.held_rows")[0]["n"] == 0
    audit = warehouse.query_rows("SELECT actor, details FROM ops.audit WHERE action = 'quality_row_release'")
    assert audit[0]["actor"] == "steward"
    assert "a new way" in audit[0]["details"]
    assert not page.refused


def test_twenty_rows_are_labelled_and_the_table_is_judged_by_them(
    page: Any, address: str, warehouse: WarehouseResource
) -> None:
    page.goto(address)
    page.get_by_role("link", name="marts.fct_sagas").click()
    for number in range(1, 21):
        page.get_by_text(f"Row {number} of 20").wait_for()
        if number == 1:
            shoot(page, "steward-cells")
        for line in page.locator("tbody tr").all():
            if line.locator("td.value").inner_text() == "ordr":
                line.get_by_role("checkbox").check()
        page.get_by_role("button", name="Save and next").click()
    page.get_by_text("20 rows are labelled").wait_for()
    shoot(page, "steward-done")
    labels = warehouse.query_rows("SELECT count() AS n, uniqExact(actor) AS actors FROM quality.cell_labels FINAL")
    assert (labels[0]["n"], labels[0]["actors"]) == (20, 1)
    assert page.locator("tbody tr").filter(has_text="saga_type").count() == 1
    assert not page.refused
