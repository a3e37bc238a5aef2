"""What staging and marts read of rows that have a verdict: not held ones, repaired ones, released ones again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from assets.quality import landed
from tests.integration.dbt.harness import TOPIC, World, saga_event

_TABLES = ("quality.row_verdicts", "quality.row_decisions", "quality.repaired_events")


@pytest.fixture
def judged(world: World) -> Iterator[World]:
    for table in _TABLES:
        world.warehouse.command(f"TRUNCATE TABLE {table}")
    yield world
    for table in _TABLES:
        world.warehouse.command(f"TRUNCATE TABLE {table}")


def test_a_verdict_after_the_build_and_a_release_reach_the_marts(judged: World) -> None:
    first = [
        saga_event("started", "s1", timedelta(), id="s1/0", amount=10.0, currency="EUR"),
        saga_event("started", "s2", timedelta(minutes=1), id="s2/0", amount=99.0, currency="EUR"),
        saga_event("completed", "s2", timedelta(minutes=2), id="s2/1", outcome="confirmed"),
    ]
    judged.land(first)
    judged.build()
    amounts = "SELECT saga_id, amount FROM marts.fct_sagas ORDER BY saga_id"
    assert [row["amount"] for row in judged.warehouse.query_rows(amounts)] == [10.0, 99.0]
    now = datetime.now(UTC)
    place = {"topic": TOPIC, "partition": 0, "generation": 0}
    at = judged.warehouse.query_rows("SELECT max(appended_at) AS at FROM raw.events")[0]["at"]
    said = {"appended_at": at, "reasons": ["range:amount"], "run_id": "test", "judged_at": now}
    repaired = saga_event("started", "s1", timedelta(), id="s1/0", amount=11.0, currency="EUR").decode()
    judged.warehouse.insert_rows(
        landed.REPAIRED,
        [{**place, "offset": 0, "appended_at": at, "key": "", "value": repaired, "repaired_at": now}],
    )
    judged.warehouse.insert_rows(
        landed.VERDICTS,
        [
            {**place, **said, "offset": 0, "verdict": "repaired"},
            {**place, **said, "offset": 1, "verdict": "quarantined"},
        ],
    )
    assert landed.announce(judged.warehouse, TOPIC, [(0, 0, 0), (0, 0, 1)]) == 1
    judged.build()
    rows = judged.warehouse.query_rows(amounts)
    assert [(row["saga_id"], row["amount"]) for row in rows] == [("s1", 11.0), ("s2", None)]
    landed.decide(judged.warehouse, **place, offset=1, decision="release", because="it is right", actor="steward")
    judged.build()
    assert [row["amount"] for row in judged.warehouse.query_rows(amounts)] == [11.0, 99.0]
