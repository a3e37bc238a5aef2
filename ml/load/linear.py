"""Least absolute deviations on a design, one line for each stretch of the horizon.

What belongs here: the estimator. What does not: which of several is used where (``ml.load.choice``). On short steps, a
minute or five, loads are noise around a level, and a line averages it where trees learn it by heart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ml.load.design import Design
from ml.load.panel import Floats, Ints

#: Beyond this many scales a column tells no more.
_MOST = 20.0
_LEAST_RESIDUAL = 0.05


def stretches(horizon: int, most: int = 7) -> Ints:
    """Return where the stretches of a horizon begin, and its end: short at first, then longer."""
    edges = np.unique(np.round(np.geomspace(1, horizon + 1, most + 1)).astype(np.int64) - 1)
    return edges if len(edges) > 1 else np.array([0, horizon])


@dataclass(slots=True)
class LineModel:
    """A line in all columns but the last, by stretch. ``ridge`` is in rows of unit columns."""

    ridge: float = 1000.0
    edges: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weights: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def fit(self, design: Design, target: Floats, horizon: int) -> LineModel:
        """Fit by weighted least squares, reweighed five times (Schlossmacher 1973)."""
        self.edges = stretches(horizon)
        columns = _plain(design)
        self.weights = np.zeros((len(self.edges) - 1, columns.shape[1]))
        for place, (low, high) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True)):
            rows = (design.ahead >= low) & (design.ahead < high) & np.isfinite(target)
            if rows.any():
                self.weights[place] = self._solve(columns[rows], target[rows])
        return self

    def _solve(self, columns: Floats, target: Floats) -> Floats:
        weight = np.ones(len(target))
        found: Floats = np.zeros(columns.shape[1])
        for _ in range(5):
            weighed = columns * weight[:, None]
            gram = columns.T @ weighed + self.ridge * weight.mean() * np.eye(columns.shape[1])
            found = np.linalg.solve(gram, weighed.T @ target)
            weight = 1.0 / np.maximum(np.abs(target - columns @ found), _LEAST_RESIDUAL)
        return found

    def predict(self, design: Design) -> Floats:
        """Return (n,) differences from the base over the scale."""
        place = np.clip(np.searchsorted(self.edges, design.ahead, side="right") - 1, 0, len(self.weights) - 1)
        found: Floats = np.einsum("np,np->n", _plain(design), self.weights[place])
        return found


def _plain(design: Design) -> Floats:
    plain: Floats = np.clip(np.nan_to_num(design.columns[:, :-1], posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)
    return plain
