"""Choosing a plan: the cheapest of those that the rules allow, where the past says so surely enough.

What belongs here: the search, the evidence that it takes, bounded exploration. What does not: rules and costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from math import inf
from statistics import NormalDist
from typing import Final

import numpy as np

from ml.compensation.model import CostModel
from ml.compensation.rules import Decider, Plan, Ruling, default_plan

MOST_STEPS: Final = 12
"""Sagas with more steps to undo are undone by default: the search is over sets of steps."""
MOST_EXPLORED: Final = 512
"""Situations with more plans are not explored."""
_DRAWS: Final = 200


@dataclass(frozen=True, slots=True)
class Evidence:
    """What it takes to leave the default, and how much may be explored.

    ``min_seen``: how often each undo of a plan must have been seen by its way and after each step before it. ``sure``:
    the posterior probability that the plan costs less. ``explore``: the share of choices that are drawn by Thompson
    sampling among plans expected to cost at most ``most_extra`` (relative) over the default; 0 explores nothing.
    """

    min_seen: float = 20.0
    sure: float = 0.75
    explore: float = 0.0
    most_extra: float = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen plan. Costs are None where there is no model; ``low`` and ``high`` are the 95% interval of the saving.

    ``propensity`` is the chance that this plan had of being chosen here: 1 without exploration.
    """

    plan: Plan
    default: Plan
    decided_by: Decider
    why: str
    cost: float | None = None
    default_cost: float | None = None
    low: float | None = None
    high: float | None = None
    propensity: float = 1.0


def choose(
    ruling: Ruling,
    model: CostModel | None,
    conditions: Mapping[str, str] | None = None,
    *,
    evidence: Evidence | None = None,
    random: np.random.Generator | None = None,
) -> Choice:
    """Return the plan for a situation: always one that its ruling allows.

    ``random`` is needed for exploration alone; without it nothing is explored.
    """
    evidence, conditions, default = evidence or Evidence(), conditions or {}, default_plan(ruling)
    best = _best(ruling, model, conditions, default, evidence)
    if model is None or random is None or evidence.explore <= 0:
        return best
    return _explored(best, ruling, model, conditions, evidence=evidence, random=random)


def plans(ruling: Ruling) -> Iterator[Plan]:
    """Yield every plan that a ruling allows."""
    for order in _orders(ruling, tuple(step for step in reversed(ruling.done) if step in ruling.ways), frozenset()):
        for ways in product(*(ruling.ways[step] for step in order)):
            yield tuple(zip(order, ways, strict=True))


def cheapest(ruling: Ruling, model: CostModel, conditions: Mapping[str, str], *, min_seen: float = 0.0) -> Plan | None:
    """Return the plan of least expected cost of those whose every undo was seen ``min_seen`` times, None without one.

    Dynamic programming over the sets of steps that are undone: what is left costs the same however a set was reached.
    """
    steps = [step for step in reversed(ruling.done) if step in ruling.ways]
    best: dict[int, tuple[float, Plan]] = {0: (0.0, ())}
    for taken in range(1, 1 << len(steps)):
        best[taken] = (inf, ())
    for taken in range(1 << len(steps)):
        spent, plan = best[taken]
        if spent == inf:
            continue
        before = frozenset(step for at, step in enumerate(steps) if taken >> at & 1)
        for at, step in enumerate(steps):
            if taken >> at & 1 or not ruling.ready(step, before):
                continue
            for way in ruling.ways[step]:
                if model.times_seen(step, way, before) < min_seen:
                    continue
                cost = spent + model.undo_cost(step, way, before, conditions)
                # Only a real saving leaves what was found first, which lies nearest to the reverse order.
                if cost < best[taken | 1 << at][0] - 1e-12:
                    best[taken | 1 << at] = (cost, (*plan, (step, way)))
    cost, plan = best[(1 << len(steps)) - 1]
    return None if cost == inf else plan


def _best(
    ruling: Ruling, model: CostModel | None, conditions: Mapping[str, str], default: Plan, evidence: Evidence
) -> Choice:
    if _is_forced(ruling):
        return Choice(default, default, "rule", "the rules leave one plan")
    if model is None or len(default) > MOST_STEPS:
        why = f"more than {MOST_STEPS} steps" if model else "no compensation was seen"
        return Choice(default, default, "default", why)
    default_cost = model.cost(default, conditions)
    if _least_seen(default, model) < evidence.min_seen:
        return Choice(default, default, "default", "the default was not seen often enough to be compared", default_cost)
    plan = cheapest(ruling, model, conditions, min_seen=evidence.min_seen)
    if plan is None or plan == default:
        why = "no other plan that was seen often enough is cheaper"
        return Choice(default, default, "default", why, default_cost, default_cost)
    mean, deviation = model.difference(plan, default, conditions)
    sure = NormalDist().cdf(-mean / deviation) if deviation > 0 else float(mean < 0)
    low, high = -mean - 1.96 * deviation, -mean + 1.96 * deviation
    if sure < evidence.sure:
        why = f"another plan seems cheaper, but only {sure:.0%} surely"
        return Choice(default, default, "default", why, default_cost, default_cost)
    why = f"costs {-mean:.3g} less than the default, {sure:.0%} surely, by {model.observations} past compensations"
    return Choice(plan, default, "model", why, default_cost + mean, default_cost, low, high)


def _explored(
    best: Choice,
    ruling: Ruling,
    model: CostModel,
    conditions: Mapping[str, str],
    *,
    evidence: Evidence,
    random: np.random.Generator,
) -> Choice:
    """Return the best choice, or with a bounded chance another plan; either with its exact propensity."""
    every = list(islice(plans(ruling), MOST_EXPLORED + 1))
    if not 1 < len(every) <= MOST_EXPLORED:
        return best
    rows = np.array([model.row(plan, conditions) for plan in every])
    costs = rows @ model.mean
    default_cost = costs[every.index(best.default)]
    allowed = costs <= default_cost + evidence.most_extra * abs(default_cost)
    drawn = np.where(allowed[:, None], rows @ model.draws(random, _DRAWS).T, np.inf)
    share = np.bincount(drawn.argmin(axis=0), minlength=len(every)) / _DRAWS * min(evidence.explore, 1.0)
    share[every.index(best.plan)] += 1.0 - min(evidence.explore, 1.0)
    at = int(random.choice(len(every), p=share / share.sum()))
    if every[at] == best.plan:
        return replace(best, propensity=float(share[at]))
    mean, deviation = model.difference(every[at], best.default, conditions)
    why = "drawn to learn from it, within the bound of exploration"
    low, high = -mean - 1.96 * deviation, -mean + 1.96 * deviation
    return Choice(
        every[at], best.default, "exploration", why, float(costs[at]), float(default_cost), low, high, float(share[at])
    )


def _least_seen(plan: Plan, model: CostModel) -> float:
    steps = [step for step, _ in plan]
    return min(model.times_seen(step, way, steps[:at]) for at, (step, way) in enumerate(plan))


def _is_forced(ruling: Ruling) -> bool:
    if any(len(ways) > 1 for ways in ruling.ways.values()):
        return False
    return len(list(islice(plans(ruling), 2))) < 2


def _orders(ruling: Ruling, left: tuple[str, ...], undone: frozenset[str]) -> Iterator[tuple[str, ...]]:
    if not left:
        yield ()
    for at, step in enumerate(left):
        if ruling.ready(step, undone):
            for rest in _orders(ruling, left[:at] + left[at + 1 :], undone | {step}):
                yield (step, *rest)
