"""Scores of predictions on prefixes: ranking by prefix length, calibration, and intervals over sagas.

What belongs here: the definitions that ``benchmarks/saga_failure.py`` and the registry's gate share. What does not:
fitting. Prefixes of one saga depend on each other, so every interval draws whole sagas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 15


def auc_by_length(y: NDArray[Any], score: Floats, length: NDArray[Any], weight: Floats | None = None) -> float:
    """Return the area under the ROC curve within each prefix length, averaged by the number of prefixes.

    ``weight`` counts each row so often (a bootstrap's draw). Lengths with one class only are left out; NaN where all
    are. Ties count half.
    """
    y = np.asarray(y, dtype=np.float64)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    # Equal scores of one length share a rank: `group` numbers them in ascending order.
    order = np.lexsort((score, length))
    y, w, score, length = y[order], w[order], np.asarray(score)[order], np.asarray(length)[order]
    return _auc(y, w, *_groups(score, length))


def _groups(score: Floats, length: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where a new tie begins and where a new length begins, for rows in the order of length and score."""
    new_length = np.concatenate([[True], length[1:] != length[:-1]])
    new_tie = new_length | np.concatenate([[True], score[1:] != score[:-1]])
    ties = np.flatnonzero(new_tie)
    return ties, np.flatnonzero(new_length[ties])


def _auc(y: Floats, w: Floats, ties: NDArray[np.int64], lengths: NDArray[np.int64]) -> float:
    positive, negative = np.add.reduceat(w * y, ties), np.add.reduceat(w * (1 - y), ties)
    below = np.cumsum(negative) - negative
    sizes = np.diff(np.append(lengths, len(ties)))
    below -= np.repeat(below[lengths], sizes)
    pairs_won = np.add.reduceat(positive * (below + negative / 2), lengths)
    p, n = np.add.reduceat(positive, lengths), np.add.reduceat(negative, lengths)
    usable = (p > 0) & (n > 0)
    if not usable.any():
        return float("nan")
    return float(np.average(pairs_won[usable] / (p * n)[usable], weights=(p + n)[usable]))


def calibration_error(y: NDArray[Any], p: Floats, *, bins: int = BINS) -> float:
    """Return the expected calibration error over ``bins`` of equal mass: the mean gap of share and probability.

    Rows of equal probability share their mean label, so that it does not matter in which order they stand.
    """
    order = np.argsort(p, kind="stable")
    _, of, sizes = np.unique(p, return_inverse=True, return_counts=True)
    share = (np.bincount(of, weights=np.asarray(y, dtype=np.float64)) / sizes)[of]
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(np.mean(share[part]) - np.mean(p[part])) for part in parts) / len(order))


def calibration_floor(p: Floats, saga_ids: NDArray[Any], *, count: int = 200, seed: int = 0) -> Floats:
    """Return ``count`` draws of the error that these probabilities would show if each of them held exactly.

    A saga has one uniform draw, and a prefix counts as positive where that lies below its probability: each prefix is
    right for certain, and the prefixes of a saga go together as those of one label do.
    """
    _, of = np.unique(saga_ids.astype(str), return_inverse=True)
    random, sagas = np.random.default_rng(seed), int(of.max()) + 1
    return np.array([calibration_error(random.random(sagas)[of] < p, p) for _ in range(count)])


def reliability(y: NDArray[Any], p: Floats, *, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Return mean probability, share and size of each bin of equal mass, ascending."""
    order = np.argsort(p, kind="stable")
    return [
        (float(np.mean(p[part])), float(np.mean(y[part])), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Return whether the whole interval lies above zero."""
        return self.low > 0


class Draws:
    """Bootstrap draws of whole sagas: the same draws for every score, so that differences are paired."""

    def __init__(self, saga_ids: NDArray[np.object_], *, count: int = 500, seed: int = 0) -> None:
        _, self._of = np.unique(saga_ids.astype(str), return_inverse=True)
        sagas = int(self._of.max()) + 1 if len(self._of) else 0
        random = np.random.default_rng(seed)
        self._weights = [
            np.bincount(random.integers(0, sagas, sagas), minlength=sagas).astype(np.float64) for _ in range(count)
        ]

    def auc(self, y: NDArray[Any], score: Floats, length: NDArray[Any]) -> Floats:
        """Return :func:`auc_by_length` on each draw."""
        order = np.lexsort((score, length))
        y, of = np.asarray(y, dtype=np.float64)[order], self._of[order]
        groups = _groups(np.asarray(score)[order], np.asarray(length)[order])
        return np.array([_auc(y, weights[of], *groups) for weights in self._weights])


def interval(value: float, draws: Floats) -> Interval:
    """Return the percentile interval of ``draws`` around ``value``; NaN draws (one class only) are left out."""
    seen = draws[~np.isnan(draws)]
    if not len(seen):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(seen, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def operating_point(y: NDArray[Any], p: Floats, *, missed: float, false_alarm: float) -> tuple[float, float, float]:
    """Return the probability from which an alarm is cheaper, the cost per prefix there, and the cost without a model.

    For a calibrated probability that threshold is ``false_alarm / (false_alarm + missed)`` (Elkan 2001, "The
    foundations of cost-sensitive learning"), so it needs no tuning on the scored rows. Without a model one alarms
    always or never, whichever is cheaper.
    """
    threshold = false_alarm / (false_alarm + missed)
    alarm, y = p >= threshold, np.asarray(y, dtype=bool)
    cost = float(np.mean(np.where(alarm, ~y * false_alarm, y * missed)))
    return threshold, cost, float(min(np.mean(y) * missed, np.mean(~y) * false_alarm))
