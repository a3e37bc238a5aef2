"""The failure model: an estimator, its calibration, its features and its operating point in one object.

What belongs here: what is registered and served. What does not: how it was trained (``training``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.sagas.calibration import Calibrator
from ml.sagas.estimators import log_odds
from ml.sagas.features import FeatureSet
from ml.sagas.spec import SagaEvent
from ml.sagas.state import Layout, RecentEvents, SagaState


@dataclass
class FailureModel:
    """One outcome of one saga type against the rest; ``threshold`` is the probability from which an alarm pays."""

    saga_type: str
    outcome: str
    features: FeatureSet
    estimator: Any
    calibrator: Calibrator
    threshold: float

    def score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of the matrix's rows (prefixes, features)."""
        return self.calibrator.predict(log_odds(self.estimator.predict_proba(x)[:, 1]))

    def predict(self, x: Any) -> NDArray[np.float64]:
        """Return the same for what MLflow hands over: a matrix or a frame in the order of the features."""
        return self.score(np.asarray(x, dtype=np.float64))

    def of_prefix(self, events: Sequence[SagaEvent], recent: RecentEvents | None = None) -> float:
        """Return the probability for one running saga from its events so far; NaN before its first step."""
        state = SagaState(Layout(self.features))
        for event in events:
            state.update(event)
        if not state.position:
            return float("nan")
        return float(self.score(np.array([self.features.encode(state.values(recent))]))[0])
