"""The assets of the failure model: features, models, predictions.

What belongs here: the assets, their metadata and their checks. What does not: queries (``data``), training and
promotion (``learning``), computation (``ml.sagas``).

Annotations are evaluated here: Dagster reads the parameters' types from them.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from assets.decisions import evidence
from assets.resting import decides
from assets.sagas import data
from assets.sagas.learning import BASELINES, Learned, learn, promotion_decision
from ml.sagas.types import model_name
from resources.decisions import DecisionStore, PublishFailed
from resources.kafka import KafkaResource
from resources.warehouse import WarehouseResource

STAGING = dg.AssetKey(["staging", "stg_saga_events"])
FEATURES = dg.AssetKey(["ml", "saga_features"])
MODEL = dg.AssetKey(["ml", "saga_model"])
PREDICTIONS = dg.AssetKey(["ml", "saga_predictions"])
ACTOR = "ml/saga_model"
_WARN = dg.AssetCheckSeverity.WARN
_DAILY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
_HOURLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=3))


@dg.asset(
    key=FEATURES,
    deps=[STAGING],
    group_name="sagas",
    owners=["team:data"],
    kinds={"clickhouse"},
    description="What is known of a saga after each of its steps, never later: one table for each saga type.",
    code_version="1",
    freshness_policy=_DAILY,
    check_specs=[
        dg.AssetCheckSpec("every_prefix", asset=FEATURES, description="Every step of the chosen sagas has a row."),
        dg.AssetCheckSpec("no_future", asset=FEATURES, description="No figure of a row looks past the row's own time."),
    ],
)
def saga_features(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Compute every prefix's features in the warehouse."""
    from ml.sagas.types import saga_type

    metadata: dict[str, Any] = {}
    total, missing, ahead = 0, 0, 0
    for name in data.saga_types(warehouse):
        features = data.features_of(saga_type(name), data.vocabulary(warehouse, name))
        table = data.build_features(warehouse, saga_type(name), features)
        rows, lacking, future = data.audit(warehouse, name, features)
        total, missing, ahead = total + rows, missing + lacking, ahead + future
        metadata |= {
            f"{name}: prefixes": rows,
            f"{name}: features": len(features.features),
            f"{name}: table": table,
            f"{name}: definition": features.digest,
            f"{name}: data version": data.data_version(warehouse, name),
        }
    return dg.MaterializeResult(
        metadata={"dagster/row_count": total, **metadata},
        check_results=[
            dg.AssetCheckResult(
                asset_key=FEATURES, check_name="every_prefix", passed=missing == 0, metadata={"missing": missing}
            ),
            dg.AssetCheckResult(
                asset_key=FEATURES, check_name="no_future", passed=ahead == 0, metadata={"values": ahead}
            ),
        ],
    )


