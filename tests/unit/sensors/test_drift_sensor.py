"""The drift sensor over several ticks: one training for an alarm, none while it stands, no storm."""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.errors import WarehouseUnavailable
from resources.fakes import FakeWarehouse
from sensors.drift import COOLDOWN_HOURS, TAG, evaluate


def row(model: str, version: int, episode: str) -> dict[str, Any]:
    return {"model_name": model, "version": version, "open": episode, "column": "calibration", "e": 431.2}


class World:
    def __init__(self) -> None:
        self.instance, self.warehouse = dg.DagsterInstance.ephemeral(), FakeWarehouse()
        self.rows: list[dict[str, Any]] = []
        self.warehouse.on("ml.drift_reports", lambda _: self.rows)
        self.cursor: str | None = None
        self.now = 1_000_000.0

    def tick(self) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = evaluate(context, self.warehouse, clock=lambda: self.now)
        self.now += 60
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return list(result.run_requests or [])


def test_an_alarm_asks_once_with_its_reason() -> None:
    world = World()
    assert not world.tick()
    world.rows = [row("saga_failure.order.technical", 3, "saga_failure.order.technical/3@T1")]
    [wanted] = world.tick()
    assert wanted.run_key == "drift/saga_failure.order.technical/3@T1"
    assert wanted.tags["isthmus/reason"] == "drift: calibration of saga_failure.order.technical version 3 (e = 431)"
    assert wanted.tags[TAG] == "saga_failure.order.technical/3@T1"
    for _ in range(100):
        assert not world.tick()
    world.now += 86_400 * 30  # nobody was promoted: the alarm stands, and the daily training goes on
    assert not world.tick()


def test_several_alarms_are_one_training_and_the_next_waits() -> None:
    world = World()
    world.rows = [row("a", 1, "a/1@T1"), row("b", 1, "b/1@T1")]
    [wanted] = world.tick()
    assert wanted.run_key == "drift/a/1@T1+b/1@T1"
    world.rows = [row("a", 2, "a/2@T2"), row("b", 1, "b/1@T1")]
    assert not world.tick()
    world.now += COOLDOWN_HOURS * 3600
    [later] = world.tick()
    assert later.run_key == "drift/a/2@T2"
    world.rows = []
    assert not world.tick()


def test_a_lost_cursor_asks_under_the_same_key_and_a_warehouse_that_is_away_is_no_failure() -> None:
    world = World()
    world.rows = [row("a", 1, "a/1@T1")]
    [first] = world.tick()
    world.cursor = "nonsense"
    [again] = world.tick()
    assert first.run_key == again.run_key  # Dagster takes a key once

    def away(_: Any) -> list[dict[str, Any]]:
        raise WarehouseUnavailable("not there")

    world.warehouse.on("ml.drift_reports", away)
    context = dg.build_sensor_context(instance=world.instance, cursor=world.cursor)
    skipped = evaluate(context, world.warehouse)
    assert isinstance(skipped, dg.SkipReason)
    assert "WarehouseUnavailable" in str(skipped.skip_message)
