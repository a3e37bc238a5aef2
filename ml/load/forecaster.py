"""Forecasts of many series at once: candidates, choice and intervals together.

What belongs here: the order in which the parts learn, so that nothing is judged on what it learned from. What does not:
reading loads, a clock, storage.

The past of each series is cut: candidates learn on what lies before the cut, and are tested at origins after it, which
gives the choice of blend and the intervals. Then the candidates learn again on everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml.load.boosting import BoostedModel
from ml.load.choice import Choice, choose
from ml.load.design import Design, design
from ml.load.intervals import LEVELS, Intervals, Spread
from ml.load.linear import LineModel, stretches
from ml.load.panel import Floats, Ints, Panel

#: Rows that a model learns from: beyond them, more time and no better forecast.
ROWS = 200_000
#: Share of the past that tests, and days that an origin needs before it.
_TEST, _LEAST_DAYS = 0.2, 2
_MANY = 20


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of steps ``ahead`` (n,) after ``origin`` (n,) of ``series`` (n,).

    ``load`` (n,) is the middle, ``quantiles`` (n, levels) the levels of the forecaster; units of the load.
    """

    series: Ints
    origin: Ints
    ahead: Ints
    load: Floats
    quantiles: Floats
    #: Units of the load that errors and spreads are counted in, and the spread: (n,), for ``Forecaster.learn``.
    scale: Floats = field(repr=False)
    spread: Floats = field(repr=False)


