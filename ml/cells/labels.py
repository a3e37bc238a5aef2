"""What a few labelled rows say of all cells: by value, by form, by likeness, by classifiers of the table's own.

What belongs here: features of a cell from labels of other cells. What does not: the choice of rows (``sampling``), and
how far each feature is to be believed, which the shipped trees have learned on other tables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.cells.features import Evidence
from ml.cells.table import Column, Floats, Ints

_TREES = 40
_LIKE = ("runs", "words", "kinds", "around")
_CHARS = 48
LABELLED = (
    "label_rate", "label_wrong", "label_residual", "table_rate", "table_residual", "same_wrong", "same_right",
    *(f"{name}_{side}" for name in _LIKE for side in ("label_wrong", "label_right")),
    "marker_wrong", "marker_right", "near_wrong", "near_right", "near_margin",
    "own", "own_known", "pooled", "pooled_plain", "labels",
)  # fmt: skip
"""Names of the columns of :func:`label_features`."""


def space(found: Evidence, extra: np.ndarray, scale: Floats) -> list[NDArray[np.float32]]:
    """Return per column (rows, features): evidence in units of ``scale``, and which characters a value has."""
    n, _ = found.cells
    spaces = []
    for index, column in enumerate(found.table.columns):
        rows = slice(index * n, (index + 1) * n)
        plain = np.clip(np.concatenate([found.matrix[rows], extra[rows]], axis=1) / scale, -4, 4)
        varied = plain.std(axis=0) > 1e-6
        chars = characters(column)[column.codes]
        spaces.append(np.concatenate([plain[:, varied], chars], axis=1).astype(np.float32))
    return spaces


def characters(column: Column) -> NDArray[np.float32]:
    """Return (values, characters): which of a column's telling characters each value has; digits are one."""
    sets = [{"9" if c.isdigit() else c for c in value} for value in column.values]
    rows: dict[str, int] = {}
    for chars, count in zip(sets, column.counts, strict=True):
        for char in chars:
            rows[char] = rows.get(char, 0) + int(count)
    telling = [c for c, k in rows.items() if 0.002 * column.rows < k < 0.998 * column.rows]
    telling = sorted(telling, key=lambda c: -min(rows[c], column.rows - rows[c]))[:_CHARS]
    out = np.zeros((len(sets), len(telling)), dtype=np.float32)
    for place, char in enumerate(telling):
        out[:, place] = [char in chars for chars in sets]
    return out


def label_features(
    found: Evidence,
    spaces: list[NDArray[np.float32]],
    prior: Floats,
    rows: Ints,
    wrong: NDArray[np.bool_],
    *,
    seed: int,
) -> NDArray[np.float32]:
    """Return (cells, len(LABELLED)): what labels say of each cell.

    Args:
        found: The table's evidence.
        spaces: Of :func:`space`.
        prior: Probabilities without labels, (n, columns).
        rows: The labelled rows, (k,).
        wrong: Their labels, (k, columns).
        seed: Of the forests.
    """
    n, width = found.cells
    out = np.zeros((width, n, len(LABELLED)), dtype=np.float32)
    at = {name: place for place, name in enumerate(LABELLED)}
    k = len(rows)
    pooled, plain = _pooled(found, prior, rows, wrong, seed)
    table_rate, table_residual = float(wrong.mean()), float((wrong - prior[rows]).mean())
    for index, column in enumerate(found.table.columns):
        label = wrong[:, index].astype(float)
        block = out[index]
        block[:, at["label_rate"]] = (label.sum() + 2 * table_rate) / (k + 2)
        block[:, at["label_wrong"]] = label.sum()
        block[:, at["label_residual"]] = (label - prior[rows, index]).sum() / (k + 2)
        block[:, at["table_rate"]], block[:, at["table_residual"]] = table_rate, table_residual
        block[:, at["labels"]] = k
        groups = [("same", column.codes)]
        groups += [
            (f"{name}_label", _codes(shapes)[column.codes])
            for name, shapes in zip(("fine", "runs", "words", "kinds", "around"), column.shapes, strict=True)
            if name in _LIKE
        ]
        groups.append(("marker", (column.marker.astype(np.int64) + column.empty)[column.codes]))
        for name, codes in groups:
            size = int(codes.max()) + 1
            block[:, at[f"{name}_wrong"]] = np.bincount(codes[rows], label, minlength=size)[codes]
            block[:, at[f"{name}_right"]] = np.bincount(codes[rows], 1 - label, minlength=size)[codes]
        near = _distances(spaces[index], spaces[index][rows])
        far = np.full(n, 9.0)
        block[:, at["near_wrong"]] = near[:, label > 0].min(axis=1) if label.any() else far
        block[:, at["near_right"]] = near[:, label < 1].min(axis=1) if (label < 1).any() else far
        block[:, at["near_margin"]] = block[:, at["near_right"]] - block[:, at["near_wrong"]]
        known = 0 < label.sum() < k
        block[:, at["own_known"]] = known
        block[:, at["own"]] = _forest(spaces[index][rows], label, spaces[index], seed) if known else label.mean()
        block[:, at["pooled"]], block[:, at["pooled_plain"]] = pooled[:, index], plain[:, index]
    return out.reshape(width * n, -1)


def _codes(shapes: list[str]) -> Ints:
    return np.asarray(np.unique(np.array(shapes, dtype=object).astype(str), return_inverse=True)[1])


def _distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> Floats:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / max(left.shape[1], 1)))


def _forest(known: np.ndarray, label: Floats, every: np.ndarray, seed: int, least: int = 1) -> Floats:
    """Return the mean of extremely random trees. Single trees: the forest's class spends 9/10 of its time on itself."""
    from sklearn.tree import ExtraTreeClassifier

    known, every = np.ascontiguousarray(known, dtype=np.float32), np.ascontiguousarray(every, dtype=np.float32)
    total = np.zeros(len(every))
    for tree in range(_TREES):
        one = ExtraTreeClassifier(min_samples_leaf=least, max_features=0.3, random_state=seed * 1_000 + tree)
        one.fit(known, label > 0, check_input=False)
        total += one.predict_proba(every, check_input=False)[:, 1]
    return total / _TREES


def _pooled(found: Evidence, prior: Floats, rows: Ints, wrong: NDArray[np.bool_], seed: int) -> tuple[Floats, Floats]:
    """Return (n, columns) each: a forest over all columns' labels; the prior recalibrated by them."""
    from sklearn.linear_model import LogisticRegression

    n, width = found.cells
    cells = (np.arange(width)[:, None] * n + rows[None, :]).ravel()
    label = wrong.T.ravel().astype(float)
    logit = np.log(np.clip(prior, 1e-4, 1 - 1e-4) / np.clip(1 - prior, 1e-4, 1)).T.ravel()
    if not 0 < label.sum() < len(label):
        return np.full((n, width), label.mean()), prior
    every = np.concatenate([found.matrix, logit[:, None].astype(np.float32)], axis=1)
    forest = _forest(every[cells], label, every, seed, least=2)
    line = LogisticRegression(C=1.0).fit(logit[cells, None] / 3, label)
    plain = line.predict_proba(logit[:, None] / 3)[:, 1]
    return forest.reshape(width, n).T, plain.reshape(width, n).T
