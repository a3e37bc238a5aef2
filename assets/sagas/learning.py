"""From prefixes to a registered model and a verdict: one outcome of one saga type at a time.

What belongs here: the order of the work, and what is written down about it. What does not: computation (``ml.sagas``)
and queries (``data``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from assets.sagas import data
from ml.sagas.types import model_name
from resources.registry import ModelVersion, Record, Registry
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from ml.decisions import CheckRead, Decision
    from ml.sagas.promotion import Promotion
    from ml.sagas.training import Trained
    from ml.sagas.types import Outcome, SagaType

BASELINES = ("constant", "logistic", "boosting")
MODEL_ASSET = "ml/saga_model"
_VALID = timedelta(days=90)


@dataclass(frozen=True)
class Learned:
    """What training one outcome came to; ``refusal`` says why nothing was trained."""

    saga_type: str
    outcome: Outcome
    trained: Trained | None = None
    version: ModelVersion | None = None
    before: ModelVersion | None = None
    verdict: Promotion | None = None
    refusal: str = ""
    plots: Mapping[str, bytes] | None = None


def learn(
    warehouse: Warehouse,
    registry: Registry,
    kind: SagaType,
    *,
    inputs: Mapping[str, str],
    checks: Sequence[CheckRead],
    run_id: str,
    seed: int = 0,
) -> list[Learned]:
    """Train, register and judge each outcome of a saga type; the champion's alias moves where the verdict allows it.

    A check of ``checks`` that failed keeps the champion: what was learned from bad data is registered, not promoted.
    """
    from ml.sagas import training

    features = data.read_features(warehouse, kind.name)
    if features is None:
        return [Learned(kind.name, outcome, refusal="no features have been computed") for outcome in kind.outcomes]
    rows = data.built_prefixes(warehouse, kind, features).labelled
    if not len(rows):
        return [Learned(kind.name, outcome, refusal="no saga has ended with a label") for outcome in kind.outcomes]
    split = training.split_time(rows)
    early, later = training.ended_before(rows, split), rows.where(rows.start_us >= split)
    weight = training.censoring_weights(early, rows, split)
    learned = []
    for outcome in kind.outcomes:
        try:
            trained = training.train(
                kind,
                outcome,
                features,
                early,
                later,
                split_us=split,
                weight=weight,
                folds=(0.6,),
                draws=200,
                most_rows=15_000,
                seed=seed,
            )
        except training.TooLittleData as error:
            learned.append(Learned(kind.name, outcome, refusal=str(error)))
            continue
        began = int(early.start_us.min())
        learned.append(
            _register(warehouse, registry, kind, trained, began, inputs=inputs, checks=checks, run_id=run_id)
        )
    return learned


def _register(
    warehouse: Warehouse,
    registry: Registry,
    kind: SagaType,
    trained: Trained,
    learned_us: int,
    *,
    inputs: Mapping[str, str],
    checks: Sequence[CheckRead],
    run_id: str,
) -> Learned:
    from ml.sagas import plots

    name = model_name(kind.name, trained.outcome.name)
    before = registry.find(name, "champion")
    verdict = _judge(warehouse, registry, kind, trained, before)
    if blocked := _blocked(checks):
        verdict = replace(verdict, promoted=False, reasons=(*verdict.reasons, *blocked))
    drawn = plots.figures(
        trained.y,
        {arm: scored.p for arm, scored in trained.arms.items()},
        title=f"{kind.name}: {trained.outcome.name}, later sagas",
    )
    version = registry.register(name, trained.model, _record(kind, trained, verdict, inputs, run_id, drawn, learned_us))
    registry.alias(version, "champion" if verdict.promoted else "challenger")
    return Learned(
        kind.name,
        trained.outcome,
        trained,
        version,
        before,
        verdict,
        plots={file: plots.png(figure) for file, figure in drawn.items()},
    )


def _blocked(checks: Sequence[CheckRead]) -> tuple[str, ...]:
    """Return in the gate's words which checks keep a promotion back; that nothing was checked does too."""
    from ml.decisions import gate

    if not checks:
        return ("no check vouches for what was learned from",)
    return gate((), checks, as_of=datetime.now(UTC)).reasons


def _judge(
    warehouse: Warehouse, registry: Registry, kind: SagaType, trained: Trained, champion: ModelVersion | None
) -> Promotion:
    """Compare with the champion on sagas that are later than both trainings; with the baselines where there is none.

    A champion whose form this code cannot score any more counts as none.
    """
    from ml.sagas.evaluation import Draws
    from ml.sagas.promotion import judge

    later, own = trained.later, trained.arms["challenger"].p
    model = None if champion is None else registry.load(champion)
    if champion is None or model is None or not model.is_current:
        rivals = {f"{name} baseline": trained.arms[name].p for name in BASELINES}
        return judge(trained.y, own, later.position, rivals, trained.draws)
    fresh = later.start_us >= int(champion.tags.get("split_us", "0"))
    if model.features.digest == trained.model.features.digest:
        theirs = model.score(later.x)
    else:
        # Its features differ: they are computed anew, for the same sagas, in the same order.
        rows = data.prefixes(warehouse, kind, model.features, sagas=data.newest(kind.name))
        place = {key: row for row, key in enumerate(zip(rows.saga_ids, rows.position, strict=True))}
        chosen = [place.get(key, -1) for key in zip(later.saga_ids, later.position, strict=True)]
        theirs, fresh = model.score(rows.x[chosen]), fresh & [row >= 0 for row in chosen]
    if not fresh.any():
        fresh[:] = True
    return judge(
        trained.y[fresh],
        own[fresh],
        later.position[fresh],
        {f"champion (version {champion.version})": theirs[fresh]},
        Draws(later.saga_ids[fresh], count=200),
    )


