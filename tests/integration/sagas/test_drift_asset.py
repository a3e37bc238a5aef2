"""The drift asset on shop traffic: quiet while nothing changes, one episode when something does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.sagas import data, drift, saga_drift
from benchmarks._saga_table import saga_table
from examples.shop import traffic
from ml.sagas.calibration import Calibrator, log_odds
from ml.sagas.features import feature_set
from ml.sagas.model import FORM, FailureModel
from ml.sagas.types import ORDER, model_name
from resources.registry import FakeRegistry, Record
from resources.warehouse import WarehouseResource
from tests.integration.sagas.conftest import stage
from tests.unit.ml.drift_world import JUDGED, LEARNED, NOW, world

NAME = model_name("order", "technical")
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)


@pytest.fixture
def champion(own_warehouse: WarehouseResource) -> FakeRegistry:
    """A champion of a day, judged on the half day after."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    stage(own_warehouse, saga_table(traffic(seed=5, days=2.2, orders_per_day=700, end=EVENING)))
    features = feature_set(data.vocabulary(own_warehouse, "order"))
    rows = data.prefixes(own_warehouse, ORDER, features, sagas="1").labelled
    start = np.sort(rows.start_us)
    split, judged = int(start[int(0.4 * len(start))]), int(start[int(0.75 * len(start))])
    early = rows.where(rows.start_us < split)
    fitted = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1.0), StandardScaler(), LogisticRegression(C=0.05)
    ).fit(early.x, early.label == "technical")
    model = FailureModel("order", "technical", features, fitted, _as_is(fitted, early), 0.1, FORM)
    registry = FakeRegistry()
    tags = {"learned_us": str(int(start[0])), "split_us": str(split), "judged_us": str(judged)}
    version = registry.register(NAME, model, Record({}, {}, features.names, early.x[:2], tags=tags))
    registry.alias(version, "champion")
    return registry


def _as_is(fitted: Any, early: Any) -> Calibrator:
    return Calibrator("none").fit(log_odds(fitted.predict_proba(early.x)[:, 1]), early.label == "technical")


def run(warehouse: WarehouseResource, registry: FakeRegistry) -> tuple[dict[str, Any], bool]:
    result = dg.materialize([saga_drift], resources={"warehouse": warehouse, "registry": registry})
    [event] = result.get_asset_materialization_events()
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in event.materialization.metadata.items()}, check.passed


def test_quiet_then_an_episode_that_keeps_its_name(
    own_warehouse: WarehouseResource, champion: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_warehouse.command(f"TRUNCATE TABLE {drift.REPORTS}")
    metadata, quiet = run(own_warehouse, champion)
    key = f"{NAME} version 1"
    assert quiet, metadata[key]
    assert "no alarm" in metadata[key]
    assert metadata[f"{key}: evidence"].startswith("![](data:image/png;base64,")

    # What changes is made by hand from here on: a day and a half of larger amounts.
    tags = {"learned_us": "0", "split_us": str(LEARNED), "judged_us": str(JUDGED)}
    champion.tags[NAME, 1].update(tags)
    monkeypatch.setattr(drift, "_reach", lambda *_: (NOW, 0))
    monkeypatch.setattr(drift, "_rows", lambda *_, begin_us: world(1, shift=1.0))
    metadata, quiet = run(own_warehouse, champion)
    assert not quiet
    assert "alarm: saga_failure.order.technical/1@1970-01-04T" in metadata[key]
    # A later look may no longer see it; it is the same alarm until there is another champion.
    monkeypatch.setattr(drift, "_rows", lambda *_, begin_us: world(1))
    assert not run(own_warehouse, champion)[1]
    rows = own_warehouse.query_rows(f"SELECT * FROM {drift.REPORTS} FINAL ORDER BY reported_at")
    assert [bool(row["episode"]) for row in rows] == [False, True, True]
    assert rows[1]["episode"] == rows[2]["episode"]
    assert rows[1]["evidence"] >= 20

    # What cannot be watched is said.
    champion.tags[NAME, 1]["judged_us"] = champion.tags[NAME, 1]["split_us"]
    assert "do not make" in run(own_warehouse, champion)[0][key]
    del champion.tags[NAME, 1]["learned_us"]
    assert "train it anew" in run(own_warehouse, champion)[0][key]
