"""Whether predicted probabilities hold: a test for one look, and evidence that holds at every look.

What belongs here: outcomes against probabilities, one prefix a saga. What does not: scores of blocks, which reckon with
sagas that share an hour's troubles (``blocks.calibration_scores``): use these where sagas are independent given their
prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What might be true instead: log-odds moved by a shift, and stretched or flattened by a slope.
SHIFTS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
SLOPES = (0.6, 1.0, 1.6)
_EDGE = 1e-6


def one_a_saga(saga_ids: Sequence[Any] | NDArray[Any], position: Ints, *, seed: int = 0) -> Ints:
    """Return one row of each saga, drawn at random: prefixes of one saga say much the same, so one of them counts."""
    ids = np.asarray([str(one) for one in saga_ids])
    order = np.lexsort((np.random.default_rng(seed).random(len(position)), ids))
    first = np.concatenate([[True], ids[order][1:] != ids[order][:-1]]) if len(order) else np.zeros(0, dtype=bool)
    return np.sort(order[first])


def spiegelhalter(y: Floats, p: Floats, *, draws: int = 1999, seed: int = 0) -> tuple[float, float]:
    """Return Spiegelhalter's z and its two-sided p-value, exact for any number of rows (Spiegelhalter 1986).

    The p-value draws outcomes from the probabilities themselves. Zero and 1 where there is no row.
    """
    if not len(y):
        return 0.0, 1.0
    weight = 1 - 2 * p
    spread = float(np.sqrt((weight**2 * p * (1 - p)).sum())) or 1.0
    z = float(((y - p) * weight).sum() / spread)
    random = np.random.default_rng(seed)
    drawn = np.array([((random.random(len(p)) < p) - p) @ weight for _ in range(draws)]) / spread
    return z, float((1 + (np.abs(drawn) >= abs(z) - 1e-12).sum()) / (draws + 1))


def evidence(y: Floats, p: Floats) -> Floats:
    """Return after each row the logarithm of an e-process against "each probability holds" (Henzi and others 2023).

    Rows come in an order that does not depend on their outcome: by start, never by when a label came in (an outcome
    that takes longer would look rare at first); :func:`settled` says how far that order may be read. Its chance of
    ever reaching 1/α is at most α while the probabilities hold.
    """
    if not len(y):
        return np.zeros(0)
    p = np.clip(p, _EDGE, 1 - _EDGE)
    odds = np.log(p / (1 - p))
    shift, slope = (grid.ravel() for grid in np.meshgrid(SHIFTS, SLOPES))
    q = np.clip(1 / (1 + np.exp(-(shift[:, None] + slope[:, None] * odds))), _EDGE, 1 - _EDGE)
    ratio = np.where(y > 0.5, np.log(q / p), np.log((1 - q) / (1 - p))).cumsum(axis=1)
    most = ratio.max(axis=0)
    return np.asarray(most + np.log(np.exp(ratio - most).mean(axis=0)))


def settled(start_us: Ints, label_known: NDArray[np.bool_], *, now_us: int, patience_us: int) -> Ints:
    """Return the rows, by start, up to the first whose label may still come; those whose label never came are left out.

    A row without a label is given up after ``patience_us``: longer than all but the slowest sagas take.
    """
    order = np.argsort(start_us, kind="stable")
    waiting = ~label_known[order] & (start_us[order] > now_us - patience_us)
    upto = int(np.argmax(waiting)) if waiting.any() else len(order)
    return order[:upto][label_known[order[:upto]]]
