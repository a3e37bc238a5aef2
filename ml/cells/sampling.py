"""Which rows a steward is asked about: those whose cells stand for many that are not understood yet.

What belongs here: the choice. What does not: what is learned from the answers (``labels``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.cells.table import Floats, Ints

_GROUPS = 20
_SAMPLE = 2_000


def groups(spaces: list[NDArray[np.float32]], seed: int) -> Ints:
    """Return (n, columns): groups of like cells of each column, at most ``_GROUPS`` each."""
    from sklearn.cluster import KMeans

    n = len(spaces[0])
    rng = np.random.default_rng(seed)
    some = rng.choice(n, min(n, _SAMPLE), replace=False)
    out = np.zeros((n, len(spaces)), dtype=np.int64)
    for index, points in enumerate(spaces):
        if points.shape[1] == 0:
            continue
        distinct = np.unique(points[some], axis=0)
        if len(distinct) < 2:
            continue
        if len(distinct) > _GROUPS:
            means = KMeans(_GROUPS, n_init=1, max_iter=20, random_state=seed).fit(distinct)
            out[:, index] = means.predict(points)
        else:
            squares = (points**2).sum(axis=1)[:, None] - 2 * points @ distinct.T + (distinct**2).sum(axis=1)[None, :]
            out[:, index] = squares.argmin(axis=1)
    return out


def next_rows(of: Ints, p: Floats, asked: Ints, count: int, seed: int) -> Ints:
    """Return ``count`` rows (fewer where the table has fewer) not in ``asked``, one after the other the best to ask.

    A cell is worth its doubt times the share of its group, halved by each asked row of the same group; a row is worth
    the sum of its cells, with a little chance between nearly equal ones.
    """
    n, width = of.shape
    rng = np.random.default_rng(seed)
    codes = of + np.arange(width) * (int(of.max()) + 1)
    size = np.bincount(codes.ravel()).astype(float)
    doubt = np.sqrt(np.clip(p * (1 - p), 1e-4, None))
    mean_doubt = np.bincount(codes.ravel(), doubt.ravel(), minlength=len(size)) / np.maximum(size, 1)
    worth = (mean_doubt + 0.02) * np.sqrt(size / n)
    seen = np.bincount(codes[asked].ravel(), minlength=len(size)).astype(float)
    chosen: list[int] = []
    barred = np.zeros(n, dtype=bool)
    barred[asked] = True
    for _ in range(min(count, n - len(asked))):
        gain = (worth * 0.4**seen)[codes] * (0.3 + doubt / (mean_doubt[codes] + 1e-9))
        total = np.where(barred, -np.inf, gain.sum(axis=1) * np.exp(rng.normal(0, 0.08, n)))
        row = int(total.argmax())
        chosen.append(row)
        barred[row] = True
        seen += np.bincount(codes[row], minlength=len(size))
    return np.array(chosen, dtype=np.int64)
