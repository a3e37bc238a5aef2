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

#: Counts up whenever a pickled estimator of before would no longer score as it did.
FORM = 2


class OldForm(ValueError):
    """The model was pickled when its estimators had another form: it must be trained anew."""


@dataclass
class FailureModel:
    """One outcome of one saga type against the rest; ``threshold`` is the probability from which an alarm pays.

    ``form`` is the code's :data:`FORM` when it was trained; 1 is that of models that do not say.
    """

    saga_type: str
    outcome: str
    features: FeatureSet
    estimator: Any
    calibrator: Calibrator
    threshold: float
    form: int = 1

    @property
    def is_current(self) -> bool:
        """Return whether this code can score it."""
        return self.form == FORM

    def score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of the matrix's rows (prefixes, features).

        Raises :class:`OldForm` where this code no longer knows how.
        """
        if not self.is_current:
            raise OldForm(f"the model has form {self.form}, this code scores form {FORM}: train it anew")
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
