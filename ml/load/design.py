"""What a forecast is made from: a row for each series, origin and step ahead, known before the origin.

What belongs here: the columns. What does not: what is learned of them (``ml.load.boosting``).

Every column is a difference from the row's base over the series' scale, so one model serves series of any size, and a
level that was never seen before is no new value. The base is the same hour of the last week known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.load.panel import Floats, Ints, Panel

DAYS, WEEKS = 7, 3
_AROUND = (-2, -1, 1, 2)


@dataclass(frozen=True, slots=True)
class Design:
    """Rows of one or more origins. ``columns`` (n, p); ``base`` and ``scale`` (n,) in units of the load.

    ``series``, ``origin`` and ``ahead`` (n,) say what a row is: step ``ahead`` (from 0) after ``origin``.
    """

    columns: Floats
    base: Floats
    scale: Floats
    series: Ints
    origin: Ints
    ahead: Ints

    def target(self, panel: Panel) -> Floats:
        """Return (n,) what came, as a difference from the base over the scale; NaN where it is not known."""
        return (panel.read(self.series, self.origin + self.ahead) - self.base) / self.scale

    def load(self, predicted: Floats) -> Floats:
        """Return predicted differences (n,) or (n, q) as loads."""
        if predicted.ndim == 2:
            return self.base[:, None] + predicted * self.scale[:, None]
        return self.base + predicted * self.scale


def design(panel: Panel, series: Ints, origin: Ints, horizon: int) -> Design:
    """Return the rows of ``horizon`` steps after each pair of ``series`` and ``origin``, in their order.

    ``origin`` counts the steps known of a series: step ``origin`` is the first that is forecast.
    """
    if horizon < 1:
        raise ValueError(f"a horizon is one step or more: {horizon}")
    pairs = len(series)
    ahead = np.tile(np.arange(horizon), pairs)
    each, began = np.repeat(series, horizon), np.repeat(origin, horizon)
    day, week, unit = panel.seasons[0], panel.seasons[-1], max(panel.seasons[0] // 24, 1)
    target = began + ahead

    def around(step: Ints) -> Floats:
        """Return the load smoothed over a hundredth of a day, of what was known."""
        half = day // 96
        return panel.mean(each, step - half, np.minimum(step + half + 1, began))

    days = [around(target - day * (ahead // day + 1 + j)) for j in range(DAYS)]
    weeks = [around(target - week * (ahead // week + 1 + j)) for j in range(WEEKS)]
    beside = [around(target - week * (ahead // week + 1) + unit * j) for j in _AROUND]
    lately = panel.mean(series, origin - day, origin)
    base = weeks[0]
    for other in (*days, np.repeat(lately, horizon), np.repeat(panel.mean(series, origin * 0, origin), horizon)):
        base = np.where(np.isnan(base), other, base)
    base = np.nan_to_num(base)

    now = _now(panel, series, origin, unit)
    scale = panel.scale(series, origin)
    per_row = [*days, *weeks[1:], *beside]
    levels = [np.repeat(level, horizon) for level in now[0]]
    wide = np.repeat(scale, horizon)
    columns = np.empty((len(each), len(per_row) + len(levels) + len(now[1]) + 1))
    for place, column in enumerate((*per_row, *levels)):
        columns[:, place] = (column - base) / wide
    for place, column in enumerate(now[1], start=len(per_row) + len(levels)):
        columns[:, place] = np.repeat(column / scale, horizon)
    columns[:, -1] = ahead
    return Design(columns, base, wide, each, began, ahead)


def _now(panel: Panel, series: Ints, origin: Ints, unit: int) -> tuple[list[Floats], list[Floats]]:
    """Return figures of each pair's present: levels, and differences and spreads."""
    day, week = panel.seasons[0], panel.seasons[-1]
    spans = sorted({1, 3, 6, unit // 4, unit, 3 * unit, 6 * unit, day, 2 * day} - {0})
    levels = [panel.mean(series, origin - span, origin) for span in (*spans, DAYS * day)]
    differences = []
    for span, level in zip(spans, levels, strict=False):
        back = week * -(-span // week)
        differences.append(level - panel.mean(series, origin - span - back, origin - back))
        if span <= day < week:
            differences.append(level - panel.mean(series, origin - span - day, origin - day))
    if week > day:
        differences.append(
            panel.mean(series, origin - week, origin) - panel.mean(series, origin - 2 * week, origin - week)
        )
    lately = panel.change(series, origin - 2 * week, origin)
    return levels, [*differences, lately, panel.change(series, origin - day, origin), levels[-1]]
