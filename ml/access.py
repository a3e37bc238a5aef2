"""Unusual access to personal data: someone new at a table, or far more rows than that reader ever took.

What belongs here: the judgement of one day beside the days before. What does not: reading logs (``resources.access``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

#: Days of history before somebody new stands out, and before a reader's volume can.
LEARNING_DAYS: Final = 7
VOLUME_DAYS: Final = 14
#: False alarms that one reader of one table may raise a day, on average.
BUDGET: Final = 0.001
#: A reader's days differ by a factor of e to this even where the past hardly varied.
_LEAST_SCALE: Final = 0.3

Reader = tuple[str, str]


def unusual(
    day: Mapping[Reader, int], past: Mapping[Reader, Mapping[date, int]], *, days: int
) -> dict[Reader, list[str]]:
    """Return what stands out in a day: (principal, table) → reasons in words.

    ``day`` and ``past`` are rows read by (principal, table), ``days`` how many days the past covers in all. Volumes of
    all readers are one round of Benjamini and Hochberg, so that many readers do not mean many alarms.
    """
    import numpy as np

    from ml.monitors.rounds import alarms
    from ml.monitors.tails import upper_tail

    found: dict[Reader, list[str]] = {}
    if days >= LEARNING_DAYS:
        for reader in day:
            if not past.get(reader):
                found[reader] = [f"new: did not read this table in {days} days before"]
    p = {}
    for reader, rows in day.items():
        before = np.log1p(np.array(list(past.get(reader, {}).values()), dtype=np.float64))
        if len(before) >= VOLUME_DAYS:
            tail = upper_tail(before, least_scale=_LEAST_SCALE)
            p["\x1f".join(reader)] = float(tail.p(np.log1p(np.array([rows], dtype=np.float64)))[0])
    for name in alarms(p, rounds_per_day=1.0, budget=BUDGET):
        principal, table = name.split("\x1f")
        most = max(past[principal, table].values())
        found.setdefault((principal, table), []).append(
            f"volume: {day[principal, table]:,} rows, at most {most:,} before"
        )
    return found
