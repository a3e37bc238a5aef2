"""Gradient boosting over all series at once, on a design.

What belongs here: the estimator and its settings. What does not: which of several is used where (``ml.load.choice``).
Absolute error, because a load has spikes, and because the median of a difference is what MASE judges.

A model is the mean of ``bags`` that learn on disjoint rows, each on one thread and all at once: threads that share one
fit wait for each other at every split, and for any that other work has taken the core from.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.load.design import Design
from ml.load.panel import Floats

#: Fewer rows are one bag.
_LEAST_ROWS = 10_000


@dataclass(slots=True)
class BoostedModel:
    """Trees over the columns of a design; columns without any value are left out."""

    rounds: int = 200
    learning_rate: float = 0.08
    leaves: int = 31
    least_in_leaf: int = 60
    bags: int = 2
    seed: int = 0
    _live: NDArray[np.bool_] | None = field(default=None, repr=False)
    _fitted: list[Any] = field(default_factory=list, repr=False)

    def fit(self, design: Design, target: Floats) -> BoostedModel:
        """Fit on the rows whose target is known; rows of one origin fall into one bag."""
        known = np.isfinite(target)
        if not known.any():
            raise ValueError("nothing to learn from: no step of the past is known")
        columns, target = design.columns[known], target[known]
        live: NDArray[np.bool_] = np.atleast_1d(np.isfinite(columns).any(axis=0))
        self._live, columns = live, columns[:, live]
        bag = np.cumsum(design.ahead == 0)[known] % self.bags
        parts = [bag == place for place in range(self.bags)] if len(target) >= _LEAST_ROWS else [bag >= 0]
        with ThreadPoolExecutor(max_workers=min(len(parts), os.cpu_count() or 1)) as pool:
            found = [
                pool.submit(self._one, columns[part], target[part], self.seed + place)
                for place, part in enumerate(parts)
            ]
            self._fitted = [one.result() for one in found]
        return self

    def _one(self, columns: Floats, target: Floats, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="openmp"):
            return HistGradientBoostingRegressor(
                loss="absolute_error",
                max_iter=self.rounds,
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.leaves,
                min_samples_leaf=min(self.least_in_leaf, max(5, len(target) // 50)),
                early_stopping=False,
                random_state=seed,
            ).fit(columns, target)

    def predict(self, design: Design) -> Floats:
        """Return (n,) differences from the base over the scale."""
        if self._live is None:
            raise ValueError("the model is not fitted")
        columns = design.columns[:, self._live]
        found: Floats = np.mean([one.predict(columns) for one in self._fitted], axis=0)
        return found
