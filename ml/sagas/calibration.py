"""Calibration: from a score's log-odds to a probability that holds on later sagas.

What belongs here: the map and its choice. What does not: the error's definition (``evaluation``).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ml.sagas.estimators import log_odds

Floats = NDArray[np.float64]
Method = Literal["none", "platt", "beta", "isotonic"]


class Calibrator:
    """A monotone map of log-odds to a probability, fitted on predictions for sagas later than the training ones.

    ``platt`` (Platt 1999) has two parameters, ``beta`` (Kull et al. 2017) three, ``isotonic`` as many as it likes:
    where few sagas stand behind many prefixes, few parameters hold better. ``none`` takes the log-odds as they are:
    a likelihood with a strong penalty and a free intercept gives probabilities already.
    """

    def __init__(self, method: Method = "platt") -> None:
        self.method = method

    def fit(self, odds: Floats, y: NDArray[np.int64], weight: Floats | None = None) -> Calibrator:
        """Learn the map; with one class only, the constant share."""
        self.constant_: float | None = None
        if y.min() == y.max():
            self.constant_ = float(y[0])
        elif self.method == "none":
            pass
        elif self.method == "isotonic":
            self.isotonic_ = IsotonicRegression(y_min=0.001, y_max=0.999, out_of_bounds="clip").fit(
                odds, y, sample_weight=weight
            )
        else:
            self.linear_ = LogisticRegression(C=10.0).fit(self._terms(odds), y, sample_weight=weight)
        return self

    def predict(self, odds: Floats) -> Floats:
        """Return calibrated probabilities."""
        if self.constant_ is not None:
            return np.full(len(odds), self.constant_)
        if self.method == "none":
            return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)
        if self.method == "isotonic":
            return np.asarray(self.isotonic_.predict(odds), dtype=np.float64)
        return np.asarray(self.linear_.predict_proba(self._terms(odds))[:, 1], dtype=np.float64)

    def _terms(self, odds: Floats) -> Floats:
        if self.method == "platt":
            return odds[:, None]
        p = np.clip(1 / (1 + np.exp(-np.clip(odds, -30, 30))), 1e-6, 1 - 1e-6)
        return np.column_stack([np.log(p), -np.log1p(-p)])


__all__ = ["Calibrator", "Method", "log_odds"]
