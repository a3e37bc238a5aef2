"""What a table is to a rulebook, and what a rulebook says of its rows.

What belongs here: the shapes that the other modules share. What does not: any rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SERVED, REPAIRED, QUARANTINED, COLLAPSED = 0, 1, 2, 3
#: Words for the verdicts: a collapsed row is a copy whose first is served, which repairs it.
VERDICTS = ("served", "repaired", "quarantined", "collapsed")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns say what a row is: its ``key`` (a text and, before it, whose it is: CloudEvents' ``source``), the
    ``entity`` that it tells of, when it happened (``time``) and when it came (``arrival``); times are datetime64.
    """

    key: tuple[str, ...]
    entity: str
    time: str
    arrival: str

    @property
    def name(self) -> str:
        """Return the column whose text tells rows apart: the last one of the key."""
        return self.key[-1]


@dataclass(slots=True)
class Judged:
    """Verdicts on a batch of n rows.

    ``frame`` holds the rows after repair, in the batch's order; ``verdict`` one code a row (see :data:`VERDICTS`);
    ``late`` marks rows that belong to an earlier time than the batch's. ``broken`` has, for each check, how many rows
    broke it, ``looked`` how many it looked at; ``hard`` names checks where one row is enough (the schema).
    ``reasons`` has, for each check, a mask over the rows; ``tails``, for each number column, how likely a good row is
    as far out as each row.
    """

    frame: pd.DataFrame
    verdict: NDArray[np.int8]
    late: Mask
    broken: dict[str, int] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    hard: frozenset[str] = frozenset()
    reasons: dict[str, Mask] = field(default_factory=dict)
    tails: dict[str, Floats] = field(default_factory=dict)
