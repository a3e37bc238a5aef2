"""What the tests of the advice service share: a policy, a model that learned a known truth, questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from ml.decisions import CheckRead, Decision, InputRead, decision_id
from ml.sagas.calibration import Calibrator
from ml.sagas.estimators import boosted, log_odds
from ml.sagas.features import feature_set
from ml.sagas.model import FORM, FailureModel
from ml.sagas.spec import SagaEvent
from ml.sagas.stream import in_process, vocabulary
from ml.sagas.types import ORDER

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
#: Regularisation that suits some hundred sagas.
_EAGER: dict[str, Any] = {"learning_rate": 0.3, "min_samples_leaf": 20, "l2_regularization": 0.0, "max_features": 1.0}
RETRY = {"max_attempts": 3, "ratio": 0.1, "window_seconds": 60.0, "backoff_ms": 120.0}


def entry(step: str, participant: str, **change: Any) -> dict[str, Any]:
    """A policy's entry for a step: 850 ms at the usual load, 500 + 50 for each request in flight."""
    return {
        "step": step,
        "participant": participant,
        "timeout_ms": 850.0,
        "timeout_quantile": 0.99,
        "load_coefficients": {"intercept": 500.0, "load": 50.0},
        "timeout_floor_ms": 400.0,
        "timeout_ceiling_ms": 3000.0,
        "observations": 4000,
        "retry_budget": RETRY,
        **change,
    }


ACTION: dict[str, Any] = {
    "saga_type": "order",
    "steps": [entry("reserve", "inventory"), entry("charge", "payment")],
    "risk_threshold": None,
    "fallback": None,
    "model": None,
}


def decision(subject: str, *, action: dict[str, Any] | None = None, hours: float = 1.0) -> dict[str, Any]:
    """A decision as the book records it."""
    now = datetime.now(UTC)
    return Decision(
        decision_id=decision_id(now, "saga_policy", subject, str(hours)),
        kind="saga_policy",
        subject=subject,
        made_at=now,
        valid_from=now,
        valid_to=now + timedelta(hours=hours),
        inputs=(InputRead("marts/fct_sagas", "v1", 1, "run", now, now),),
        checks=(CheckRead("marts/fct_sagas", "nulls", True, evaluated_at=now),),
        action=action or {**ACTION, "saga_type": subject},
        expected=({"metric": "failed_steps_share", "with_action": 0.01, "without_action": 0.02},),
        guardrails=({"name": "floor", "limit": 20.0, "bit": False},),
        undo=None,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        run_id="run",
    ).as_record()


def saga(number: int, *, charge: str, at: datetime = NOON) -> list[SagaEvent]:
    """A saga that reserves and then charges, with ``charge`` as the outcome of that."""
    us = round(at.timestamp() * 1e6) + number * 60_000_000
    name = f"s-{number}"

    def step(seconds: float, step: str, participant: str, status: str) -> SagaEvent:
        return SagaEvent(name, "step", us + int(seconds * 1e6), step, participant, status, 1, duration_ms=80.0)

    return [
        SagaEvent(name, "started", us, amount=20.0),
        step(1, "reserve", "inventory", "completed"),
        step(2, "charge", "payment", charge),
    ]


@cache
def model() -> FailureModel:
    """A model of orders that end technically four times in five where the charge timed out, else once in twenty."""
    rng, events = np.random.default_rng(5), []
    for number in range(600):
        late = rng.random() < 0.3
        events += saga(number, charge="timed_out" if late else "completed")
        fails = rng.random() < (0.8 if late else 0.05)
        at = events[-1].us + 3_000_000
        kind, reason = ("aborted", "technical") if fails else ("completed", "")
        events.append(SagaEvent(f"s-{number}", kind, at, reason=reason))
    features = feature_set(vocabulary(events))
    rows = in_process(ORDER, features, events, labelled=True)
    y = (rows.label == "technical").astype(np.int64)
    estimator = boosted(range(rows.x.shape[1]), max_iter=30, **_EAGER).fit(rows.x, y)
    calibrator = Calibrator().fit(log_odds(estimator.predict_proba(rows.x)[:, 1]), y)
    return FailureModel("order", "technical", features, estimator, calibrator, threshold=0.5, form=FORM)


def question(*statuses: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """A question over HTTP: (step, participant, status) a second apart."""
    events = [
        {"at": (NOON + timedelta(seconds=at + 1)).isoformat(), "step": step, "participant": who, "status": status}
        for at, (step, who, status) in enumerate(statuses)
    ]
    return {"saga_id": "s-1", "started_at": NOON.isoformat(), "amount": 20.0, "events": events, **more}
