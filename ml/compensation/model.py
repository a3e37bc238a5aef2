"""What an undo costs: a linear model with shrinkage from the general to the particular, learned from past ones.

What belongs here: the terms of an undo's cost, their posterior, and costs with uncertainty. What does not: choosing
(``planner``) and judging a choice (``offpolicy``).

The cost of undoing a step is a sum of terms: of the step, of its way, of its participant's condition and the others'
(for this way), of coming after any other undo (by its own condition: it may recover meanwhile, or its window close),
and of coming after each particular step (by that one's condition). The terms of a level have a common normal prior
around zero, so a particular one counts as far as it was seen: a hierarchical model (Gelman and Hill 2007, ch. 12) with
plug-in variances by maximal marginal likelihood. Cost depends on the *set* of steps undone before, not on their order,
so that a search over sets is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ml.compensation.outcomes import CALM, Past
from ml.compensation.rules import Plan

Floats = NDArray[np.float64]
Term = tuple[str, ...]

LEVELS: Final = ("way", "condition", "beside", "waited", "after", "after condition")
_SCALES: Final = (0.02, 0.06, 0.2, 0.6, 2.0)
#: Prior of a step's own cost, over the spread of costs: wide enough to be left to the data.
_WIDE: Final = 10.0


def terms(step: str, way: str, before: Iterable[str], conditions: Mapping[str, str]) -> list[Term]:
    """Return the terms of undoing ``step`` by ``way`` after the steps ``before``; the first item is the level."""
    own, earlier = conditions.get(step, CALM), sorted(before)
    found: list[Term] = [("step", step), ("way", step, way), ("condition", step, way, own)]
    # The same for every order, and left out they would be taken for an order's: who chose looked at them as well.
    found += [
        ("beside", step, way, other, condition)
        for other, condition in sorted(conditions.items())
        if other != step and condition != CALM
    ]
    if earlier:
        found.append(("waited", step, way, own))
    for other in earlier:
        found.append(("after", step, way, other))
        found.append(("after condition", step, way, other, conditions.get(other, CALM)))
    return found


@dataclass(frozen=True, slots=True)
class CostModel:
    """A fitted model: the posterior of the terms, and how often each was seen (recent ones count more)."""

    index: Mapping[Term, int]
    mean: Floats
    covariance: Floats
    seen: Floats
    observations: int

    def row(self, plan: Plan, conditions: Mapping[str, str]) -> Floats:
        """Return how often each term stands in a plan's cost, shaped (terms,); terms never seen are left out."""
        row = np.zeros(len(self.mean))
        before: list[str] = []
        for step, way in plan:
            for term in terms(step, way, before, conditions):
                at = self.index.get(term)
                if at is not None:
                    row[at] += 1.0
            before.append(step)
        return row

    def cost(self, plan: Plan, conditions: Mapping[str, str]) -> float:
        """Return the expected cost of a plan."""
        return float(self.row(plan, conditions) @ self.mean)

    def undo_cost(self, step: str, way: str, before: Iterable[str], conditions: Mapping[str, str]) -> float:
        """Return the expected cost of one undo after the steps ``before``."""
        found = (self.index.get(term) for term in terms(step, way, before, conditions))
        return float(sum(self.mean[at] for at in found if at is not None))

    def difference(self, plan: Plan, other: Plan, conditions: Mapping[str, str]) -> tuple[float, float]:
        """Return mean and standard deviation of a plan's expected cost less another's."""
        row = self.row(plan, conditions) - self.row(other, conditions)
        return float(row @ self.mean), math.sqrt(max(0.0, float(row @ self.covariance @ row)))

    def times_seen(self, step: str, way: str, before: Iterable[str]) -> float:
        """Return how often an undo was seen by this way, or this way after each of ``before``: the rarest of these."""
        wanted: list[Term] = [("way", step, way), *(("after", step, way, other) for other in before)]
        return min((self.seen[self.index[term]] if term in self.index else 0.0) for term in wanted)

    def draws(self, random: np.random.Generator, count: int) -> Floats:
        """Return draws of the terms from the posterior, shaped (count, terms)."""
        return random.multivariate_normal(self.mean, self.covariance, size=count, method="cholesky")


