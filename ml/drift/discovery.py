"""Many columns judged at once: which of them are called drifted, with a bounded share of false ones.

What belongs here: rules over p-values. What does not: where these come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def q_values(p: Floats) -> Floats:
    """Return the smallest false discovery rate at which each p-value is called (Benjamini and Hochberg 1995).

    Holds for independent and positively dependent columns; where no column drifts, any call at all has at most that
    chance.
    """
    p = np.asarray(p, dtype=np.float64)
    if not len(p):
        return p
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0)
