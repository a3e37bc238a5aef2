"""Explanations: what a failing saga's events, past incidents and runbooks say, and what is said where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.knowledge.incidents import FailingSaga
from resources.settings import Settings
from services.orchestrator.past import Past
from services.orchestrator.suspects import suspects
from tests.integration.orchestrator.world import entry, saga

CARD = FailingSaga("order", "charge", "payment", "card processor refuses connections, order 4711")
BURST = {
    "incident_id": "burst-1",
    "kind": "saga_burst",
    "subject": "payment",
    "summary": "payment: charges fail since the card processor refuses connections",
    "details": '{"suspects": [{"participant": "payment", "error": "ConnectionRefused"}], "sagas": 40}',
}
WRITE_UP = "# Card processor refuses connections\n\nCharges at payment failed: its certificate had run out.\n"
OTHERS = {
    "disk.md": "# Warehouse disk is full\n\nInserts are refused since no space is left on the device.\n",
    "lag.md": "# Router lags\n\nConsumers fall behind the ingress topic.\n",
    "mail.md": "# Mails are late\n\nThe notification queue grows, confirmations come an hour late.\n",
}


class Tables:
    """A warehouse's incidents; ``away`` raises in place of answering."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows, self.away, self.asked = list(rows), False, 0

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if self.away:
            raise ConnectionError("password of 4711")
        if "count()" in sql:
            return [{"n": len(self.rows), "newest": len(self.rows)}]
        self.asked += 1
        return self.rows


def write(folder: Path, **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in {**OTHERS, **{f"{name}.md": text for name, text in more.items()}}.items():
        (folder / name).write_text(text)
    return folder


def said(past: Past, saga: FailingSaga = CARD) -> Any:
    return orjson.loads(orjson.dumps(past.of(saga)))


def test_the_incident_and_the_runbook_that_fit_are_found_with_reasons(tmp_path: Path) -> None:
    past = Past(Tables(BURST), [write(tmp_path, card=WRITE_UP)], [])
    past.renew()
    found = said(past)
    assert "4711" not in found["question"]
    assert found["incidents"]["found"][0]["id"] == "saga_burst/burst-1"
    assert found["incidents"]["confidence"] >= 0.5
    (runbook,) = found["runbook"]["found"]
    assert (runbook["id"], runbook["title"]) == ("card", "Card processor refuses connections")
    assert "certificate" in runbook["passage"]
    assert {"card", "processor"} <= {one["term"] for one in runbook["because"]}


def test_nothing_that_fits_is_said_plainly(tmp_path: Path) -> None:
    past = Past(Tables(), [write(tmp_path)], [])
    assert said(past)["runbook"] == {"said": "no runbook is known", "confidence": 0.0, "found": []}
    past.renew()
    strange = FailingSaga("order", "teleport", "wormhole", "flux capacitor overheated")
    assert (said(past, strange)["runbook"]["said"], said(past, strange)["runbook"]["found"]) == ("no runbook fits", [])
    assert said(past, strange)["incidents"]["said"] == "no past incident is known"


def test_an_answer_is_remembered_until_something_is_known_anew(tmp_path: Path) -> None:
    tables = Tables()
    past = Past(tables, [], [write(tmp_path)])
    past.renew()
    first = past.of(CARD)
    assert past.of(replace(CARD, error=CARD.error.replace("4711", "4712"))) is first, "another order, the same failure"
    past.renew()
    assert past.of(CARD) is first, "nothing has changed"
    tables.rows.append(BURST)
    past.renew()
    assert said(past)["incidents"]["found"][0]["id"] == "saga_burst/burst-1"
    before = tables.asked
    write(tmp_path, card=WRITE_UP)
    past.renew()
    assert {one["id"] for one in said(past)["incidents"]["found"]} >= {"saga_burst/burst-1", "card"}
    assert tables.asked == before, "a new file is no reason to read the warehouse"


def test_a_warehouse_that_is_away_leaves_what_was_known(tmp_path: Path) -> None:
    tables = Tables(BURST)
    past = Past(tables, [write(tmp_path)], [])
    past.renew()
    tables.away = True
    past.renew()
    assert past.problems == {"incidents of the warehouse": "ConnectionError"}
    assert said(past)["incidents"]["found"]
    write(tmp_path, card=WRITE_UP)
    past.renew()
    assert said(past)["incidents"]["found"]
    assert said(past)["runbook"]["found"]
    tables.away = False
    past.renew()
    assert past.problems == {}


def test_parquet_and_what_cannot_be_read(tmp_path: Path) -> None:
    rows = [{"uuid": f"u-{at}", "title": f"Outage {at}", "text": "Servers were down.", "company": "A"} for at in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "docs.parquet")
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "other.parquet")
    (tmp_path / "broken.md").write_bytes(b"\xff\xfe\xfa")
    past = Past(Tables(), [tmp_path / "nowhere"], [tmp_path])
    past.renew()
    assert [one.id for one in past.known.incidents.documents] == ["u-1", "u-2"]
    assert past.problems == {
        str(tmp_path / "other.parquet"): "ValueError",
        str(tmp_path / "broken.md"): "UnicodeDecodeError",
        str(tmp_path / "nowhere"): "FileNotFoundError",
    }


def test_documents_of_one_name_are_all_there(tmp_path: Path) -> None:
    past = Past(Tables(), [write(tmp_path / "a"), write(tmp_path / "b")], [])
    past.renew()
    assert len(past.known.runbooks) == 2 * len(OTHERS)


def test_by_default_the_platforms_own_runbooks_are_there() -> None:
    past = Past(Tables(), Settings().knowledge_paths["runbooks"], [])
    past.renew()
    assert "saga-failure-burst" in {one.id for one in past.known.runbooks.documents}
    assert past.problems == {}


def test_a_saga_points_at_who_failed_and_at_who_was_slow_before() -> None:
    slow = replace(saga(1, charge="timed_out")[1], duration_ms=2_900.0)
    started, _, charge = saga(1, charge="timed_out")
    events = [started, slow, charge, replace(charge, us=charge.us + 1, attempt=2)]
    policy = [entry("reserve", "inventory"), entry("charge", "payment")]
    failed, late = suspects(events, policy)
    assert (failed.participant, failed.step) == ("payment", "charge")
    assert "timed out, 2 attempts" in failed.because
    assert (late.participant, late.because) == ("inventory", "reserve took 2,900 ms, the policy waits 850")
    assert [one.participant for one in suspects(events)] == ["payment"], "without a policy no one is slow"


@pytest.mark.parametrize("charge", ["completed", "scheduled"])
def test_a_saga_without_trouble_points_at_no_one(charge: str) -> None:
    assert suspects(saga(1, charge=charge), [entry("reserve", "inventory")]) == ()
