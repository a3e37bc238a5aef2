"""What came of a decision: what happened while it was in force, beside an estimate of what would have.

What belongs here: the estimate and its interval. What does not: which decision, and reading the figures (``assets``).

The counterfactual is a regression of the time before on load and hour of the day, read at the load and the hours of the
decision. That is an answer only while three things hold, which no figure shows: nothing else changed at the same time;
load is not itself an effect of the decision; the past hours are of the same kind. Each row's details say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_S = 3600
#: Hours before the decision without which nothing is estimated.
LEAST_HOURS = 6
METHOD = "before, by load and hour"
ASSUMPTIONS = (
    "nothing else changed when the decision came into force",
    "load does not follow from the decision",
    "the hours before are of the same kind",
)


@dataclass(frozen=True, slots=True)
class Bins:
    """A figure by bins of time: ``hits`` of ``of`` (or a sum and its count), beside the load; all of one length."""

    start_s: Ints
    hits: Floats
    of: Floats
    load: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Bins:
        """Return the bins of a mask."""
        return Bins(self.start_s[chosen], self.hits[chosen], self.of[chosen], self.load[chosen])


@dataclass(frozen=True, slots=True)
class Estimate:
    """``actual`` and ``counterfactual`` figures; ``low`` and ``high`` bound their difference with 95 %.

    NaN where there is too little to say; ``method`` then says why.
    """

    actual: float
    counterfactual: float
    low: float
    high: float
    method: str
    hours_before: int

    @property
    def difference(self) -> float:
        """Return what the decision, and all else that changed then, made of the figure."""
        return self.actual - self.counterfactual


def estimate(before: Bins, during: Bins, *, least: float = 0.0, draws: int = 400, seed: int = 0) -> Estimate:
    """Return what happened in ``during`` and what the time before lets expect at the same load and hours.

    The interval is a bootstrap: whole hours before are drawn, the regression is fitted anew, and each hour of the
    decision gets the error of a drawn hour, so that it also holds what one hour differs from another by itself. No
    counterfactual lies below ``least``.
    """
    before, during = before.where(before.of > 0), during.where(during.of > 0)
    hours, of_hour = np.unique(before.start_s // HOUR_S, return_inverse=True)
    nothing = float("nan")
    if not len(during.of):
        return Estimate(nothing, nothing, nothing, nothing, "nothing happened while it was in force", len(hours))
    actual = float(during.hits.sum() / during.of.sum())
    if len(hours) < LEAST_HOURS:
        method = f"none: {len(hours)} hours before, {LEAST_HOURS} are needed"
        return Estimate(actual, nothing, nothing, nothing, method, len(hours))
    daily = len(np.unique(hours % 24)) >= 18
    x, x_during = _design(before, daily), _design(during, daily)
    y, weight = before.hits / before.of, before.of
    own = _fit(x, y, weight)
    expected = max(least, float(np.average(x_during @ own, weights=during.of)))
    errors = np.bincount(of_hour, weights=weight * (y - x @ own)) / np.bincount(of_hour, weights=weight)
    random = np.random.default_rng(seed)
    lasted = max(1, len(np.unique(during.start_s // HOUR_S)))
    found = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(random.integers(0, len(hours), len(hours)), minlength=len(hours))[of_hour]
        fitted = _fit(x, y, weight * times)
        noise = errors[random.integers(0, len(hours), lasted)].mean()
        picked = random.integers(0, len(during.of), len(during.of))
        happened = during.hits[picked].sum() / during.of[picked].sum()
        found[draw] = happened - max(least, float(np.average(x_during @ fitted, weights=during.of)) + noise)
    # Drawing around the estimate, turned about it: the percentiles of what is drawn would shift by its bias.
    low, high = np.quantile(found - found.mean() + actual - expected, [0.025, 0.975])
    return Estimate(actual, expected, float(low), float(high), METHOD, len(hours))


def _design(bins: Bins, daily: bool) -> Floats:
    columns = [np.ones(len(bins.load)), np.log1p(bins.load)]
    if daily:
        angle = 2 * np.pi * (bins.start_s % 86_400) / 86_400
        columns += [np.sin(angle), np.cos(angle)]
    return np.column_stack(columns)


def _fit(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Return weighted least squares, with a penalty that only decides what the data leave open."""
    gram = (x * weight[:, None]).T @ x
    penalty = 1e-6 * weight.sum() * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    return np.asarray(np.linalg.solve(gram + penalty, (x * weight[:, None]).T @ y))
