"""Load forecasts beside statsforecast's models and the simplest ones: the M4 competition's hours, and real requests.

``python benchmarks/forecast.py [--data PATH] [--test PATH] [--quick]``: PATH is a folder of the form of
``forecast_m4hourly`` (a wide CSV: id, values) or of ``load_nasa_http`` (a parquet with a time and ``requests``).
Without it, both under ISTHMUS_DATA. ``--test`` is the folder with the official test; without it the last 48 hours of
the training part are scored, and never learned from.

M4 is scored in its official form: sMAPE, MASE (season 24) and OWA against Naive 2. Requests are binned to a minute, to
five and to an hour: the first 60 % teach, the rest is forecast from rolling origins; each week the model learns anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.forecasts import peers
from benchmarks.forecasts.data import Competition, binned, competitions, requests
from ml.load.forecaster import Forecast, Forecaster
from ml.load.intervals import LEVELS, Intervals
from ml.load.panel import Floats, Ints, Panel
from resources.settings import get_settings

#: Seconds of a bin, and how many of them are forecast: an hour, six hours, two days.
BINS = {"1min": (60, 60), "5min": (300, 72), "1h": (3600, 48)}
AIM_MASE, AIM_SPEED, TOLERANCE = 0.85, 5.0, 0.02


def smape(forecast: Floats, came: Floats) -> Floats:
    """Return the symmetric percentage error of each series, (series,)."""
    size = np.abs(forecast) + np.abs(came)
    error: Floats = np.where(size > 0, 200 * np.abs(forecast - came) / np.where(size > 0, size, 1.0), 0.0).mean(axis=1)
    return error


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean over series (bootstrap)."""
    drawn = np.random.default_rng(0).choice(values, (1000, len(values))).mean(axis=1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def compete(competition: Competition, quick: bool) -> dict[str, Any]:
    """Print the competition's table and return its line."""
    panel, known, horizon = competition.panel, competition.known, competition.horizon
    series = np.arange(len(panel.names))
    came = panel.read(np.repeat(series, horizon), np.repeat(known, horizon) + np.tile(np.arange(horizon), len(series)))
    came = came.reshape(len(series), horizon)
    scale = panel.scale(series, known)
    Forecaster(horizon, rows=5000).fit(panel, known)  # compiled and imported before the clock starts, as the peers are
    began = time.perf_counter()
    forecaster = Forecaster(horizon).fit(panel, known)
    ours = forecaster.predict(panel, series, known)
    seconds = time.perf_counter() - began
    arms: dict[str, tuple[Floats, float]] = {"ours": (ours.load.reshape(came.shape), seconds)}
    arms |= peers.statistical(competition, ["MSTL"] if quick else ["MSTL", "Theta", "AutoETS"])
    arms |= {name: (one, np.nan) for name, one in peers.simple(competition).items()}
    arms["Naive 2"] = (peers.naive2(competition), np.nan)
    form = "the official test" if competition.official else f"its own last {horizon} steps, not the official test"
    print(f"\n{competition.source}: {len(series)} series, scored on {form}")
    print(f"{'':<24} {'sMAPE':>7} {'MASE':>7} {'(95 %)':>16} {'OWA':>7} {'seconds':>8}")
    figures = {name: (smape(one, came), np.abs(one - came).mean(axis=1) / scale) for name, (one, _) in arms.items()}
    base = [float(figure.mean()) for figure in figures["Naive 2"]]
    line: dict[str, Any] = {"official_test": competition.official, "series": len(series)}
    for name, (percent, scaled) in figures.items():
        owa = (percent.mean() / base[0] + scaled.mean() / base[1]) / 2
        low, high = interval(scaled)
        took = arms[name][1]
        print(
            f"{name:<24} {percent.mean():7.2f} {scaled.mean():7.3f} {f'{low:.3f} to {high:.3f}':>16} {owa:7.3f} "
            f"{'' if np.isnan(took) else f'{took:.1f}':>8}"
        )
        key = "" if name == "ours" else "_" + name.lower().replace(" ", "_")
        line |= {f"smape{key}": round(float(percent.mean()), 4), f"mase{key}": round(float(scaled.mean()), 4)}
        line[f"owa{key}"] = round(float(owa), 4)
        if name == "ours":
            line |= {"mase_ci_low": round(low, 4), "mase_ci_high": round(high, 4)}
    line["speed_ratio_to_mstl"] = round(arms["MSTL"][1] / seconds, 2)
    line |= coverage(ours.quantiles, came.ravel())
    print(
        f"within 80 %: {100 * line['coverage_80']:.1f}, within 95 %: {100 * line['coverage_95']:.1f} %; "
        f"{line['speed_ratio_to_mstl']:.1f} times as fast as MSTL, intervals included"
    )
    return line


def coverage(quantiles: Floats, came: Floats) -> dict[str, float]:
    """Return the shares of what came that lie within the intervals of 80 and 95 %."""
    known = np.isfinite(came)
    share = {}
    for name, low, high in (("80", 0.1, 0.9), ("95", 0.025, 0.975)):
        below, above = quantiles[known][:, LEVELS.index(low)], quantiles[known][:, LEVELS.index(high)]
        share[f"coverage_{name}"] = round(float(((came[known] >= below) & (came[known] <= above)).mean()), 4)
    return share


def pinball(quantiles: Floats, came: Floats) -> float:
    """Return the mean pinball loss over levels and steps."""
    over = came[:, None] - quantiles
    levels = np.array(LEVELS)
    return float(np.nanmean(np.maximum(levels * over, (levels - 1) * over)))


def roll(panel: Panel, horizon: int, quick: bool, part: tuple[float, float] = (0.6, 1.0)) -> Forecast:
    """Return the forecasts of a part of the series, learned on what was before.

    Origins come in blocks: what was known when the block began corrects its intervals, no more.
    """
    length, week = int(part[1] * panel.lengths[0]), panel.seasons[-1]
    begin = int(part[0] * panel.lengths[0])
    apart = max(1, horizon // (3 if quick else 6))
    done: list[Forecast] = []
    pending: list[Forecast] = []
    forecaster, learned = Forecaster(horizon), -week
    size = max(horizon // 6, apart)
    for block in range(begin, length - horizon, size):
        if block - learned >= week:
            forecaster, learned, pending = Forecaster(horizon).fit(panel, np.array([block])), block, []
        for earlier in pending:
            target = earlier.origin + earlier.ahead
            fresh = (target < block) & (target >= block - size)
            forecaster.learn(earlier, np.where(fresh, panel.read(earlier.series, target), np.nan))
        origins = np.arange(block, min(block + size, length - horizon), apart)
        forecast = forecaster.predict(panel, np.zeros(len(origins), dtype=np.int64), origins)
        done.append(forecast)
        pending = [*pending[-(horizon // size + 1) :], forecast]
    return _joined(done)


def _joined(parts: list[Forecast]) -> Forecast:
    names = ("series", "origin", "ahead", "load", "quantiles", "scale", "spread")
    return Forecast(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def simple_intervals(panel: Panel, horizon: int, forecast: Forecast, middle: str) -> Floats:
    """Return (n, levels) of a simple forecast: the errors of its past, by step ahead, on the first 60 %."""
    begin = int(0.6 * int(panel.lengths[0]))
    origin = np.arange(panel.seasons[-1] + panel.seasons[0], begin - horizon, max(1, horizon // 6))
    ahead = np.tile(np.arange(horizon), len(origin))
    origin = np.repeat(origin, horizon)
    error = panel.read(np.zeros_like(origin), origin + ahead) - baseline(panel, origin, ahead, middle)
    ours = Intervals(LEVELS).fit(error, np.ones(len(error)), np.zeros_like(origin), ahead, shape=(1, horizon))
    distance = ours.quantiles[forecast.ahead]
    return np.maximum(baseline(panel, forecast.origin, forecast.ahead, middle)[:, None] + distance, 0.0)


def baseline(panel: Panel, origin: Ints, ahead: Ints, name: str) -> Floats:
    """Return (n,) the last value, the same time of last week, or their mean."""
    zero, week = np.zeros_like(origin), panel.seasons[-1]
    last = panel.mean(zero, origin - 1, origin)
    before = panel.read(zero, origin + ahead - week)
    known = np.where(np.isnan(before), last, before)
    last = np.where(np.isnan(last), known, last)
    return {"last value": last, "last week": known, "mean of value and week": (last + known) / 2}[name]


def serve(name: str, counts: pd.Series, quick: bool) -> dict[str, Any]:
    """Print a trace's table and return its line."""
    line: dict[str, Any] = {}
    print(
        f"\n{name}: {counts.sum():,.0f} requests. Errors over the mean change from one day to the next before 60 %; "
        "pinball over five levels, same unit"
    )
    print(f"{'bin':<6} {'':<24} {'error':>7} {'pinball':>8} {'in 80 %':>8} {'in 95 %':>8}")
    for title, (seconds, horizon) in BINS.items():
        panel = binned(counts, seconds)
        if panel.lengths[0] < 3 * panel.seasons[-1]:
            print(f"{title:<6} left out: less than three weeks")
            continue
        forecast = roll(panel, horizon, quick)
        came = panel.read(forecast.series, forecast.origin + forecast.ahead)
        scale = float(panel.scale(np.array([0]), np.array([int(0.6 * panel.lengths[0])]))[0])
        arms = {"ours": (forecast.load, forecast.quantiles)}
        for simple in ("last value", "last week", "mean of value and week"):
            arms[simple] = (
                baseline(panel, forecast.origin, forecast.ahead, simple),
                simple_intervals(panel, horizon, forecast, simple),
            )
        both = np.isfinite(came) & np.all([np.isfinite(one) for one, _ in arms.values()], axis=0)
        for arm, (middle, quantiles) in arms.items():
            error = float(np.abs(middle - came)[both].mean()) / scale
            loss, within = pinball(quantiles[both], came[both]) / scale, coverage(quantiles[both], came[both])
            print(
                f"{title:<6} {arm:<24} {error:7.3f} {loss:8.3f} {100 * within['coverage_80']:8.1f} "
                f"{100 * within['coverage_95']:8.1f}"
            )
            key = f"{name}_{title}" + ("" if arm == "ours" else "_" + arm.replace(" ", "_"))
            line |= {f"{key}_error": round(error, 4), f"{key}_pinball": round(loss, 4)}
            line |= {f"{key}_{what}": value for what, value in within.items()}
    return line


def missed(line: dict[str, Any]) -> list[str]:
    """Return the aims that are missed."""
    found = []
    if "mase" in line and line["mase"] > AIM_MASE:
        found.append(f"MASE {line['mase']:.3f}, aim {AIM_MASE}")
    if "speed_ratio_to_mstl" in line and line["speed_ratio_to_mstl"] < AIM_SPEED:
        found.append(f"{line['speed_ratio_to_mstl']:.1f} times MSTL's speed, aim {AIM_SPEED:.0f}")
    for key, value in line.items():
        level = next((one for one in (80, 95) if key.endswith(f"coverage_{one}")), None)
        if level and not any(arm in key for arm in ("last", "mean_of")) and abs(value - level / 100) > TOLERANCE:
            found.append(f"{key} {100 * value:.1f} %, aim within 2 points of {level}")
        if key.endswith("_error") and not any(arm in key for arm in ("last", "mean_of")):
            stem = key.removesuffix("_error")
            beaten = [
                arm
                for arm in ("last_value", "last_week", "mean_of_value_and_week")
                if line[f"{stem}_{arm}_error"] < value
            ]
            found += [f"{stem}: {arm} errs less" for arm in beaten]
    return found


def main() -> None:
    """Run, print the tables, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a folder of series or of requests a second")
    parser.add_argument("--test", type=Path, help="the folder with the competition's official test")
    parser.add_argument("--quick", action="store_true", help="fewer peers and origins: ends within a minute or two")
    options = parser.parse_args()
    root = get_settings().data
    folders = [options.data] if options.data else [root / "forecast_m4hourly", root / "load_nasa_http"]
    folders += [child for folder in folders if folder.is_dir() for child in folder.iterdir() if child.is_dir()]
    began = time.perf_counter()
    line: dict[str, Any] = {"benchmark": "forecast", "quick": options.quick}
    for competition in competitions(folders, options.test):
        line |= compete(competition, options.quick)
    for name, counts in requests(folders).items():
        line |= serve(name, counts, options.quick)
    if len(line) == 2:
        raise SystemExit(f"nothing to forecast in {', '.join(map(str, folders))}: see --help for the forms")
    line["missed"] = missed(line)
    print("\nmissed: " + ("; ".join(line["missed"]) if line["missed"] else "nothing"))
    print(json.dumps(line | {"seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
