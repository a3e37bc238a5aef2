"""Confidence: the probability that the first hit fits, from what stands behind it.

What belongs here: the evidence, the map and its fitted constants. What does not: the score (``index``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands behind a first hit.

    ``coverage``: share of the question's information that the document accounts for. ``margin``: how far the best
    document of another title falls behind, as a share of the score. ``terms``: different terms of the question.
    ``documents``: how many there were to choose from.
    """

    coverage: float
    margin: float
    terms: int
    documents: int

    def features(self) -> list[float]:
        """Return the numbers that the map weighs; as nothing is shared, the first falls without much of a bound."""
        return [
            float(np.log(self.coverage + 0.001)),
            self.margin,
            float(np.log1p(self.terms)),
            float(np.log1p(self.documents)),
        ]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic map of the evidence: one weight a feature, in the order of :meth:`Evidence.features`."""

    intercept: float
    coverage: float
    margin: float
    terms: float
    documents: float

    def probability(self, evidence: Evidence) -> float:
        """Return the probability that the first hit fits."""
        intercept, *weights = astuple(self)
        odds = intercept + float(np.dot(weights, evidence.features()))
        return float(1 / (1 + np.exp(-odds)))


def fit(evidence: Sequence[Evidence], right: NDArray[np.bool_]) -> Calibration:
    """Learn the map from first hits and whether they were right; both must occur, and count for one half each."""
    model = LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced")
    model.fit([one.features() for one in evidence], right)
    return Calibration(float(model.intercept_[0]), *(float(weight) for weight in model.coef_[0]))


#: Printed by ``benchmarks/knowledge.py --tune``: fitted on the questions of both developers' sets, asked of all
#: documents and of few, with the answer there and taken out.
FITTED = Calibration(intercept=5.0385, coverage=3.3573, margin=3.7509, terms=1.4906, documents=-1.1860)
