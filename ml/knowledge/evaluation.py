"""Scores of a retrieval: the rank of the right document, hit@k, mean reciprocal rank, precision against coverage.

What belongs here: definitions that ``benchmarks/knowledge.py`` and the tests share. What does not: any index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.sagas.evaluation import Interval, interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MEASURES = ("hit1", "hit5", "mrr")


def rank(scores: Floats, right: Sequence[int]) -> int:
    """Return the rank, from 1, of the best-ranked right document; among equal scores it comes last."""
    best = float(scores[list(right)].max())
    others = np.ones(len(scores), dtype=bool)
    others[list(right)] = False
    return 1 + int((scores[others] >= best).sum())


def measure(ranks: Ints) -> dict[str, float]:
    """Return the share of questions whose right document came first, among the first five, and the mean 1/rank."""
    return {
        "hit1": float(np.mean(ranks <= 1)),
        "hit5": float(np.mean(ranks <= 5)),
        "mrr": float(np.mean(1.0 / ranks)),
    }


def measured(ranks: Ints, groups: Sequence[str], *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Return each measure with its 95 % interval. Questions of one group (one right document) are drawn together."""
    _, of = np.unique(np.asarray(groups), return_inverse=True)
    random, count = np.random.default_rng(seed), int(of.max()) + 1
    weights = np.array([np.bincount(random.integers(0, count, count), minlength=count)[of] for _ in range(draws)])
    per_question = {"hit1": ranks <= 1, "hit5": ranks <= 5, "mrr": 1.0 / ranks}
    return {
        name: interval(value, weights @ per_question[name] / weights.sum(axis=1))
        for name, value in measure(ranks).items()
    }


@dataclass(frozen=True, slots=True)
class Point:
    """Answering only from a confidence on: the share of questions answered, and how many of the answers are right."""

    threshold: float
    coverage: float
    precision: float


def trade(confidence: Floats, right: NDArray[np.bool_], thresholds: Sequence[float]) -> list[Point]:
    """Return coverage and precision at each threshold; precision is NaN where nothing is answered."""
    points = []
    for threshold in thresholds:
        answered = confidence >= threshold
        precision = float(np.mean(right[answered])) if answered.any() else float("nan")
        points.append(Point(threshold, float(np.mean(answered)), precision))
    return points