@dg.asset(
    key=MODEL,
    deps=[FEATURES],
    group_name="sagas",
    owners=["team:data"],
    kinds={"sklearn", "mlflow"},
    description="The probability that a running saga ends in failure, learned from sagas that have ended; a better "
    "model becomes champion, a refusal is recorded.",
    code_version="2",
    metadata=decides(
        "model_promotion",
        rests_on=[key for key, level in evidence.of_suites(["staging/stg_saga_events"]).items() if level == "ERROR"],
        because="evaluated by the training itself, on what it reads; and the challenger's gain and calibration",
    ),
    freshness_policy=_DAILY,
    pool="model_promotion",
    check_specs=[
        dg.AssetCheckSpec("above_baselines", asset=MODEL, description="Each model ranks better than its baselines."),
        dg.AssetCheckSpec("calibration", asset=MODEL, description="Probabilities hold: error at most 0.03."),
    ],
)
def saga_model(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    kafka: KafkaResource,
    registry: dg.ResourceParam[Any],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Train each outcome of each saga type, register it, and promote it where it is better on later sagas."""
    from ml.sagas.types import saga_type

    learned: list[Learned] = []
    store = DecisionStore(warehouse, bus=kafka)
    checks = evidence.live_checks(warehouse, ["staging/stg_saga_events"], run_id=context.run_id)
    for name in data.saga_types(warehouse):
        inputs = {"staging/stg_saga_events": data.data_version(warehouse, name)}
        for one in learn(warehouse, registry, saga_type(name), inputs=inputs, checks=checks, run_id=context.run_id):
            learned.append(one)
            if one.verdict is None:
                context.log.info("%s %s: not trained: %s", name, one.outcome.name, one.refusal)
                continue
            decision = promotion_decision(
                one, inputs=inputs, checks=checks, run_id=context.run_id, now=datetime.now(UTC)
            )
            verdict = one.verdict
            store.record(
                decision.as_record(), allowed=verdict.promoted, reasons=verdict.reasons, actor=ACTOR, rung="apply"
            )
            if verdict.promoted:
                try:
                    store.publish(decision.decision_id, actor=ACTOR)
                except PublishFailed as error:
                    context.log.warning("promotion of %s is recorded, not announced: %s", decision.subject, error)
    return dg.MaterializeResult(metadata=_metadata(learned), check_results=_checks(learned))


@dg.asset(
    key=PREDICTIONS,
    deps=[MODEL, FEATURES],
    group_name="sagas",
    owners=["team:data"],
    kinds={"sklearn", "clickhouse"},
    description="For each step of each running saga, the champion's probability of each outcome.",
    code_version="1",
    freshness_policy=_HOURLY,
    check_specs=[dg.AssetCheckSpec("bounds", asset=PREDICTIONS, description="Probabilities lie within 0 and 1.")],
)
def saga_predictions(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, registry: dg.ResourceParam[Any]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Score what is running with each champion, named by its version number."""
    from ml.sagas.types import saga_type

    metadata: dict[str, Any] = {}
    written, outside = 0, 0
    for name in data.saga_types(warehouse):
        kind, computed = saga_type(name), {}
        for outcome in kind.outcomes:
            champion = registry.find(model_name(name, outcome.name), "champion")
            if champion is None:
                metadata[f"{name} {outcome.name}"] = "no champion"
                continue
            model = registry.load(champion)
            if not model.is_current:
                metadata[f"{name} {outcome.name}"] = f"version {champion.version} has an old form: train it anew"
                continue
            if model.features.digest not in computed:
                running = data.running(name)
                computed[model.features.digest] = data.prefixes(warehouse, kind, model.features, sagas=running)
            rows = computed[model.features.digest]
            p = model.score(rows.x) if len(rows) else rows.x[:, 0]
            outside += int((~((p >= 0) & (p <= 1))).sum())
            data.write_predictions(warehouse, kind, outcome.name, rows, p, champion, datetime.now(UTC))
            written += len(rows)
            alarms = len(set(rows.saga_ids[p >= model.threshold]))
            metadata[f"{name} {outcome.name}"] = (
                f"version {champion.version}: {len(set(rows.saga_ids))} running, {alarms} above the alarm threshold"
            )
    return dg.MaterializeResult(
        metadata={"dagster/row_count": written, **metadata},
        check_results=[
            dg.AssetCheckResult(
                asset_key=PREDICTIONS, check_name="bounds", passed=outside == 0, metadata={"outside": outside}
            )
        ],
    )


def _metadata(learned: Sequence[Learned]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for one in learned:
        key = f"{one.saga_type} {one.outcome.name}"
        if one.trained is None or one.verdict is None or one.version is None:
            metadata[key] = f"not trained: {one.refusal}"
            continue
        arms = one.trained.arms
        best = max(BASELINES, key=lambda name: arms[name].auc.value)
        ours = arms["challenger"].auc
        verdict = "promoted to champion" if one.verdict.promoted else "not promoted"
        metadata |= {
            f"{key}: AUC": ours.value,
            f"{key}: AUC interval": f"{ours.low:.3f} to {ours.high:.3f}",
            f"{key}: AUC of the best baseline ({best})": arms[best].auc.value,
            f"{key}: calibration error": one.verdict.calibration_error,
            f"{key}: alarm from probability": one.trained.model.threshold,
            f"{key}: cost per prefix, without a model": f"{one.trained.cost:.4f}, {one.trained.cost_without:.4f}",
            f"{key}: version": one.version.version,
            f"{key}: verdict": "; ".join((verdict, *one.verdict.reasons)),
            f"{key}: run": one.version.run_id,
        }
        for file, plot in (one.plots or {}).items():
            encoded = base64.b64encode(plot).decode()
            metadata[f"{key}: {file.removesuffix('.png')}"] = dg.MetadataValue.md(
                f"![](data:image/png;base64,{encoded})"
            )
    return metadata


def _checks(learned: Sequence[Learned]) -> list[dg.AssetCheckResult]:
    trained = [one for one in learned if one.trained is not None and one.verdict is not None]
    below, off = [], []
    for one in trained:
        assert one.trained is not None
        assert one.verdict is not None
        arms = one.trained.arms
        if arms["challenger"].auc.value <= max(arms[name].auc.value for name in BASELINES):
            below.append(f"{one.saga_type} {one.outcome.name}")
        if one.verdict.calibration_error > 0.03:
            off.append(f"{one.saga_type} {one.outcome.name}: {one.verdict.calibration_error:.3f}")
    said = f"{len(trained)} models trained, {len(learned) - len(trained)} refused"
    return [
        dg.AssetCheckResult(
            asset_key=MODEL,
            check_name="above_baselines",
            passed=not below,
            severity=_WARN,
            description="; ".join(below) or said,
        ),
        dg.AssetCheckResult(
            asset_key=MODEL,
            check_name="calibration",
            passed=not off,
            severity=_WARN,
            description="; ".join(off) or said,
        ),
    ]
