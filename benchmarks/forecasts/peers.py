"""Peers and baselines of ``forecast.py``: statsforecast's models, the competition's Naive 2, and the simplest ones.

What belongs here: forecasts that are not ours. What does not: ours, and figures.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.forecasts.data import Competition
from ml.load.panel import Floats

SIMPLE = ("last value", "last day", "last week", "mean of value and week")


def simple(competition: Competition) -> dict[str, Floats]:
    """Return the forecasts (series, horizon) of ``SIMPLE``."""
    panel, known, horizon = competition.panel, competition.known, competition.horizon
    series = np.repeat(np.arange(len(panel.names)), horizon)
    ahead, origin = np.tile(np.arange(horizon), len(panel.names)), np.repeat(known, horizon)
    day, week = panel.seasons[0], panel.seasons[-1]
    last = panel.read(series, origin - 1)
    of_day, of_week = (panel.read(series, origin + ahead - season * (ahead // season + 1)) for season in (day, week))
    of_week = np.where(np.isnan(of_week), of_day, of_week)
    shape = (len(panel.names), horizon)
    found = (last, of_day, of_week, (last + of_week) / 2)
    return {name: one.reshape(shape) for name, one in zip(SIMPLE, found, strict=True)}


def naive2(competition: Competition) -> Floats:
    """Return the competition's Naive 2 (series, horizon): last value after a classical multiplicative adjustment.

    A series is adjusted where its autocorrelation at the season is significant at 90 %, as the organisers did.
    """
    panel, season = competition.panel, competition.panel.seasons[0]
    found = np.empty((len(panel.names), competition.horizon))
    for place, (start, known) in enumerate(zip(panel.bounds[:-1], competition.known, strict=True)):
        history = panel.values[start : start + known]
        indices = _indices(history, season) if _seasonal(history, season) else np.ones(season)
        adjusted = history[-1] / indices[(known - 1) % season]
        found[place] = adjusted * indices[(known + np.arange(competition.horizon)) % season]
    return found


def _seasonal(history: Floats, season: int) -> bool:
    if len(history) < 3 * season:
        return False
    centred = history - history.mean()
    lagged = np.array([np.dot(centred[lag:], centred[:-lag]) for lag in range(1, season + 1)])
    share = lagged / max(np.dot(centred, centred), 1e-12)
    return bool(abs(share[-1]) > 1.645 * np.sqrt((1 + 2 * (share[:-1] ** 2).sum()) / len(history)))


def _indices(history: Floats, season: int) -> Floats:
    """Return the seasonal factors (season,) of a classical decomposition, mean 1."""
    weights = np.ones(season + 1) / season
    weights[[0, -1]] /= 2
    trend = np.convolve(history, weights, mode="valid")
    ratio = history[season // 2 : season // 2 + len(trend)] / np.where(trend == 0, np.nan, trend)
    phase = (np.arange(len(trend)) + season // 2) % season
    factors = np.array([np.nanmean(ratio[phase == one]) for one in range(season)])
    factors = np.where(np.isfinite(factors) & (factors > 0), factors, 1.0)
    found: Floats = factors / factors.mean()
    return found


def statistical(competition: Competition, names: list[str]) -> dict[str, tuple[Floats, float]]:
    """Return (series, horizon) and seconds of fit and forecast of statsforecast's models, each alone.

    They run on all cores in processes, compiled before the clock starts.
    """
    try:
        from statsforecast import StatsForecast
        from statsforecast.models import MSTL, AutoETS, DynamicOptimizedTheta
    except ImportError:
        raise SystemExit("statsforecast is missing: uv sync --inexact --extra scaling") from None
    panel = competition.panel
    day, week = panel.seasons[0], panel.seasons[-1]
    models: dict[str, Any] = {
        "MSTL": lambda: MSTL(season_length=[day, week]),
        "Theta": lambda: DynamicOptimizedTheta(season_length=day),
        "AutoETS": lambda: AutoETS(season_length=day),
    }
    frame = pd.concat(
        pd.DataFrame({"unique_id": place, "ds": np.arange(known), "y": panel.values[start : start + known]})
        for place, (start, known) in enumerate(zip(panel.bounds[:-1], competition.known, strict=True))
    )
    found = {}
    for name in names:
        engine = StatsForecast(models=[models[name]()], freq=1, n_jobs=os.cpu_count() or 1)
        engine.forecast(df=frame[frame.unique_id < 2], h=competition.horizon)
        began = time.perf_counter()
        table = engine.forecast(df=frame, h=competition.horizon)
        seconds = time.perf_counter() - began
        found[name] = table.iloc[:, -1].to_numpy().reshape(len(panel.names), competition.horizon), seconds
    return found
