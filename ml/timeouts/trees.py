"""Regression trees as plain numbers: a boosted model that is asked for one row in some 20 µs, and saved as JSON.

What belongs here: taking the trees out of a fitted scikit-learn model, and asking them. What does not: what they
predict (``ml.timeouts.model``). scikit-learn takes some 2 ms for one row, whatever the number of trees, because its
checks and threads are made for many rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml.quantiles import Floats

_LEAF = -1


@dataclass(frozen=True, slots=True)
class Trees:
    """A sum of trees. A node goes left where its feature is at most its threshold; a leaf's threshold is its value."""

    offset: float
    roots: list[int]
    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    depth: int
    _arrays: tuple[Any, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        feature = np.array(self.feature)
        children = np.stack([self.left, self.right], axis=1).ravel()
        arrays = np.array(self.roots), np.where(feature == _LEAF, 0, feature), np.array(self.threshold), children
        object.__setattr__(self, "_arrays", arrays)

    def one(self, row: Sequence[float]) -> float:
        """Return the sum for one row."""
        feature, threshold, left, right = self.feature, self.threshold, self.left, self.right
        total = self.offset
        for root in self.roots:
            node = root
            while (which := feature[node]) >= 0:
                node = left[node] if row[which] <= threshold[node] else right[node]
            total += threshold[node]
        return total

    def many(self, rows: Floats) -> Floats:
        """Return the sum for each row of ``rows``, (n, features)."""
        roots, feature, threshold, children = self._arrays
        flat = np.ascontiguousarray(rows).ravel()
        first = np.arange(len(rows))[:, None] * rows.shape[1]
        node = np.repeat(roots[None], len(rows), axis=0)
        for _ in range(self.depth):  # a leaf's children are itself
            right = flat.take(feature.take(node) + first) > threshold.take(node)
            node = children.take(2 * node + right)
        total: Floats = self.offset + threshold[node].sum(axis=1)
        return total

    def save(self) -> dict[str, Any]:
        """Return the trees as plain numbers."""
        names = ("offset", "roots", "feature", "threshold", "left", "right", "depth")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Trees:
        """Return what ``save`` saved."""
        return cls(**saved)


def trees_of(fitted: Any, rows: Floats) -> Trees:
    """Return the trees of a ``HistGradientBoostingRegressor`` with an identity link, checked against it on ``rows``.

    scikit-learn has no public door to these trees. The check makes a change of their layout an error of the fit
    instead of wrong time-outs.
    """
    roots: list[int] = []
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    depth = 0
    for (predictor,) in fitted._predictors:  # noqa: SLF001
        first = len(feature)
        roots.append(first)
        nodes = predictor.nodes
        depth = max(depth, int(nodes["depth"].max()))
        for at, node in enumerate(nodes, start=first):
            leaf = bool(node["is_leaf"])
            feature.append(_LEAF if leaf else int(node["feature_idx"]))
            threshold.append(float(node["value"] if leaf else node["num_threshold"]))
            left.append(at if leaf else first + int(node["left"]))
            right.append(at if leaf else first + int(node["right"]))
    baseline = float(np.asarray(fitted._baseline_prediction).ravel()[0])  # noqa: SLF001
    trees = Trees(baseline, roots, feature, threshold, left, right, depth)
    if not np.allclose(trees.many(rows), fitted.predict(rows), rtol=1e-9, atol=1e-9):
        raise RuntimeError("the trees taken out of scikit-learn's model answer otherwise than it does")
    return trees
