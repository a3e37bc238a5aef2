"""Figures that a few odd values do not move: what is usual, and how far from it is unusual.

What belongs here: statistics over a reference in blocks of time. A reference is seldom clean: a fault that nobody
noted lies in it. So what is usual is a median over blocks, and its spread is a quantile of the blocks' distances.
What does not belong here: what is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

#: A normal variable's 90 % quantile, in standard deviations.
_AT_90 = 1.2816


def gate(z: Floats) -> Floats:
    """Return how far a deviation of ``z`` spreads counts: not at all up to 3, half at 6, nearly whole from 20."""
    beyond = np.maximum(np.nan_to_num(z) - 3.0, 0.0)
    return np.asarray(beyond / (beyond + 3.0))


def spread(distances: Floats) -> float:
    """Return a standard deviation's worth of the distances from what is usual: of the 90 % that lie nearest."""
    if not len(distances):
        return 0.0
    return float(np.quantile(np.abs(distances), 0.8)) / _AT_90


def midmeans(group: Ints, values: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the mean of the middle half of each group, and the group's size; NaN where it has none."""
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    size = np.bincount(group, minlength=count)
    first = np.cumsum(size) - size
    place = np.arange(len(group)) - first[group]
    cut = size[group] // 4
    kept = (place >= cut) & (place < size[group] - cut)
    total = np.bincount(group[kept], weights=values[kept], minlength=count)
    left = np.bincount(group[kept], minlength=count)
    return np.where(left > 0, total / np.maximum(left, 1), np.nan), size.astype(np.float64)
