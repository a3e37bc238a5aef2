"""The time-outs' asset: learned from the attempts in the warehouse, written only where it keeps its share."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from assets.sagas import step_timeouts, timeouts
from ml.timeouts.learning import Learned
from resources.warehouse import WarehouseResource
from services.orchestrator.standing import Keeper
from tests.integration.quality.shop import build


def run(warehouse: WarehouseResource, **config: Any) -> tuple[dict[str, Any], bool]:
    result = dg.materialize(
        [step_timeouts],
        resources={"warehouse": warehouse},
        run_config={"ops": {"ml__step_timeouts": {"config": config}}},
    )
    [event] = result.get_asset_materialization_events()
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in event.materialization.metadata.items()}, check.passed


def rows(warehouse: WarehouseResource) -> list[dict[str, Any]]:
    return warehouse.query_rows(f"SELECT * FROM {timeouts.TABLE} ORDER BY learned_at")


def test_learned_written_and_read_by_the_service(
    own_warehouse: WarehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(own_warehouse, sagas=400)
    metadata, passed = run(own_warehouse)
    assert passed
    assert "too few" in metadata["said"]
    assert rows(own_warehouse) == []

    metadata, passed = run(own_warehouse, fewest=500)
    assert passed, metadata
    [row] = rows(own_warehouse)
    assert (row["attempts"], row["target"]) == (metadata["attempts"], timeouts.TARGET)
    assert {name for name, _ in Learned.restore(json.loads(row["learned"])).figures} == {
        "inventory",
        "payment",
        "notification",
    }
    nothing: Any = None
    keeper = Keeper(own_warehouse, nothing, nothing)
    keeper.renew()
    assert keeper.standing.timeouts.learned is not None

    # What does not keep its promise is not written: what was known stays in use.
    monkeypatch.setattr(timeouts, "TOLERATED", 0.0)
    metadata, passed = run(own_warehouse, fewest=500)
    assert not passed
    assert "promised" in metadata["said"]
    assert len(rows(own_warehouse)) == 1
