"""Time-outs that keep a promised share of false ones: ours beside p99, rolling p99 and quantiles without correction.

``python benchmarks/timeouts.py [--data PATH] [--quick] [--seeds N]``: without PATH, calls of the two trace sets under
ISTHMUS_DATA. PATH is a folder of traces, or one with ``latency.parquet`` (participant, regime, milliseconds; step is
optional) and ``faults.parquet`` (participant, kind, start, end, severity): the calm regime's durations are what the
made regimes rest on, every other regime's are scored as given.

In the measured order the first half teaches, the next fifth tunes, the last 30 % is scored once. A stream's first
quarter warms up the online arms and is not scored. A false time-out cuts a step that would have ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._timeout_arms import Arm, Fixed, Past, Rolling, Static, learn, run
from benchmarks._timeout_streams import REGIMES, Material, Stream, joined, make, read
from ml.timeouts.conformal import Adaptive, Tracking
from ml.timeouts.model import DurationModel
from resources.settings import get_settings

TARGET = 0.01
TOLERANCE = 0.0025
Factory = Callable[[], Arm]


def candidates(past: Past) -> dict[str, dict[str, Factory]]:
    """Return what is tuned: nine trials an online arm, and the trials of ours by rule for the choice among rules."""
    rolling: dict[str, Factory] = {
        f"last {size}, cut ones x {factor}": partial(Rolling, size, factor, past.last)
        for size in (200, 500, 1000)
        for factor in (1.0, 1.5, 2.5)
    }
    rules: dict[str, tuple[Callable[[], Any], float]] = {
        f"tracking {rate}, slack {slack}": (partial(Tracking, rate=rate), slack)
        for rate, slack in ((0.05, -0.3), (0.05, 0.0), (0.1, -0.3), (0.1, 0.0), (0.2, 0.0))
    }
    rules["tracking 0.05 and integrator"] = partial(Tracking, rate=0.05, integral=0.3), 0.0
    rules["tracking, shrinking steps"] = partial(Tracking, rate=1.0, decay=0.6, least=0.05), 0.0
    rules["ACI 0.005"] = partial(Adaptive, rates=(0.005,)), 0.0
    rules["DtACI"] = partial(Adaptive, rates=(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)), 0.0
    return {"rolling p99": rolling, "ours": {name: partial(past.arm, *how) for name, how in rules.items()}}


def fixed_arms(past: Past) -> dict[str, Factory]:
    """Return the arms without a trial: they are fitted on the past."""
    return {
        "p99 (participant)": lambda: Static(past.by_participant),
        "p99 (step)": lambda: Static(past.by_step, by_step=True),
        "quantiles, no correction": lambda: past.arm(Fixed),
    }


def figures(stream: Stream, timeouts: NDArray[np.float64], past: Past, scored: int) -> tuple[float, ...]:
    """Return false share, mean and median of time-out over p99, and false share inside faults, of the scored steps."""
    late = np.arange(len(timeouts)) >= len(timeouts) - scored
    ends = np.isfinite(stream.ms) & late
    false = stream.ms > timeouts
    ratio = timeouts / np.array([past.by_participant[name,] for name in stream.participant])
    hung = ~np.isfinite(stream.ms) & late
    # Whatever a step's fate, its time-out is when a hang there would be found; where steps hang, only they count.
    of = ratio[hung] if hung.any() else ratio[late]
    inside = ends & stream.slow
    return (
        float(false[ends].mean()),
        float(of.mean()),
        float(np.median(of)),
        float(false[inside].mean()) if inside.any() else np.nan,
    )


def streams_of(
    material: Material, part: tuple[float, float], sizes: tuple[int, int], seeds: range, regimes: tuple[str, ...]
) -> dict[str, list[Stream]]:
    """Return each regime's streams: a warm-up from just before the part, then the part itself."""
    before = (part[0] - 0.2, part[0])
    return {
        regime: [
            joined(make(material, regime, before, sizes[0], seed + 5000), make(material, regime, part, sizes[1], seed))
            for seed in seeds
        ]
        for regime in regimes
    }


