"""Intervals around a forecast that keep their share: conformal quantiles, corrected as outcomes come in.

What belongs here: the spread of a row, the quantiles of errors over spreads, and their online correction. What does
not: the forecast in the middle.

Errors of the backtest over a spread that is learned of them (its rows split in two, so that no row's spread was fitted
on its own error) give quantiles by stretch of the horizon. What comes afterwards moves them (Gibbs and Candès 2021): a
load above its quantile raises it by a rate, one below lowers it by a rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ml.load.boosting import BoostedModel
from ml.load.design import Design
from ml.load.panel import Floats, Ints

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)
_LEAST_SPREAD = 1e-3
#: How far a correction may go, in spreads.
_LIMIT = 20.0


@dataclass(slots=True)
class Spread:
    """What errors of a row are like: their median size, in scales of the series, by trees over the design."""

    model: BoostedModel = field(default_factory=lambda: BoostedModel(rounds=60, learning_rate=0.12, leaves=15))

    def fit(self, design: Design, error: Floats) -> Spread:
        """Fit on absolute errors (n,), in scales; NaN where not known."""
        self.model.fit(design, np.log(np.abs(error) + _LEAST_SPREAD))
        return self

    def predict(self, design: Design) -> Floats:
        """Return (n,) spreads, above 0."""
        found: Floats = np.exp(self.model.predict(design))
        return found


@dataclass(slots=True)
class Intervals:
    """Quantiles of errors over spreads: ``quantiles`` (stretches, levels), and of each series a factor for its own."""

    levels: tuple[float, ...]
    rate: float = 0.05
    quantiles: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    factor: Floats = field(default_factory=lambda: np.zeros(0))
    #: How large errors are lately over those of the backtest: (series,). Follows within ``memory`` steps.
    width: Floats = field(default_factory=lambda: np.zeros(0))
    memory: float = 48.0
    #: Mean error over spread in the backtest, by stretch.
    usual: Floats = field(default_factory=lambda: np.zeros(0))
    #: Online correction, in spreads: (series, stretches, levels).
    moved: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))

    def __post_init__(self) -> None:
        if not self.levels or any(not 0 < level < 1 for level in self.levels) or sorted(self.levels) != [*self.levels]:
            raise ValueError(f"levels lie between 0 and 1, ascending: {self.levels}")

    def fit(
        self,
        error: Floats,
        spread: Floats,
        series: Ints,
        stretch: Ints,
        *,
        shape: tuple[int, int],
        windows: int = 10**6,
    ) -> Intervals:
        """Learn from the backtest's errors (n,), what came less what was forecast; rows with NaN are left out.

        ``windows`` is how many stretches of time the rows tell of that do not overlap: where they are few, quantiles
        are wider by what Student's t is wider than the normal.
        """
        from scipy.stats import norm, t

        levels = np.array(self.levels)
        middle = np.abs(levels - 0.5) < 0.05
        normal = np.where(middle, 1.0, norm.ppf(levels))
        wider = np.where(middle, 1.0, t.ppf(levels, max(windows - 1, 2)) / normal)
        known = np.isfinite(error)
        ratio, series, stretch = error[known] / spread[known], series[known], stretch[known]
        rows = np.bincount(series, minlength=shape[0])
        size = np.bincount(series, weights=np.minimum(np.abs(ratio), 50.0), minlength=shape[0])
        usual = size.sum() / max(rows.sum(), 1)
        self.factor = (size + 1000.0 * usual) / (rows + 1000.0) / usual if usual > 0 else np.ones(shape[0])
        ratio = ratio / self.factor[series]
        self.quantiles = np.zeros((shape[1], len(self.levels)))
        for place in range(shape[1]):
            own = ratio[stretch == place]
            if len(own):
                # The finite-sample step of split conformal: the k-th of n + 1.
                shares = np.clip(0.5 + (levels - 0.5) * (len(own) + 1) / len(own), 0.0, 1.0)
                self.quantiles[place] = np.quantile(own, shares) * wider
        told = np.bincount(stretch, minlength=shape[1])
        self.usual = np.bincount(stretch, weights=np.abs(ratio), minlength=shape[1]) / np.maximum(told, 1)
        self.usual = np.where(self.usual > 0, self.usual, max(float(self.usual.max(initial=0.0)), 1e-9))
        self.width = np.ones(shape[0])
        self.moved = np.zeros((*shape, len(self.levels)))
        return self

    def bounds(self, spread: Floats, series: Ints, stretch: Ints) -> Floats:
        """Return (n, levels) the distances of the quantiles from the forecast, in scales, never crossing."""
        size = spread * self.factor[series] * self.width[series]
        distance = self.quantiles[stretch] + self.moved[series, stretch]
        found: Floats = np.maximum.accumulate(distance * size[:, None], axis=1)
        return found

    def learn(self, error: Floats, spread: Floats, series: Ints, stretch: Ints, steps: int) -> None:
        """Take outcomes (n,) of ``steps`` steps: what came less what was forecast, in scales.

        Outcomes that come together count by their mean, so that one run of the horizon moves a quantile by a rate.
        """
        known = np.isfinite(error)
        error, spread, series, stretch = error[known], spread[known], series[known], stretch[known]
        if not len(error):
            return
        above = error[:, None] > self.bounds(spread, series, stretch)
        step = above - (1.0 - np.array(self.levels))
        cell = series * self.moved.shape[1] + stretch
        cells, place, rows = np.unique(cell, return_inverse=True, return_counts=True)
        mean = np.stack([np.bincount(place, weights=column) for column in step.T], axis=1) / rows[:, None]
        usual = np.maximum(np.abs(self.quantiles), np.abs(self.quantiles).max(axis=1, keepdims=True) / 4)
        flat = self.moved.reshape(-1, len(self.levels))
        moved = flat[cells] + self.rate * usual[cells % self.moved.shape[1]] * mean
        flat[cells] = np.clip(moved, -_LIMIT, _LIMIT)
        size = np.abs(error) / (spread * self.factor[series] * self.usual[stretch])
        told = np.bincount(series, minlength=len(self.width))
        lately = np.bincount(series, weights=np.minimum(size, 20.0), minlength=len(self.width)) / np.maximum(told, 1)
        share = np.where(told > 0, min(steps / self.memory, 1.0), 0.0)
        self.width = np.clip(self.width + share * (lately - self.width), 0.5, 10.0)