def fit(past: Sequence[Past], *, now: float | None = None, half_life: float | None = None) -> CostModel | None:
    """Return the model of past compensations, None where there are none.

    ``half_life`` (seconds) is the age at which one counts half, against ``now`` (the newest one's time, if None):
    participants change. Costs that are not finite raise ValueError.
    """
    rows = [
        (undone, [one.step for one in saga.undone[:at]], saga) for saga in past for at, undone in enumerate(saga.undone)
    ]
    if not rows:
        return None
    costs = np.array([undone.cost for undone, _, _ in rows], dtype=np.float64)
    if not np.isfinite(costs).all():
        raise ValueError("a cost is not a finite number")
    latest = max(saga.at for saga in past) if now is None else now
    ages = np.array([max(0.0, latest - saga.at) for _, _, saga in rows])
    weights = np.ones(len(rows)) if half_life is None else 0.5 ** (ages / half_life)
    index: dict[Term, int] = {}
    places, columns = [], []
    for place, (undone, before, saga) in enumerate(rows):
        for term in terms(undone.step, undone.way, before, saga.conditions):
            places.append(place)
            columns.append(index.setdefault(term, len(index)))
    design = np.zeros((len(rows), len(index)))
    design[places, columns] = 1.0
    seen = weights @ design
    noise = _noise(design, costs, weights, [undone.step for undone, _, _ in rows])
    mean, covariance = _posterior(design, costs, weights / noise, list(index))
    return CostModel(index, mean, covariance, seen, len(past))


def _noise(design: Floats, costs: Floats, weights: Floats, steps: list[str]) -> Floats:
    """Return the variance of each row's cost around its mean: one a step, since their costs differ by magnitudes."""
    ridge = design.T @ (weights[:, None] * design) + np.eye(design.shape[1])
    residual = costs - design @ np.linalg.solve(ridge, design.T @ (weights * costs))
    names = np.array(steps, dtype=object)
    noise = np.empty(len(costs))
    whole = float(np.average(residual**2, weights=weights)) + 1e-9
    for step in dict.fromkeys(steps):
        own = names == step
        total = float(weights[own].sum())
        # A step seen a few times has the variance of all in part.
        noise[own] = (float(weights[own] @ residual[own] ** 2) + 5.0 * whole) / (total + 5.0)
    return noise


def _posterior(design: Floats, costs: Floats, precision: Floats, index: list[Term]) -> tuple[Floats, Floats]:
    """Return mean and covariance of the terms at the prior scales of the largest marginal likelihood."""
    gram, moment = design.T @ (precision[:, None] * design), design.T @ (precision * costs)
    spread = math.sqrt(float(np.average((costs - np.average(costs, weights=precision)) ** 2, weights=precision))) + 1e-9
    wide = _WIDE * (spread + float(np.abs(costs).mean()))
    level = np.array([LEVELS.index(term[0]) if term[0] in LEVELS else -1 for term in index])
    scales = dict.fromkeys(range(len(LEVELS)), 0.2)

    def solved() -> tuple[float, Floats, Floats]:
        prior = np.array([wide if one < 0 else scales[int(one)] * spread for one in level])
        factor = cho_factor(gram + np.diag(prior**-2))
        mean = cho_solve(factor, moment)
        evidence = 0.5 * float(moment @ mean) - float(np.log(np.diag(factor[0])).sum()) - float(np.log(prior).sum())
        return evidence, mean, np.asarray(cho_solve(factor, np.eye(len(prior))))

    for _ in range(2):
        for one in scales:
            tried = []
            for scale in _SCALES:
                scales[one] = scale
                tried.append((solved()[0], scale))
            scales[one] = max(tried)[1]
    _, mean, covariance = solved()
    return mean, (covariance + covariance.T) / 2
