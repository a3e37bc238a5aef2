"""Verdicts on landed rows in a real warehouse: held back, put right, released by a steward, and what staging reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest

from assets.quality import landed, verdicts
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(180)
TOPIC = "isthmus.sagas"
FIRST = datetime(2026, 11, 2, tzinfo=UTC)
HOURS = 52


def event(number: int, place: int, at: datetime, kind: str, data: dict[str, object]) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"order-{number}/{place}",
        "source": "/shop" if place == 0 else "/bank",
        "type": f"isthmus.saga.{kind}",
        "subject": f"order-{number}",
        "time": at.isoformat(),
        "data": data,
    }


def traffic(first: datetime, hours: int, *, seed: int, start: int) -> list[tuple[datetime, dict[str, object]]]:
    """Return orders of three events each, forty an hour, with the time that each came at."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(hours * 40):
        at = first + timedelta(
            seconds=90 * number + float(random.uniform(0, 30)), microseconds=int(random.integers(1e6))
        )
        took = float(random.lognormal(4, 0.3))
        done = at + timedelta(milliseconds=took)
        step = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1}
        found += [
            event(
                start + number, 0, at, "started", {"saga_type": "order", "amount": round(took, 2), "currency": "EUR"}
            ),
            event(start + number, 1, done, "step", {**step, "status": "completed", "duration_ms": took}),
            event(start + number, 2, done, "completed", {"saga_type": "order", "outcome": "confirmed"}),
        ]
    return [
        (datetime.fromisoformat(str(one["time"])) + timedelta(seconds=0.1 + float(random.exponential(0.1))), one)
        for one in found
    ]


def land(warehouse: WarehouseResource, rows: list[tuple[datetime, dict[str, object]]], first_offset: int) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    warehouse.insert_rows(
        "raw.events",
        [
            {
                "topic": TOPIC,
                "partition": 0,
                "offset": first_offset + n,
                "appended_at": at,
                "key": one["subject"],
                "value": orjson.dumps(one).decode(),
            }
            for n, (at, one) in enumerate(rows)
        ],
    )
    last = first_offset + len(rows)
    warehouse.insert_rows(
        "raw.landings",
        [
            {
                "landing_id": f"{TOPIC}/0/{first_offset}-{last}",
                "topic": TOPIC,
                "partition": 0,
                "from_offset": first_offset,
                "to_offset": last,
                "rows": len(rows),
                "bytes": 0,
                "run_id": "test",
            }
        ],
    )


@pytest.fixture(scope="module")
def judged(own_warehouse: WarehouseResource) -> WarehouseResource:
    """Two days that are learned from, and an hour with a copy, a blank too many and a currency that is none."""
    good = traffic(FIRST, HOURS, seed=1, start=0)
    land(own_warehouse, good, 0)
    end = FIRST + timedelta(hours=HOURS)
    learned = verdicts.judge_landed(own_warehouse, (TOPIC,), run_id="first", now=end + timedelta(minutes=5))
    assert {row["state"] for row in learned[0].rows} == {"learning"}
    hour = traffic(end, 1, seed=2, start=HOURS * 40)
    for at, changes in ((30, {"currency": "EUR "}), (60, {"currency": "EURO"})):
        data = hour[at][1]["data"]
        assert isinstance(data, dict)
        data.update(changes)
    came, copied = hour[33]
    hour.append((came + timedelta(seconds=9), {**copied, "id": "order-9999999/7"}))
    land(own_warehouse, hour, len(good))
    found = verdicts.judge_landed(own_warehouse, (TOPIC,), run_id="second", now=end + timedelta(minutes=65))
    assert [(row["rows"], row["repaired"], row["collapsed"], row["quarantined"]) for row in found[0].rows] == [
        (121, 1, 1, 1)
    ]
    return own_warehouse


def test_a_row_is_held_back_with_its_reasons_and_shown_to_a_steward(judged: WarehouseResource) -> None:
    waiting = landed.held(judged)
    assert len(waiting) == 1
    assert "EURO" in waiting[0]["value"]
    assert any("currency" in reason for reason in waiting[0]["reasons"])


def test_a_repaired_row_stands_with_its_new_payload(judged: WarehouseResource) -> None:
    rows = judged.query_rows("SELECT value, tupleElement(envelope, 'type') AS type FROM quality.repaired_events FINAL")
    assert [orjson.loads(row["value"])["data"]["currency"] for row in rows] == ["EUR"]
    assert rows[0]["type"] == "isthmus.saga.started"


def test_the_same_hours_are_judged_once(judged: WarehouseResource) -> None:
    now = FIRST + timedelta(hours=HOURS, minutes=65)
    assert verdicts.judge_landed(judged, (TOPIC,), run_id="third", now=now)[0].rows == []


def test_a_release_needs_a_reason_leaves_an_audit_row_and_makes_the_range_pending(judged: WarehouseResource) -> None:
    row = landed.held(judged)[0]
    place = {name: row[name] for name in landed.PLACE}
    before = judged.query_rows("SELECT max(landed_at) AS at FROM raw.landings")[0]["at"]
    with pytest.raises(landed.JudgedError, match="say why"):
        landed.decide(judged, **place, decision="release", because=" ", actor="steward")
    with pytest.raises(landed.JudgedError, match="no row is held back"):
        landed.decide(judged, **{**place, "offset": 1}, decision="release", because="fine", actor="steward")
    landed.decide(judged, **place, decision="keep", because="not sure", actor="steward")
    assert landed.held(judged) == []
    assert judged.query_rows(f"SELECT count() AS n FROM {landed.HELD}")[0]["n"] == 2
    landed.decide(judged, **place, decision="release", because="a new currency", actor="steward")
    assert judged.query_rows(f"SELECT count() AS n FROM {landed.HELD}")[0]["n"] == 1
    assert judged.query_rows("SELECT max(landed_at) AS at FROM raw.landings")[0]["at"] > before
    audit = judged.query_rows("SELECT action FROM ops.audit WHERE actor = 'steward' ORDER BY at")
    assert [one["action"] for one in audit] == ["quality_row_keep", "quality_row_release"]


def test_an_unknown_topic_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("judged") / "judged.yml"
    path.write_text("- {topic: isthmus.nowhere}\n")
    with pytest.raises(landed.JudgedError, match=r"no topic isthmus\.nowhere"):
        landed.topics(path)
