"""Conditional quantiles: a line in one covariate that a given share of the observations lies under.

What belongs here: the estimator. What does not: what a quantile is used for (``ml.policy``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class QuantileLine:
    """``intercept + slope * x`` at ``quantile``; units are those of the observations."""

    quantile: float
    intercept: float
    slope: float

    def at(self, x: Floats | float) -> Floats:
        """Return the quantile at ``x``."""
        return np.asarray(self.intercept + self.slope * np.asarray(x, dtype=np.float64))


def fit_rising_line(x: Floats, y: Floats, quantile: float) -> QuantileLine:
    """Fit a linear conditional quantile that never falls with ``x`` (Koenker and Bassett 1978, slope at least 0).

    ``x`` and ``y`` are 1-d, of one length, finite. For a given slope the best intercept is the quantile of the
    residuals, and the loss left is convex in the slope: so a golden-section search over the slope finds the optimum in
    some 60 passes over the data, where a linear program over all rows takes seconds.
    """
    if len(x) != len(y) or not len(y):
        raise ValueError(f"need as many x as y, and some: {len(x)}, {len(y)}")
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile lies between 0 and 1: {quantile}")
    spread = float(np.ptp(x))
    if spread <= 0.0:
        return QuantileLine(quantile, observed_quantile(y, quantile), 0.0)

    def loss(slope: float) -> float:
        residual = y - slope * x
        residual -= observed_quantile(residual, quantile)
        return float(np.mean(np.maximum(quantile * residual, (quantile - 1.0) * residual)))

    low, high = 0.0, max(float(np.ptp(y)) / spread, 1e-12)
    while loss(2 * high) < loss(high):
        high *= 2
    high *= 2
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(60):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    slope = (low + high) / 2
    # The search closes in on 0 without reaching it: a flat line that is as good is the simpler answer.
    if loss(0.0) <= loss(slope) * (1 + 1e-9):
        slope = 0.0
    return QuantileLine(quantile, observed_quantile(y - slope * x, quantile), slope)


def observed_quantile(values: Floats, quantile: float) -> float:
    """Return the observation of ``values`` (1-d, at least one) that is the quantile: no interpolation."""
    index = min(len(values) - 1, max(0, int(np.ceil(quantile * len(values))) - 1))
    return float(np.partition(values, index)[index])
