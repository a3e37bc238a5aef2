"""The assets on shop traffic: trained, registered, judged, recorded; refusals are outcomes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from assets.sagas import saga_features, saga_model, saga_predictions
from benchmarks._saga_table import saga_table
from examples.shop import traffic
from ml.sagas.types import model_name
from resources.decisions import DecisionStore
from resources.kafka import KafkaResource
from resources.registry import RegistryResource
from resources.warehouse import WarehouseResource
from tests.integration.sagas.conftest import stage

NAME = model_name("order", "technical")
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> RegistryResource:
    folder = tmp_path_factory.mktemp("mlflow")
    return RegistryResource(tracking_uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"))


def run(assets: list[Any], warehouse: WarehouseResource, registry: RegistryResource) -> dg.ExecuteInProcessResult:
    resources = {
        "warehouse": warehouse,
        "registry": registry,
        "kafka": KafkaResource(bootstrap="127.0.0.1:1"),  # promotions are recorded though nobody hears of them
    }
    return dg.materialize(assets, resources=resources)


def metadata(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    [event] = [one for one in result.get_asset_materialization_events() if one.asset_key == dg.AssetKey(key.split("/"))]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_few_sagas_train_nothing_and_say_so(own_warehouse: WarehouseResource, registry: RegistryResource) -> None:
    stage(own_warehouse, saga_table(traffic(seed=5, days=0.01, end=EVENING)))
    result = run([saga_features, saga_model, saga_predictions], own_warehouse, registry)
    assert result.success
    assert "not trained" in metadata(result, "ml/saga_model")["order technical"]
    assert metadata(result, "ml/saga_predictions")["order technical"] == "no champion"
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_no_sagas_at_all(own_warehouse: WarehouseResource, registry: RegistryResource) -> None:
    stage(own_warehouse, saga_table(traffic(seed=5, days=0.01, end=EVENING)).slice(0, 0))
    assert run([saga_features, saga_model, saga_predictions], own_warehouse, registry).success


def test_trained_registered_judged_and_recorded(
    own_warehouse: WarehouseResource, registry: RegistryResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(own_warehouse, saga_table(traffic(seed=5, days=0.2, brownouts_per_day=60, end=EVENING)))
    result = run([saga_features, saga_model], own_warehouse, registry)
    seen = metadata(result, "ml/saga_model")
    assert metadata(result, "ml/saga_features")["dagster/row_count"] > 10_000
    assert seen["order technical: roc"].startswith("![](data:image/png;base64,")
    champion = registry.find(NAME, "champion")
    challenger = registry.find(NAME, "challenger")
    version = champion or challenger
    assert version is not None
    [decision] = DecisionStore(own_warehouse).list(kind="model_promotion", subject=NAME)
    assert decision.action["version"] == version.version
    assert (decision.status == "refused") == (champion is None)
    assert decision.model is not None
    assert decision.model["run_id"] == version.run_id

    # Loaded by number, it gives what it gave.
    model = registry.load(version)
    run_data = registry.client().get_run(version.run_id).data
    assert run_data.tags["input/staging/stg_saga_events"]
    assert run_data.metrics["auc_challenger"] == pytest.approx(seen["order technical: AUC"])
    files = {file.path for file in registry.client().list_artifacts(version.run_id)}
    assert {"roc.png", "precision_recall.png", "reliability.png", "features.json"} <= files
    assert model.outcome == "technical"

    # What runs is scored by the champion, at each step.
    registry.alias(version, "champion")
    scored = run([saga_predictions], own_warehouse, registry)
    row = own_warehouse.query_rows(
        "SELECT count() AS n, min(probability) AS low, max(probability) AS high, any(model_version) AS v"
        " FROM ml.saga_predictions"
    )[0]
    assert row["n"] == metadata(scored, "ml/saga_predictions")["dagster/row_count"] > 0
    assert 0 <= row["low"] <= row["high"] <= 1
    assert row["v"] == version.version

    # The same data again: no gain over the champion, so it stays, and the refusal is on record.
    again = run([saga_features, saga_model], own_warehouse, registry)
    assert "not promoted" in metadata(again, "ml/saga_model")["order technical: verdict"]
    assert registry.find(NAME, "champion") == version
    newest = DecisionStore(own_warehouse).list(kind="model_promotion", subject=NAME)[0]
    assert newest.status == "refused"
    assert "does not lie above zero" in newest.reasons[0]

    # A champion that this code can no longer score: nothing is predicted, and it is no rival.
    monkeypatch.setattr("ml.sagas.model.FORM", 99)
    monkeypatch.setattr("ml.sagas.training.FORM", 99)
    unscored = run([saga_predictions], own_warehouse, registry)
    assert "old form" in metadata(unscored, "ml/saga_predictions")["order technical"]
    run([saga_features, saga_model], own_warehouse, registry)
    newest = DecisionStore(own_warehouse).list(kind="model_promotion", subject=NAME)[0]
    assert {one["metric"] for one in newest.expected} == {
        f"auc over {name} baseline" for name in ("constant", "logistic", "boosting")
    }


def test_a_row_that_knows_its_future_fails_the_check(
    own_warehouse: WarehouseResource, registry: RegistryResource
) -> None:
    from assets.sagas import data

    stage(own_warehouse, saga_table(traffic(seed=5, days=0.01, end=EVENING)))
    run([saga_features], own_warehouse, registry)
    features = data.read_features(own_warehouse, "order")
    assert features is not None
    assert data.audit(own_warehouse, "order", features)[1:] == (0, 0)
    place = features.names.index("gap 1")
    own_warehouse.command(
        f"ALTER TABLE ml.saga_features_order UPDATE f{place} = -5 WHERE position = 2 SETTINGS mutations_sync = 2"
    )
    assert data.audit(own_warehouse, "order", features)[2] > 0
