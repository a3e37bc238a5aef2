"""The plain baseline: the service one of whose metrics is furthest from its usual value, in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd

from ml.root_cause import Observed

Middle = Literal["mean", "median"]
Kinds = Literal["all", "use"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was tuned: the ``middle`` of the reference, a ``floor`` for its spread (share of the middle), and which
    ``kinds`` of metrics count."""

    middle: Middle = "mean"
    floor: float = 0.1
    kinds: Kinds = "all"

    @classmethod
    def grid(cls) -> list[Settings]:
        """Return every combination that was tried."""
        middles: tuple[Middle, ...] = ("mean", "median")
        kinds: tuple[Kinds, ...] = ("all", "use")
        return [cls(*one) for one in product(middles, (0.0, 0.1, 0.5), kinds)]


def rank(now: Observed, near: Observed, settings: Settings) -> list[str]:
    """Return the services, the furthest off first; empty where there are no metrics."""
    if now.metrics is None or near.metrics is None or not len(now.metrics) or not len(near.metrics):
        return []
    names = [name for name, kind in now.kinds.items() if settings.kinds == "all" or kind == "use"]
    grouped = near.metrics.groupby("service")[names]
    if settings.middle == "mean":
        middle, wide = grouped.mean(), grouped.std()
    else:
        middle = grouped.median()
        wide = (near.metrics.set_index("service")[names] - middle.reindex(near.metrics["service"])).abs()
        wide = wide.groupby(level=0).median() * 1.4826
    wide = wide + settings.floor * middle.abs() + 1e-3
    off = (now.metrics.groupby("service")[names].mean() - middle) / wide
    score = pd.Series(np.nanmax(off.fillna(0.0).to_numpy(), axis=1), index=off.index)
    return [str(name) for name in score.sort_values(ascending=False, kind="stable").index]
