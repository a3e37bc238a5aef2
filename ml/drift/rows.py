"""Which rows are looked at.

What belongs here: the choice of rows. What does not: what is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def one_a_saga(saga_ids: Sequence[Any] | NDArray[Any], position: Ints, *, seed: int = 0) -> Ints:
    """Return one row of each saga, drawn at random: prefixes of one saga say much the same, so one of them counts."""
    ids = np.asarray([str(one) for one in saga_ids])
    order = np.lexsort((np.random.default_rng(seed).random(len(position)), ids))
    first = np.concatenate([[True], ids[order][1:] != ids[order][:-1]]) if len(order) else np.zeros(0, dtype=bool)
    return np.sort(order[first])
