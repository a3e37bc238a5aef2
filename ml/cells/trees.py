"""Boosted trees as plain arrays: what is shipped with the code, read without unpickling, scored with NumPy alone.

What belongs here: the form and its arithmetic. What does not: fitting, which ``benchmarks/cells/train.py`` does with
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.cells.table import Floats

_BLOCK = 8_192
_PARTS = ("feature", "threshold", "left", "right", "value", "roots")


@dataclass(frozen=True)
class Trees:
    """Nodes of all trees in a row: a leaf points at itself; ``roots`` (trees,) says where each begins.

    A value at most ``threshold`` goes left. ``names`` are the features that the columns of a matrix hold.
    """

    names: tuple[str, ...]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    roots: NDArray[np.int32]
    depth: int
    base: float

    def logit(self, matrix: NDArray[np.float32]) -> Floats:
        """Return log odds (rows,) of a matrix (rows, features) without NaN.

        Each node's value is taken from its children's for a block of rows at once: plain passes over contiguous
        columns are ten times faster than following each row down each tree.
        """
        ends = np.append(self.roots[1:], len(self.feature))
        inner = self.left != np.arange(len(self.left))
        out = np.empty(len(matrix))
        for start in range(0, len(matrix), _BLOCK):
            columns = np.ascontiguousarray(matrix[start : start + _BLOCK].T, dtype=np.float32)
            total = np.full(columns.shape[1], self.base)
            for root, end in zip(self.roots, ends, strict=True):
                values: dict[int, Any] = {}
                for node in range(end - 1, root - 1, -1):  # children come after their parent
                    if inner[node]:
                        goes_right = columns[self.feature[node]] > self.threshold[node]
                        right, left = values.pop(int(self.right[node])), values.pop(int(self.left[node]))
                        values[node] = np.where(goes_right, right, left)
                    else:
                        values[node] = self.value[node]
                total += values[int(root)]
            out[start : start + _BLOCK] = total
        return out

    def arrays(self, prefix: str) -> dict[str, Any]:
        """Return what ``from_arrays`` reads, each name led by ``prefix``."""
        parts = {f"{prefix}{name}": getattr(self, name) for name in _PARTS}
        return parts | {f"{prefix}names": np.array(self.names), f"{prefix}shape": np.array([self.depth, self.base])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], prefix: str) -> Trees:
        """Return the trees that ``arrays`` gave."""
        depth, base = arrays[f"{prefix}shape"]
        names = tuple(str(name) for name in arrays[f"{prefix}names"])
        parts = {name: arrays[f"{prefix}{name}"] for name in _PARTS}
        return cls(names=names, depth=int(depth), base=float(base), **parts)

    @classmethod
    def from_sklearn(cls, fitted: Any, names: tuple[str, ...]) -> Trees:
        """Return a fitted binary ``HistGradientBoostingClassifier`` (without categories) in this form."""
        parts: dict[str, list[Any]] = {name: [] for name in _PARTS}
        place, depth = 0, 0
        for (tree,) in fitted._predictors:  # noqa: SLF001 -- scikit-learn has no public way to its trees
            nodes = tree.nodes
            leaf = nodes["is_leaf"].astype(bool)
            own = np.arange(len(nodes)) + place
            parts["feature"].append(np.where(leaf, 0, nodes["feature_idx"]))
            parts["threshold"].append(np.where(leaf, np.inf, nodes["num_threshold"]))
            parts["left"].append(np.where(leaf, own, nodes["left"] + place))
            parts["right"].append(np.where(leaf, own, nodes["right"] + place))
            parts["value"].append(np.where(leaf, nodes["value"], 0.0))
            parts["roots"].append([place])
            place += len(nodes)
            depth = max(depth, int(nodes["depth"].max()))
        kinds = (np.int16, np.float32, np.int32, np.int32, np.float32, np.int32)
        joined: dict[str, Any] = {
            name: np.concatenate(parts[name]).astype(kind) for name, kind in zip(_PARTS, kinds, strict=True)
        }
        base = float(np.ravel(fitted._baseline_prediction)[0])  # noqa: SLF001 -- as above
        return cls(names=names, depth=depth, base=base, **joined)