@dataclass(slots=True)
class Forecaster:
    """A forecaster of one horizon, in steps. Loads are not below ``floor`` (None: they may be)."""

    horizon: int
    levels: tuple[float, ...] = LEVELS
    floor: float | None = 0.0
    rows: int = ROWS
    rate: float = 0.05
    seed: int = 0
    choice: Choice = field(init=False)
    intervals: Intervals = field(init=False)
    _edges: Ints = field(init=False)
    _boosted: BoostedModel = field(init=False)
    _line: LineModel = field(init=False)
    _spread: Spread | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"a horizon is one step or more: {self.horizon}")
        self._edges = stretches(self.horizon)
        self.intervals = Intervals(self.levels, self.rate)

    def fit(self, panel: Panel, known: Ints | None = None) -> Forecaster:
        """Learn from the first ``known`` steps (series,) of each series of ``panel``; default: all."""
        known = panel.lengths if known is None else np.minimum(known, panel.lengths)
        cut = known - np.maximum((known * _TEST).astype(np.int64), self.horizon)
        self._learn(panel, cut, self.rows // 3)
        series, origin = self.origins(panel, cut, known, self.rows // 4)
        shape = (len(panel.names), len(self._edges) - 1)
        self.intervals.memory = float(panel.seasons[0])
        if len(series):
            self._test(panel, series, origin, shape)
        else:  # all series are too short to be tested: trees, and the widest intervals that can be said
            self.choice = Choice(np.zeros(shape, dtype=np.int64))
            self._spread = None
            self.intervals.fit(np.zeros(0), np.zeros(0), series, series, shape=shape)
        self._learn(panel, known, self.rows)
        return self

    def _test(self, panel: Panel, series: Ints, origin: Ints, shape: tuple[int, int]) -> None:
        rows = design(panel, series, origin, self.horizon)
        target, stretch = rows.target(panel), self._stretch(rows)
        candidates = self._candidates(panel, rows)
        self.choice = choose(candidates, target, rows.series, stretch, shape)
        error = target - self.choice.apply(candidates, rows.series, stretch)
        # Neighbouring origins share what came, so rows are parted by series, or by long stretches of time.
        half = (rows.series if shape[0] > _MANY else rows.origin // (4 * self.horizon)) % 2 == 0
        spread = np.ones(len(error))
        # What came in a few weeks of one series is told many times over by its origins: no spread is learned of it.
        self._spread = None
        windows = len(np.unique(np.stack([rows.series, rows.origin // self.horizon]), axis=1).T)
        if windows >= _MANY:
            for learns, tells in ((half, ~half), (~half, half)):
                if np.isfinite(error[learns]).any() and tells.any():
                    spread[tells] = Spread().fit(_part(rows, learns), error[learns]).predict(_part(rows, tells))
            self._spread = Spread().fit(rows, error)
        self.intervals.fit(error, spread, rows.series, stretch, shape=shape, windows=windows)

    def _learn(self, panel: Panel, until: Ints, most: int) -> None:
        series, origin = self.origins(panel, np.zeros_like(until), until, most)
        if not len(series):
            raise ValueError(
                f"no series has the {_LEAST_DAYS} days and {self.horizon} steps of past that a forecast is learned from"
            )
        rows = design(panel, series, origin, self.horizon)
        target = rows.target(panel)
        self._boosted = BoostedModel(seed=self.seed).fit(rows, target)
        self._line = LineModel().fit(rows, target, self.horizon)

    def origins(self, panel: Panel, begin: Ints, end: Ints, most: int) -> tuple[Ints, Ints]:
        """Return pairs of series and origin whose horizon lies within ``[begin, end)``, latest first in each series.

        They are a day apart where that gives ``most`` rows, else a divisor of it; the latest ones are taken.
        """
        day = panel.seasons[0]
        first = np.maximum(begin, _LEAST_DAYS * day)
        room = np.maximum(end - self.horizon - first + 1, 0)
        want = max(most // self.horizon, 1)
        apart = next((d for d in range(day, 0, -1) if day % d == 0 and (-(-room // d)).sum() >= want), 1)
        each = -(-room // apart)
        if each.sum() > want:  # the latest origins of each series, the same number where they have them
            low, high = 0, int(each.max())
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if np.minimum(each, middle).sum() <= want else (low, middle - 1)
            each = np.minimum(each, max(low, 1))
        series = np.repeat(np.arange(len(each)), each)
        back = np.arange(len(series)) - np.repeat(np.cumsum(each) - each, each)
        return series, end[series] - self.horizon - apart * back

    def _candidates(self, panel: Panel, rows: Design) -> Floats:
        last = (panel.read(rows.series, rows.origin - 1) - rows.base) / rows.scale
        flat = np.zeros(len(rows.base))
        return np.stack([self._boosted.predict(rows), self._line.predict(rows), flat, np.nan_to_num(last)], axis=1)

    def _stretch(self, rows: Design) -> Ints:
        found: Ints = np.searchsorted(self._edges, rows.ahead, side="right") - 1
        return found

    def predict(self, panel: Panel, series: Ints | None = None, origin: Ints | None = None) -> Forecast:
        """Return the forecasts after each pair of ``series`` and ``origin``; default: after the end of each series."""
        series = np.arange(len(panel.names)) if series is None else series
        origin = panel.lengths[series] if origin is None else origin
        rows = design(panel, series, origin, self.horizon)
        stretch = self._stretch(rows)
        middle = self.choice.apply(self._candidates(panel, rows), rows.series, stretch)
        spread = np.ones(len(middle)) if self._spread is None else self._spread.predict(rows)
        bounds = middle[:, None] + self.intervals.bounds(spread, rows.series, stretch)
        load, quantiles = rows.load(middle), rows.load(bounds)
        if self.floor is not None:
            load, quantiles = np.maximum(load, self.floor), np.maximum(quantiles, self.floor)
        return Forecast(rows.series, rows.origin, rows.ahead, load, quantiles, rows.scale, spread)

    def learn(self, forecast: Forecast, came: Floats) -> None:
        """Correct the intervals by what came (n,), NaN where not known (yet)."""
        stretch = np.searchsorted(self._edges, forecast.ahead, side="right") - 1
        steps = len(np.unique((forecast.origin + forecast.ahead)[np.isfinite(came)]))
        self.intervals.learn((came - forecast.load) / forecast.scale, forecast.spread, forecast.series, stretch, steps)


def _part(rows: Design, which: NDArray[np.bool_]) -> Design:
    return Design(
        rows.columns[which],
        rows.base[which],
        rows.scale[which],
        rows.series[which],
        rows.origin[which],
        rows.ahead[which],
    )
