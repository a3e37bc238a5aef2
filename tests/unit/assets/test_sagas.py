"""The saga assets in the graph: keys, groups, checks, and names that tell saga types apart."""

from __future__ import annotations

import dagster as dg

from assets.sagas import data, saga_features, saga_model, saga_predictions
from ml.sagas.types import model_name


def test_the_graph_reads_from_features_to_predictions() -> None:
    keys = [asset.key.to_user_string() for asset in (saga_features, saga_model, saga_predictions)]
    assert keys == ["ml/saga_features", "ml/saga_model", "ml/saga_predictions"]
    assert dg.AssetKey(["staging", "stg_saga_events"]) in saga_features.dependency_keys
    assert saga_features.key in saga_model.dependency_keys
    assert saga_model.key in saga_predictions.dependency_keys


def test_each_has_its_checks() -> None:
    checks = {
        f"{key.asset_key.to_user_string()}:{key.name}"
        for asset in (saga_features, saga_model, saga_predictions)
        for key in asset.check_keys
    }
    assert checks == {
        "ml/saga_features:every_prefix",
        "ml/saga_features:no_future",
        "ml/saga_model:above_baselines",
        "ml/saga_model:calibration",
        "ml/saga_predictions:bounds",
    }


def test_saga_types_never_share_a_table() -> None:
    names = {data.table_of(name) for name in ("order", "or-der", "or_der", "or der", "o'; DROP TABLE x")}
    assert len(names) == 5
    assert all(name.replace("ml.", "").replace("_", "").isalnum() for name in names)
    assert data.table_of("order") == "ml.saga_features_order"


def test_model_names_hold_type_and_outcome() -> None:
    assert model_name("order", "technical") == "saga_failure.order.technical"
