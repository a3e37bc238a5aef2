"""Two samples compared column by column: exact permutation p-values, whatever the sizes, ties and missing values.

What belongs here: the statistics and their permutation. What does not: many columns at once (``discovery``) and many
looks over time (``sequential``).

A p-value is (1 + draws at least as extreme) / (1 + draws), so it is valid for any sample (Phipson and Smyth 2010,
"Permutation p-values should never be zero"). What is permuted are units, whole: rows of one unit (a saga, an hour) go
together. With ``strata`` (an hour of the day) units are exchanged only within their stratum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Pair = tuple[Sequence[Any], Sequence[Any]]

#: Cells (draws × rows) that are held at once.
_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Compared:
    """One column's test. ``distance`` is KS's (numbers) or the total variation (text), both 0 to 1."""

    column: str
    kind: str
    distance: float
    p: float
    detail: str


def is_text(values: NDArray[Any]) -> bool:
    """Return whether a column holds categories; numbers and truth values are numeric."""
    return values.dtype.kind not in "fiub"


def compare(
    reference: Columns,
    current: Columns,
    *,
    units: Pair | None = None,
    strata: Pair | None = None,
    draws: int = 1999,
    seed: int = 0,
) -> list[Compared]:
    """Compare each column of two samples and return the tests in the columns' order.

    Columns are arrays (rows); numbers are compared by Kolmogorov-Smirnov's distance, with a missing value below every
    number, text by the likelihood-ratio G. ``units`` and ``strata`` name each row's (reference, current); without
    units every row is its own. All columns share the permutations, so their p-values keep their dependence.
    Raises ValueError for an empty sample, for unequal columns and for a unit that is in both samples.
    """
    if list(reference) != list(current):
        raise ValueError("the samples have different columns")
    if not reference:
        return []
    old, new = (len(next(iter(side.values()))) for side in (reference, current))
    if not old or not new:
        raise ValueError("a sample is empty")
    labels, of = _labels(old, new, units, strata, draws, np.random.default_rng(seed))
    prepared: dict[str, _Numbers | _Categories] = {}
    for name in reference:
        values = np.concatenate([reference[name], current[name]])
        prepared[name] = _Categories(values) if is_text(values) else _Numbers(values.astype(np.float64))
    beaten = dict.fromkeys(prepared, 0)
    seen: dict[str, float] = {}
    step = max(1, _CELLS // (old + new))
    for start in range(0, draws + 1, step):
        drawn = labels[start : start + step][:, of]
        for name, column in prepared.items():
            statistic = column.statistic(drawn)
            own = seen.setdefault(name, float(statistic[0]))  # the data itself is the first draw
            # Sums in another order differ in the last digits, and a tie counts against drift.
            beaten[name] += int((statistic >= own * (1 - 1e-9) - 1e-12).sum())
    is_new = np.arange(old + new) >= old
    return [
        Compared(name, column.kind, column.distance(is_new), beaten[name] / (draws + 1), column.detail(is_new))
        for name, column in prepared.items()
    ]


def _labels(  # noqa: PLR0917 (both samples' sizes, units and strata)
    old: int, new: int, units: Pair | None, strata: Pair | None, draws: int, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (draws + 1, units) labels, the data's own first, and the unit of each row."""
    own = np.arange(old + new) >= old
    if units is None:
        of = np.arange(old + new)
    else:
        _, of = np.unique(np.concatenate([np.asarray(side).astype(str) for side in units]), return_inverse=True)
    count = int(of.max()) + 1
    is_new = np.zeros(count, dtype=bool)
    is_new[of[own]] = True
    if is_new[of[~own]].any():
        raise ValueError("a unit is in both samples")
    stratum = np.zeros(count, dtype=np.int64)
    if strata is not None:
        _, codes = np.unique(np.concatenate([np.asarray(side).astype(str) for side in strata]), return_inverse=True)
        stratum[of] = codes
    labels = np.tile(is_new, (draws + 1, 1))
    for one in np.unique(stratum):
        places = np.flatnonzero(stratum == one)
        labels[1:, places] = random.permuted(labels[1:, places], axis=1)
    return labels, of


class _Numbers:
    """A numeric column in ascending order, missing values first."""

    kind = "number"

    def __init__(self, values: Floats) -> None:
        self._values = values
        filled = np.where(np.isnan(values), -np.inf, values)
        self._order = np.argsort(filled, kind="stable")
        ordered = filled[self._order]
        # Where a run of ties ends; the last is left out, since there both shares are whole.
        self._ends = np.flatnonzero(ordered[1:] != ordered[:-1])

    def statistic(self, drawn: NDArray[np.bool_]) -> Floats:
        """Return KS's distance of each draw."""
        if not len(self._ends):
            return np.zeros(len(drawn))
        below = np.cumsum(drawn[:, self._order], axis=1, dtype=np.int32)
        new = below[:, -1:].astype(np.float64)
        at = below[:, self._ends]
        old = drawn.shape[1] - new
        return np.asarray(np.abs(at / new - (self._ends + 1 - at) / old).max(axis=1))

    def distance(self, is_new: NDArray[np.bool_]) -> float:
        """Return the distance of the data itself."""
        return float(self.statistic(is_new[None, :])[0])

    def detail(self, is_new: NDArray[np.bool_]) -> str:
        """Return medians and shares of missing values, before and now."""
        parts = []
        for side in (self._values[~is_new], self._values[is_new]):
            known = side[~np.isnan(side)]
            middle = f"{np.median(known):.4g}" if len(known) else "none known"
            parts.append(middle + (f" ({1 - len(known) / len(side):.0%} missing)" if len(known) < len(side) else ""))
        return f"median {parts[0]}, now {parts[1]}"


class _Categories:
    """A column of texts as counts."""

    kind = "category"

    def __init__(self, values: NDArray[Any]) -> None:
        texts = np.array(["" if value is None else str(value) for value in values])
        self._names, codes = np.unique(texts, return_inverse=True)
        self._one_hot = np.zeros((len(texts), len(self._names)), dtype=np.float32)
        self._one_hot[np.arange(len(texts)), codes] = 1.0
        self._total = self._one_hot.sum(axis=0, dtype=np.float64)

    def statistic(self, drawn: NDArray[np.bool_]) -> Floats:
        """Return G of each draw."""
        new = (drawn.astype(np.float32) @ self._one_hot).astype(np.float64)
        old, n = self._total - new, self._total.sum()
        g = np.zeros(len(drawn))
        for part in (new, old):
            size = part.sum(axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                term = part * np.log(part * n / (size * self._total))
            g += np.nansum(term, axis=1)
        return 2 * g

    def _shares(self, is_new: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        return self._one_hot[~is_new].mean(axis=0, dtype=np.float64), self._one_hot[is_new].mean(
            axis=0, dtype=np.float64
        )

    def distance(self, is_new: NDArray[np.bool_]) -> float:
        """Return the total variation of the data itself."""
        old, new = self._shares(is_new)
        return float(np.abs(old - new).sum() / 2)

    def detail(self, is_new: NDArray[np.bool_]) -> str:
        """Return the category that moved most, with its shares before and now."""
        old, new = self._shares(is_new)
        at = int(np.argmax(np.abs(new - old)))
        return f"{self._names[at] or '(missing)'} {old[at]:.1%}, now {new[at]:.1%}"