def score(
    arms: dict[str, Factory], streams: dict[str, list[Stream]], past: Past, scored: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return arm, regime to (seeds, 4) of ``figures``."""
    jobs = [(name, regime, s) for name in arms for regime in streams for s in streams[regime]]
    timeouts = run([(stream, arms[name]()) for name, _, stream in jobs], past.model)
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {name: {regime: [] for regime in streams} for name in arms}
    for (name, regime, stream), given in zip(jobs, timeouts, strict=True):
        found[name][regime].append(figures(stream, given, past, scored))
    return {name: {regime: np.array(rows) for regime, rows in own.items()} for name, own in found.items()}


def choose(scores: dict[str, dict[str, NDArray[np.float64]]]) -> str:
    """Return the trial that waits least among those within 0.8 of the tolerance, else the one nearest to the target."""
    off = {name: max(abs(rows[:, 0].mean() - TARGET) for rows in own.values()) for name, own in scores.items()}
    wait = {name: float(own["calm"][:, 1].mean()) for name, own in scores.items()}
    for name, own in scores.items():
        shares = ", ".join(f"{regime} {100 * rows[:, 0].mean():.2f}" for regime, rows in own.items())
        print(f"  {name:<32} false %: {shares}; time of p99 when calm {wait[name]:.2f}")
    good = [name for name in scores if off[name] <= 0.8 * TOLERANCE]
    return min(good, key=wait.__getitem__) if good else min(off, key=off.__getitem__)


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean and 95 % interval over seeds (bootstrap of the mean)."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    return float(values.mean()), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def cost(past: Past, rule: Factory, stream: Stream) -> dict[str, float]:
    """Return microseconds of the three things that a service does for a step, on one thread."""
    arm = rule()
    advisor = arm.advisor  # type: ignore[attr-defined]
    began = time.perf_counter()
    for i in range(300):
        advisor.advise(i, stream.participant[i], stream.step[i], float(stream.start[i]))
    advised = time.perf_counter() - began
    began = time.perf_counter()
    for i in range(300):
        advisor.ended(i, 5.0)
    return {
        "advise_us": round(advised / 300 * 1e6, 1),
        "update_us": round((time.perf_counter() - began) / 300 * 1e6, 1),
    }


def report(scores: dict[str, dict[str, NDArray[np.float64]]]) -> dict[str, Any]:
    """Print the table, say what is missed, return the line."""
    line: dict[str, Any] = {}
    missed = []
    print(f"\n{'regime':<16} {'arm':<26} {'false %':>22} {'time of p99':>20} {'median':>7} {'in faults %':>12}")
    for regime in next(iter(scores.values())):
        for name, own in scores.items():
            rows = own[regime]
            share, low, high = interval(100 * rows[:, 0])
            mean, mean_low, mean_high = interval(rows[:, 1])
            inside = "" if np.isnan(rows[:, 3]).all() else f"{100 * np.nanmean(rows[:, 3]):.1f}"
            print(
                f"{regime:<16} {name:<26} {share:7.2f} ({low:.2f} to {high:.2f}) {mean:6.2f} "
                f"({mean_low:.2f} to {mean_high:.2f}) {np.median(rows[:, 2]):7.2f} {inside:>12}"
            )
            key = f"{regime}_{name.replace(' ', '_')}".translate(str.maketrans(":", "_", "(),"))
            line |= {
                f"false_share_{key}": round(share / 100, 5),
                f"false_share_{key}_ci_low": round(low / 100, 5),
                f"false_share_{key}_ci_high": round(high / 100, 5),
                f"hang_ratio_{key}": round(mean, 4),
                f"hang_ratio_{key}_ci_low": round(mean_low, 4),
                f"hang_ratio_{key}_ci_high": round(mean_high, 4),
            }
            if name == "ours" and not abs(share - 100 * TARGET) <= 100 * TOLERANCE:
                missed.append(f"{regime}: {share:.2f} % false, more than 0.25 points from 1 %")
            if name == "ours" and regime in {"calm", "hangs"} and mean > 0.75:
                missed.append(f"{regime}: a hang is found in {mean:.2f} of p99's time, aim 0.75")
    print("\nmissed: " + ("; ".join(missed) if missed else "nothing"))
    return line | {"missed": missed}


def main() -> None:
    """Run, print the table, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a folder of latencies and faults, or of traces")
    parser.add_argument("--seeds", type=int, default=20, help="streams of each regime that are scored")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter streams: ends within a minute")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: intervals are over seeds")
    began = time.perf_counter()
    home = get_settings().data
    material = read([options.data] if options.data else sorted(home.glob("traces_nezha_*")))
    if not material.bases[""]:
        raise SystemExit("no participant has enough durations")
    seeds = min(options.seeds, 3) if options.quick else options.seeds
    learned, sizes = (4000, (1000, 2000)) if options.quick else (9000, (3000, 9000))
    names = [base.participant for base in material.bases[""]]
    print(f"{material.source}: {len(names)} participants, {sum(len(b.ms) for b in material.bases['']):,} durations")
    past = learn(
        {regime: [make(material, regime, (0.0, 0.5), learned, s) for s in (100, 101)] for regime in REGIMES},
        32.0,
        DurationModel(rounds=40 if options.quick else 80),
    )
    tuning = streams_of(material, (0.5, 0.7), sizes, range(200, 202 if options.quick else 203), REGIMES[:3])
    arms, line = fixed_arms(past), {"benchmark": "timeouts", "quick": options.quick, "seeds": seeds}
    for arm, trials in candidates(past).items():
        print(f"trials of {arm}:")
        best = choose(score(trials, tuning, past, sizes[1]))
        print(f"  chosen: {best}")
        arms[arm], line[f"chosen_{arm.replace(' ', '_')}"] = trials[best], best
    last = streams_of(material, (0.7, 1.0), sizes, range(1, 1 + seeds), material.regimes)
    line |= report(score(arms, last, past, sizes[1]))
    line |= cost(past, arms["ours"], last["calm"][0]) | {"seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
