"""Blocks of time (an hour, a day) as scores: how far each block lies from a reference, column by column.

What belongs here: columns and predictions of one row a saga to a matrix of scores. What does not: what a run of scores
means (``sequential``).

Sagas of one hour share its load and its troubles, so they are no independent sample of anything. A block's score is
therefore never judged by its own theory, only beside the scores of other blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.drift.twosample import Columns, is_text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The probabilities that a calibration score reckons with at most: one sure prediction must not be all of a block.
_EDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Scores:
    """``values`` (blocks, scores) with NaN where a block has no row for it; ``column`` names each score's column."""

    values: Floats
    names: tuple[str, ...]
    column: tuple[str, ...]

    def beside(self, other: Scores) -> Scores:
        """Return these scores and others of the same blocks."""
        return Scores(np.hstack([self.values, other.values]), self.names + other.names, self.column + other.column)


def column_scores(reference: Columns, rows: Columns, block: Ints, *, blocks: int) -> Scores:
    """Return level and spread of each numeric column, the mix of each text, and what is missing, by block.

    ``block`` numbers each row's block from 0. Numbers are replaced by the normal scores of their rank in the reference,
    so that no unit and no outlier rules.
    """
    values, names, of = [], [], []
    for name, ours in rows.items():
        parts = (
            _mix(reference[name], ours, block, blocks)
            if is_text(ours)
            else _number(reference[name], ours, block, blocks)
        )
        for what, score in parts.items():
            values.append(score)
            names.append(f"{name}: {what}")
            of.append(name)
    table = np.column_stack(values) if values else np.empty((blocks, 0))
    return Scores(table, tuple(names), tuple(of))


def calibration_scores(p: Floats, y: Floats, block: Ints, *, blocks: int, name: str = "calibration") -> Scores:
    """Return how far outcomes lie from predictions, by block: too many, too sure, and Spiegelhalter's.

    Each is a sum over the block divided by its standard deviation if every probability held (Spiegelhalter 1986).
    Rows whose label ``y`` is NaN (not known yet) are left out.
    """
    known = ~np.isnan(y)
    p, y, block = np.clip(p[known], _EDGE, 1 - _EDGE), y[known], block[known]
    rest, odds = p * (1 - p), np.log(p / (1 - p))
    gap = y - p
    odds = odds - (np.average(odds, weights=rest) if len(odds) else 0.0)
    weights = {"level": np.ones(len(p)), "slope": odds, "error": 1 - 2 * p}
    values = []
    for weight in weights.values():
        total = np.bincount(block, weights=gap * weight, minlength=blocks)
        spread = np.bincount(block, weights=rest * weight * weight, minlength=blocks)
        with np.errstate(divide="ignore", invalid="ignore"):
            values.append(np.where(spread > 0, total / np.sqrt(spread), np.nan))
    return Scores(np.column_stack(values), tuple(f"{name}: {what}" for what in weights), (name,) * 3)


def without_pattern(scores: Scores, stratum: Sequence[Any], learned: NDArray[np.bool_]) -> Scores:
    """Return the scores less the median of their stratum (an hour of the day) among the blocks ``learned``.

    A daily pattern must not look like a change, so a stratum of which nothing was learned is not judged (NaN).
    """
    values = scores.values.copy()
    keys = np.asarray([str(one) for one in stratum])
    for key in np.unique(keys):
        values[keys == key] -= _medians(values[learned & (keys == key)])
    return Scores(values, scores.names, scores.column)


def _medians(values: Floats) -> Floats:
    if not len(values):
        return np.full(values.shape[1], np.nan)
    found = np.full(values.shape[1], np.nan)
    known = ~np.isnan(values).all(axis=0)
    found[known] = np.nanmedian(values[:, known], axis=0)
    return found


def _number(reference: NDArray[Any], rows: NDArray[Any], block: Ints, blocks: int) -> Mapping[str, Floats]:
    old, new = np.asarray(reference, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    known_old, known = np.sort(old[~np.isnan(old)]), ~np.isnan(new)
    count = np.bincount(block[known], minlength=blocks).astype(np.float64)
    found: dict[str, Floats] = {}
    if len(known_old) and known_old[0] < known_old[-1]:
        rank = np.searchsorted(known_old, new[known], "left") + np.searchsorted(known_old, new[known], "right")
        z = _normal_quantile((rank / 2 + 0.5) / (len(known_old) + 1))
        base = _normal_quantile(
            ((np.searchsorted(known_old, known_old, "left") + np.searchsorted(known_old, known_old, "right")) / 2 + 0.5)
            / (len(known_old) + 1)
        )
        for what, score, centre in (("level", z, base.mean()), ("spread", z * z, float((base * base).mean()))):
            total = np.bincount(block[known], weights=score - centre, minlength=blocks)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[what] = np.where(count > 0, total / np.sqrt(count), np.nan)
    if (~known).any() or np.isnan(old).any():
        found["missing"] = _share(np.isnan(old).mean(), ~known, block, blocks)
    return found


def _mix(reference: NDArray[Any], rows: NDArray[Any], block: Ints, blocks: int) -> Mapping[str, Floats]:
    texts = np.array([str(value) for value in np.concatenate([reference, rows])])
    names, codes = np.unique(texts, return_inverse=True)
    old = np.bincount(codes[: len(reference)], minlength=len(names)).astype(np.float64)
    share = (old + 0.5) / (old.sum() + 0.5 * len(names))
    counts = np.zeros((blocks, len(names)))
    np.add.at(counts, (block, codes[len(reference) :]), 1.0)
    size = counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = ((counts - size * share) ** 2 / (size * share)).sum(axis=1)
    distance[size[:, 0] == 0] = np.nan
    return {"mix": distance / max(1, len(names) - 1)}


def _share(expected: float, flags: NDArray[np.bool_], block: Ints, blocks: int) -> Floats:
    size = np.bincount(block, minlength=blocks).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.bincount(block, weights=flags - expected, minlength=blocks)
        return np.where(size > 0, total / np.sqrt(size), np.nan)


def _normal_quantile(share: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(share), dtype=np.float64)