def _record(  # noqa: PLR0917
    kind: SagaType,
    trained: Trained,
    verdict: Promotion,
    inputs: Mapping[str, str],
    run_id: str,
    figures: Mapping[str, Any],
    learned_us: int,
) -> Record:
    features = trained.model.features
    metrics: dict[str, float] = {"later_sagas": len(set(trained.later.saga_ids)), "later_prefixes": len(trained.later)}
    for name, arm in trained.arms.items():
        metrics |= {f"auc_{name}": arm.auc.value, f"ece_{name}": arm.ece.value}
        metrics |= {f"auc_{name}_low": arm.auc.low, f"auc_{name}_high": arm.auc.high}
    metrics |= {"cost": trained.cost, "cost_without_model": trained.cost_without}
    metrics = {name: value for name, value in metrics.items() if value == value}  # noqa: PLR0124 (NaN is not stored)
    return Record(
        parameters={
            "saga_type": kind.name,
            "outcome": trained.outcome.name,
            "features": len(features.features),
            "features_digest": features.digest,
            "split": datetime.fromtimestamp(trained.split_us / 1e6, UTC).isoformat(),
            "training_sagas": trained.training_sagas,
            "training_prefixes": trained.training_rows,
            "calibration": trained.model.calibrator.method,
            "cost_missed": trained.outcome.missed,
            "cost_false_alarm": trained.outcome.false_alarm,
            "estimator": str(trained.model.estimator)[:1000],
        },
        metrics=metrics,
        columns=features.names,
        example=trained.later.x[:5],
        inputs=inputs,
        figures=figures,
        documents={
            "features.json": features.as_dict(),
            "promotion.json": {
                "promoted": verdict.promoted,
                "reasons": list(verdict.reasons),
                "gains": {name: [gain.value, gain.low, gain.high] for name, gain in verdict.gains.items()},
            },
        },
        tags={
            "saga_type": kind.name,
            "outcome": trained.outcome.name,
            "is_failure": str(trained.outcome.is_failure).lower(),
            "split_us": str(trained.split_us),
            # What drift is told by: when its sagas began, and when the last one it was judged on had ended.
            "learned_us": str(learned_us),
            "judged_us": str(int(trained.later.known_us.max())),
            "threshold": repr(trained.model.threshold),
            "auc": f"{trained.arms['challenger'].auc.value:.4f}",
            "calibration_error": f"{verdict.calibration_error:.4f}",
            "calibrated": str(verdict.calibration_error <= 0.03).lower(),
            "promoted": str(verdict.promoted).lower(),
            "dagster_run_id": run_id,
        },
    )


def promotion_decision(
    learned: Learned, *, inputs: Mapping[str, str], checks: Sequence[CheckRead], run_id: str, now: datetime
) -> Decision:
    """Return the decision that stands for a verdict: which version becomes champion, and what undoes it."""
    from ml.decisions import Decision, InputRead, ModelRead, decision_id

    assert learned.version is not None
    assert learned.verdict is not None
    assert learned.trained is not None
    verdict, version, before = learned.verdict, learned.version, learned.before
    arms = learned.trained.arms
    return Decision(
        decision_id=decision_id(now, "model_promotion", version.name, run_id),
        kind="model_promotion",
        subject=version.name,
        made_at=now,
        valid_from=now,
        valid_to=now + _VALID,
        inputs=tuple(InputRead(asset, digest, None, None, None, None) for asset, digest in inputs.items()),
        checks=tuple(checks),
        action={"model": version.name, "alias": "champion", "version": version.version},
        expected=tuple(
            {
                "metric": f"auc over {rival}",
                "with_action": arms["challenger"].auc.value,
                "without_action": arms["challenger"].auc.value - gain.value,
                "low": gain.low,
                "high": gain.high,
            }
            for rival, gain in verdict.gains.items()
        ),
        guardrails=(
            {"name": "calibration_error", "limit": 0.03, "bit": verdict.calibration_error > 0.03},
            {
                "name": "gain_interval_above_zero",
                "limit": 0.0,
                "bit": any(not g.above_zero for g in verdict.gains.values()),
            },
        ),
        undo={"model": before.name, "alias": "champion", "version": before.version} if before else None,
        model=ModelRead(version.name, str(version.version), version.run_id, verdict.calibration_error <= 0.03),
        run_id=run_id,
    )
