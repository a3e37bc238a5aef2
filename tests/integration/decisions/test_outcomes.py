"""Outcomes of saga policies: measured once, when their time has ended and settled, and shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.decisions import outcomes
from ml.decisions import CheckRead, Decision, decision_id
from resources.decisions import DecisionStore
from resources.decisions.outcomes import read_outcomes
from resources.kafka import KafkaResource
from resources.warehouse import WarehouseResource
from tests.integration.orchestrator.world import ACTION
from tests.integration.quality.shop import build

SETTINGS = {"ops": {"ops__outcomes": {"config": {"settle_minutes": 5.0}}}}


def publish(warehouse: WarehouseResource, kafka: KafkaResource, at: datetime, hours: float) -> DecisionStore:
    store = DecisionStore(warehouse, bus=kafka, clock=lambda: at)
    record = Decision(
        decision_id(at, "saga_policy", "order", str(at)), "saga_policy", "order", at, at,
        at + timedelta(hours=hours), (), (CheckRead("marts/fct_sagas", "nulls", True, evaluated_at=at),), ACTION,
        ({"metric": "failed_steps_share", "with_action": 0.02, "without_action": 0.03, "low": -0.02, "high": 0.0},),
        (), None,
    )  # fmt: skip
    store.publish(store.record(record.as_record(), allowed=True, reasons=["held"]).decision_id, actor="test")
    return store


def run(warehouse: WarehouseResource) -> dict[str, Any]:
    result = dg.materialize([outcomes], resources={"warehouse": warehouse}, run_config=SETTINGS)
    assert all(check.passed for check in result.get_asset_check_evaluations() if check.check_name == "measured")
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_policy_is_measured_once_its_time_has_ended(
    own_warehouse: WarehouseResource, kafka: KafkaResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_warehouse.command("TRUNCATE TABLE ops.outcomes")
    now = datetime.now(UTC)
    build(own_warehouse, sagas=1_100)  # a saga a minute for 18 of the last 20 hours
    publish(own_warehouse, kafka, now - timedelta(hours=8), 26)
    store = publish(own_warehouse, kafka, now - timedelta(hours=5), 26)
    newest, before = store.list(kind="saga_policy", subject="order", limit=2)
    # The second came three hours after the first, so the first has ended; the second is in force.
    assert run(own_warehouse)["decisions measured"] == 1
    again = run(own_warehouse)
    assert (again["decisions measured"], again["decisions waiting"]) == (0, 1)
    found = {one.metric: one for one in read_outcomes(own_warehouse, before.decision_id)}
    assert set(found) == {"failed_steps_share", "attempts_cut_share", "mean_wait_ms", "saga_failures_share"}
    assert not read_outcomes(own_warehouse, newest.decision_id)
    failed = found["failed_steps_share"]
    assert failed.expected == pytest.approx(-0.01)
    assert failed.low <= failed.difference <= failed.high
    assert failed.method == "before, by load and hour"
    assert failed.details["mode"].startswith("dry-run")
    assert failed.details["hours_before"] >= 10
    assert found["mean_wait_ms"].actual > 0
    assert found["attempts_cut_share"].expected != found["attempts_cut_share"].expected

    import cli.decision

    monkeypatch.setattr(cli.decision, "_store", lambda: store)
    shown = CliRunner().invoke(cli.decision.app, ["show", str(before.decision_id)], terminal_width=200)
    assert shown.exit_code == 0, shown.output
    assert "What came of it" in shown.output
    assert "dry-run" in shown.output
