"""Many load series side by side, and what was known of them at any moment.

What belongs here: the series as one flat array, and windows and lags of it in NumPy. What does not: which of these a
model wants (``ml.load.design``).

A step without a value is NaN: a gap stays a gap. Nothing here interpolates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Panel:
    """Series of one step length. ``values`` (n,) holds them one after another, series i in ``bounds[i]:bounds[i + 1]``.

    ``seasons`` are lengths in steps, ascending: a day, and a week where there is one.
    """

    names: tuple[str, ...]
    values: Floats
    bounds: Ints
    seasons: tuple[int, ...]
    _sums: Floats = field(init=False, repr=False)
    _counts: Ints = field(init=False, repr=False)
    _changes: Floats = field(init=False, repr=False)
    _changed: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a panel needs a series")
        if not self.seasons or any(season < 2 for season in self.seasons) or sorted(self.seasons) != [*self.seasons]:
            raise ValueError(f"seasons are lengths of two steps or more, ascending: {self.seasons}")
        if np.isinf(self.values).any():
            raise ValueError("a load is finite, or NaN where it is not known")
        sums, counts = self._running(self.values)
        day = self.seasons[0]
        before = self.read(np.repeat(np.arange(len(self.names)), self.lengths), self.places() - day)
        changes, changed = self._running(np.abs(self.values - before))
        for name, value in (("_sums", sums), ("_counts", counts), ("_changes", changes), ("_changed", changed)):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, series: Mapping[str, Floats], seasons: tuple[int, ...]) -> Panel:
        """Return the panel of named series, each a 1-d array."""
        values = [np.asarray(one, dtype=np.float64) for one in series.values()]
        bounds = np.concatenate([[0], np.cumsum([len(one) for one in values])]).astype(np.int64)
        return cls(tuple(series), np.concatenate(values) if values else np.zeros(0), bounds, seasons)

    @property
    def lengths(self) -> Ints:
        """Return the number of steps of each series."""
        return np.diff(self.bounds)

    def places(self) -> Ints:
        """Return the step within its series of each value."""
        return np.arange(len(self.values)) - np.repeat(self.bounds[:-1], self.lengths)

    def read(self, series: Ints, step: Ints) -> Floats:
        """Return the values at ``step`` of ``series`` (arrays that broadcast); NaN outside of the series."""
        first, length = self.bounds[series], self.bounds[series + 1] - self.bounds[series]
        inside = (step >= 0) & (step < length)
        found = self.values[np.where(inside, first + step, 0)]
        return np.where(inside, found, np.nan)

    def mean(self, series: Ints, begin: Ints, end: Ints) -> Floats:
        """Return the mean of the known values of ``[begin, end)``; NaN where none is known."""
        return self._mean(self._sums, self._counts, series, begin, end)

    def scale(self, series: Ints, origin: Ints) -> Floats:
        """Return the mean absolute change from one day to the next before ``origin``: the scale of MASE.

        Where a series never changed or is shorter than a day, it is the mean of its absolute values, or 1.
        """
        zero = np.zeros_like(origin)
        change = self._mean(self._changes, self._changed, series, zero, origin)
        level = np.abs(self.mean(series, zero, origin))
        scale = np.where(np.isfinite(change) & (change > 0), change, level)
        return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)

    def change(self, series: Ints, begin: Ints, end: Ints) -> Floats:
        """Return the mean absolute change from one day to the next in ``[begin, end)``."""
        return self._mean(self._changes, self._changed, series, begin, end)

    def _mean(self, sums: Floats, counts: Ints, series: Ints, begin: Ints, end: Ints) -> Floats:
        # Running sums are one longer than their series, so each begins one later than its values for each before it.
        first = self.bounds[series] + series
        last = self.bounds[series + 1] + series
        low, high = np.clip(first + begin, first, last), np.clip(first + end, first, last)
        high = np.maximum(high, low)
        count = counts[high] - counts[low]
        return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)

    def _running(self, values: Floats) -> tuple[Floats, Ints]:
        """Return running sums and counts of what is known, series by series: none holds a rounding of another's."""
        sums = np.zeros(len(values) + len(self.names))
        counts = np.zeros(len(sums), dtype=np.int64)
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        for place, (low, high) in enumerate(zip(self.bounds[:-1], self.bounds[1:], strict=True)):
            np.cumsum(filled[low:high], out=sums[low + place + 1 : high + place + 1])
            np.cumsum(known[low:high], out=counts[low + place + 1 : high + place + 1])
        return sums, counts
