"""What a way of choosing would have cost on the past: a doubly robust estimate, and whether the past can tell at all.

What belongs here: propensities, the estimate with its interval, support. What does not: choosing (``planner``).

Past choices are confounded: whoever chose looked at the same conditions. Each saga contributes the model's cost of the
plan that would have been chosen, and where that plan was taken, the model's error weighted by one over the chance of it
(Dudík, Langford and Li 2011): right where either the model or the propensities are. Models and propensities are fitted
on other sagas (cross-fitting, Chernozhukov et al. 2018). Where nobody wrote propensities down they are estimated, and
the estimate then rests on there being no further reason behind the past choices; it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ml.compensation.model import CostModel, fit
from ml.compensation.outcomes import CALM, Past
from ml.compensation.rules import Plan, default_plan

Chooser = Callable[[CostModel, Past], Plan]
"""What would have been chosen for a past saga, given a model that has not seen it."""

FOLDS: Final = 5
LEAST_PROPENSITY: Final = 0.02
"""A plan with a smaller chance than this has no support: its weight would be the estimate."""
LEAST_EFFECTIVE: Final = 30.0
LEAST_SUPPORTED: Final = 0.9


@dataclass(frozen=True, slots=True)
class Gain:
    """Saving per saga of a way of choosing against another one, with its 95% interval.

    ``supported``: share of sagas whose plans the past could have taken; the saving is that of these sagas.
    ``effective``: effective number of sagas behind the correction (Kish). ``problems`` say why not to believe it;
    where the past tells nothing, ``saving`` and its interval are None.
    """

    sagas: int
    saving: float | None
    low: float | None
    high: float | None
    mean_cost: float
    supported: float
    effective: float
    propensities: str
    problems: tuple[str, ...]
    judged: frozenset[str] = frozenset()
    """The sagas that the saving is of."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, rounded for people."""
        figures = {
            name: getattr(self, name) for name in ("saving", "low", "high", "mean_cost", "supported", "effective")
        }
        return {
            "method": "doubly robust, cross-fitted",
            "sagas": self.sagas,
            **{name: None if value is None else float(f"{value:.4g}") for name, value in figures.items()},
            "propensities": self.propensities,
            "problems": list(self.problems),
        }


def gain(
    past: Sequence[Past], choose: Chooser, *, against: Chooser | None = None, half_life: float | None = None
) -> Gain:
    """Return what ``choose`` would have saved on ``past`` against another chooser, or (None) what was chosen.

    Folds are every fifth saga in order of time.
    """
    sagas = sorted((one for one in past if one.undone), key=lambda one: (one.at, one.saga))
    logged = [one.propensity for one in sagas if one.propensity is not None]
    if any(not 0 < propensity <= 1 for propensity in logged):
        raise ValueError("a propensity lies above 0 and at most at 1")
    how = "logged" if len(logged) == len(sagas) else "estimated" if not logged else "logged in part, else estimated"
    costs = np.array([one.cost for one in sagas])
    mean_cost = float(costs.mean()) if sagas else 0.0
    if len(sagas) < 2 * FOLDS:
        return Gain(len(sagas), None, None, None, mean_cost, 0.0, 0.0, how, (f"only {len(sagas)} past compensations",))
    other = costs.copy() if against is None else np.full(len(sagas), np.nan)
    value, weight = np.full(len(sagas), np.nan), np.zeros(len(sagas))
    for fold in range(FOLDS):
        training = [one for at, one in enumerate(sagas) if at % FOLDS != fold]
        model, chances = fit(training, half_life=half_life), _Propensities(training)
        assert model is not None
        for at in range(fold, len(sagas), FOLDS):
            saga = sagas[at]
            value[at], weight[at] = _judged(model, chances, saga, choose(model, saga))
            if against is not None:
                other[at], _ = _judged(model, chances, saga, against(model, saga))
    known = np.isfinite(value) & np.isfinite(other)
    supported = float(known.mean())
    effective = float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
    problems = []
    if supported < LEAST_SUPPORTED:
        problems.append(f"support is missing for {1 - supported:.0%} of the sagas: nobody chose so in their situation")
    if effective < LEAST_EFFECTIVE:
        problems.append(f"the chosen plans were taken in an effective {effective:.0f} sagas only")
        return Gain(len(sagas), None, None, None, mean_cost, supported, effective, how, tuple(problems))
    if how != "logged":
        problems.append("propensities are estimated: this holds if past choices had no reason that is not recorded")
    saved = other[known] - value[known]
    error = 1.96 * float(saved.std(ddof=1)) / len(saved) ** 0.5
    mean = float(saved.mean())
    judged = frozenset(saga.saga for saga, seen in zip(sagas, known, strict=True) if seen)
    ends = mean, mean - error, mean + error
    return Gain(len(sagas), *ends, mean_cost, supported, effective, how, tuple(problems), judged)


def _judged(model: CostModel, chances: _Propensities, saga: Past, plan: Plan) -> tuple[float, float]:
    """Return the doubly robust cost of a plan for a saga, and the weight of its correction; NaN without support."""
    if chances.of(saga, plan) < LEAST_PROPENSITY:
        return np.nan, 0.0
    expected = model.cost(plan, saga.conditions)
    if plan != saga.plan:
        return expected, 0.0
    # What was written down is taken as it is: cut off, it would no longer correct the model.
    weight = 1.0 / (saga.propensity if saga.propensity is not None else chances.of(saga, plan))
    return expected + weight * (saga.cost - expected), weight


class _Propensities:
    """How often each plan was taken in a situation, among its like; the conditions count as far as they were seen."""

    def __init__(self, past: Sequence[Past]) -> None:
        self._taken: Counter[tuple[Any, Plan]] = Counter()
        self._all: Counter[Any] = Counter()
        for saga in past:
            for key in self._keys(saga):
                self._taken[key, saga.plan] += 1
                self._all[key] += 1

    def of(self, saga: Past, plan: Plan) -> float:
        """Return the chance of ``plan`` for ``saga``; 0 where it was never taken in such a situation."""
        whole, near = self._keys(saga)
        share = self._taken[whole, plan] / self._all[whole] if self._all[whole] else 0.0
        # Ten sagas of the same conditions weigh as much as all of the same situation.
        return (self._taken[near, plan] + 10.0 * share) / (self._all[near] + 10.0)

    @staticmethod
    def _keys(saga: Past) -> tuple[Any, Any]:
        ruling = saga.ruling
        whole = (ruling.done, tuple(sorted(ruling.ways.items())))
        conditions = tuple(saga.conditions.get(step, CALM) for step in ruling.done)
        return whole, (whole, conditions)


def always_default(_: CostModel, saga: Past) -> Plan:
    """Choose the default plan: the comparison that needs no model."""
    return default_plan(saga.ruling)
