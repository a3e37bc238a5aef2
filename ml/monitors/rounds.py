"""One round of all monitors and checks: which of many p-values are alarms, at one promised rate of false ones.

What belongs here: the decision over all. What does not: where p-values come from.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import poisson

from ml.drift.discovery import q_values

#: False alarms that a check may raise a day, on average.
BUDGET = 0.001


def discovery_rate(checks: int, *, rounds_per_day: float, budget: float = BUDGET) -> float:
    """Return the false discovery rate of a round that keeps ``budget`` false alarms per check and day.

    While nothing is wrong a round raises any alarm with at most that chance, so the promise is
    ``rate x rounds = budget x checks``; half of it, since an alarm is seldom alone.
    """
    return min(0.05, 0.5 * budget * checks / rounds_per_day)


def alarms(p: Mapping[str, float], *, rounds_per_day: float = 24.0, budget: float = BUDGET) -> set[str]:
    """Return the names of ``p`` that are alarms in this round (Benjamini and Hochberg over all of them)."""
    if not p:
        return set()
    names = list(p)
    q = q_values(np.array([p[name] for name in names]))
    rate = discovery_rate(len(names), rounds_per_day=rounds_per_day, budget=budget)
    return {name for name, value in zip(names, q, strict=True) if value <= rate}


def combined(p: Mapping[str, float], families: frozenset[str]) -> dict[str, float]:
    """Return ``p`` with the checks of each of ``families`` (``family:column``) as one, by Bonferroni.

    One odd row breaks relations of many columns at once: that is one alarm, not one a column.
    """
    found: dict[str, float] = {}
    members: dict[str, list[float]] = {}
    for name, value in p.items():
        family = name.split(":", 1)[0]
        if family in families:
            members.setdefault(family, []).append(value)
        else:
            found[name] = value
    return found | {family: min(1.0, len(values) * min(values)) for family, values in members.items()}


def count_p(broken: int, looked: int, rate: float, most: int) -> float:
    """Return how likely good rows break a check ``broken`` times or more.

    ``rate`` is the share of good rows that do and ``most`` the most that did at once: not more than that is no news.
    """
    if broken <= most:
        return 1.0
    return float(poisson.sf(broken - 1, looked * rate))
