"""One round of all monitors and checks: which of many p-values are alarms, at one promised rate of false ones.

What belongs here: the decision over all. What does not: where p-values come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def leading(found: Iterable[str], p: Mapping[str, float]) -> set[str]:
    """Return the strongest of the alarms ``found`` of each table (``table/check``).

    One event in a table breaks many of its checks in an hour: that is one alarm, which the strongest check leads.
    """
    strongest: dict[str, str] = {}
    for name in sorted(found, key=lambda name: (p.get(name, 0.0), name)):
        strongest.setdefault(name.split("/", 1)[0], name)
    return set(strongest.values())


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


def count_p(broken: int, looked: int, rate: float, most: int, clump: float = 0.0) -> float:
    """Return how likely good rows break a check ``broken`` times or more.

    ``rate`` is the share of good rows that do and ``most`` the most that did at once: not more than that is no news.
    ``clump`` is the chance that one more does where one did: rows of one event break a check together.
    """
    if broken <= most:
        return 1.0
    usual = looked * rate
    together = usual * (1 - clump) * clump ** (broken - 1)
    return float(min(1.0, max(poisson.sf(broken - 1, usual), together)))
