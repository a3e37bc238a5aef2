"""Which forecast serves a series at a stretch of the horizon: blends, weighed by their errors in a rolling backtest.

What belongs here: the candidates' blends and the choice. What does not: the candidates themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.load.panel import Floats, Ints

#: Shares of the candidates that are tried, one blend a row. Columns of a prediction: trees, line, the same hour of last
#: week, the last load.
BLENDS = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.75, 0.25, 0.0, 0.0],
        [0.5, 0.5, 0.0, 0.0],
        [0.25, 0.75, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.5, 0.0, 0.5, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.5, 0.0, 0.0, 0.5],
        [0.0, 0.5, 0.0, 0.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
#: Rows of a series that weigh as much as all series together.
_SHRUNK = 2000.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The blend of each series and stretch: ``blend`` (series, stretches) is a row of ``BLENDS``."""

    blend: Ints

    def apply(self, candidates: Floats, series: Ints, stretch: Ints) -> Floats:
        """Return (n,) the blended predictions of ``candidates`` (n, 4)."""
        found: Floats = (candidates * BLENDS[self.blend[series, stretch]]).sum(axis=1)
        return found


def choose(candidates: Floats, target: Floats, series: Ints, stretch: Ints, shape: tuple[int, int]) -> Choice:
    """Return the blend of least absolute error in the backtest.

    ``candidates`` (n, 4) and ``target`` (n,) are in scales of their series; rows without a target are left out. A
    series' own error counts by its rows, the error of all series as ``_SHRUNK`` rows, so a series with little past
    takes what serves the others. Where nothing was tested, it is the first blend.
    """
    known = np.isfinite(target)
    error = np.abs(candidates[known] @ BLENDS.T - target[known][:, None])
    # One wild hour must not choose for a month.
    error = np.minimum(error, 20.0)
    cell = series[known] * shape[1] + stretch[known]
    own = np.stack([np.bincount(cell, weights=column, minlength=shape[0] * shape[1]) for column in error.T], axis=1)
    rows = np.bincount(cell, minlength=shape[0] * shape[1]).astype(np.float64)
    own, rows = own.reshape(*shape, -1), rows.reshape(shape)
    pooled = own.sum(axis=0) / np.maximum(rows.sum(axis=0), 1.0)[:, None]
    total = (own + _SHRUNK * pooled) / (rows + _SHRUNK)[:, :, None]
    return Choice(total.argmin(axis=2))
