"""Does Isthmus' advice save sagas? The reference shop in virtual time, the same orders and faults for each arm.

    uv run python benchmarks/saga_policy.py [--data PATH] [--seeds N] [--orders N] [--patience S] [--quick] [--tune]

Arms: static defaults; a baseline of good practice with its numbers tuned (time-outs from p99, jittered pauses, a retry
budget, a bulkhead, deadlines that are passed on); the same behind circuit breakers that let sagas wait; Isthmus (the
code of the advice service's turns, ``ml.steering``); an oracle that knows the faults. Each arm but the first had the
same number of tuning trials, on developers' worlds alone (``--tune`` does it again and writes
``saga_policy_tuned.json``).

``--data`` takes a folder with ``latency.parquet`` (participant, regime, milliseconds) and ``faults.parquet``
(participant, kind, start, end, severity). Without it, worlds are drawn from the two Nezha sets under ``ISTHMUS_DATA``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._policy_past import learned
from benchmarks._policy_tuning import ARMS, BOUNDS, DEVELOPERS, TUNED, Job, chosen, ran, search
from benchmarks._policy_worlds import Material, Shape, given, nezha
from ml.timeouts.learning import Learned
from resources.settings import get_settings

Floats = NDArray[np.float64]
TRIALS = 24
FIRST_SEED = 1001
"""Seeds from here on are scored, and were never tuned on."""
_NAMES = {
    "static": "static defaults",
    "tuned": "tuned baseline",
    "breaker": "the same with circuit breakers, tuned",
    "isthmus": "Isthmus",
    "oracle": "oracle",
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with latency.parquet and faults.parquet")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--orders", type=int, default=Shape.sagas, help="orders a seed, at the same use of workers")
    parser.add_argument("--patience", type=float, default=Shape.patience, help="seconds that an order may take")
    parser.add_argument("--quick", action="store_true", help="six seeds, a quarter of the orders")
    parser.add_argument("--tune", action="store_true", help="tune every arm again, and write what was found")
    arguments = parser.parse_args()
    console = Console()
    shape = Shape(sagas=arguments.orders, patience=arguments.patience)
    if arguments.quick:
        shape = replace(shape, sagas=shape.sagas // 4)
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool, Progress(console=console, transient=True) as progress:
        if arguments.tune:
            _tune(_nezhas(), shape, pool, progress)
        materials = [given(arguments.data)] if arguments.data else _nezhas()
        known = _learned(materials, shape, pool)
        settings = {"static": {}, **chosen()}
        seeds = range(FIRST_SEED, FIRST_SEED + (min(6, arguments.seeds) if arguments.quick else arguments.seeds))
        jobs = [
            Job(arm, settings[arm], materials[case], seed, shape, past=False, learned=known[case])
            for seed in seeds
            for arm in ARMS
            for case in [seed % len(materials)]
        ]
        task = progress.add_task("worlds", total=len(jobs))
        figures: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for job, one in zip(jobs, pool.map(ran, jobs), strict=True):
            figures[job.arm].append(one)
            progress.advance(task)
    _print(console, figures, materials, shape)
    print(json.dumps(result(figures)))


def _nezhas() -> list[Material]:
    root = get_settings().data
    folders = [root / "traces_nezha_trainticket", root / "traces_nezha_onlineboutique"]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise SystemExit(f"Not there: {', '.join(missing)}. Set ISTHMUS_DATA, or give --data.")
    return [nezha(folder) for folder in folders]


def _learned(materials: Sequence[Material], shape: Shape, pool: ProcessPoolExecutor) -> list[Learned | None]:
    """Return the time-outs that were learned of each material's past."""
    return list(pool.map(partial(learned, shape=shape), materials))


def _tune(materials: Sequence[Material], shape: Shape, pool: ProcessPoolExecutor, progress: Progress) -> None:
    began = time.monotonic()
    found: dict[str, dict[str, float]] = {}
    # Half of the orders at half of the rate: the same use of the workers, in half of the time.
    small = replace(shape, sagas=shape.sagas // 2)
    cases = list(zip(materials, _learned(materials, small, pool), strict=True))
    for arm in BOUNDS:
        task = progress.add_task(f"tuning {arm}", total=TRIALS)
        tick = partial(progress.advance, task)
        start = found["tuned"] if arm == "breaker" else None
        found[arm] = search(arm, cases, small, trials=TRIALS, pool=pool, tick=tick, start=start)
    written = {
        "trials": TRIALS,
        "developers_seeds": list(DEVELOPERS),
        "patience_s": shape.patience,
        "minutes": round((time.monotonic() - began) / 60, 1),
        # As they stand in the code, where they are the defaults.
        "settings": {arm: {name: float(f"{value:.3g}") for name, value in one.items()} for arm, one in found.items()},
    }
    TUNED.write_text(json.dumps(written, indent=2) + "\n")


def result(figures: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the keys of the last line; intervals are 95 %, by a bootstrap over seeds, paired."""
    fails = {arm: np.array([one["failures"] for one in figures[arm]]) for arm in ARMS}
    random = np.random.default_rng(0)
    draws = random.integers(0, len(fails["tuned"]), (4000, len(fails["tuned"])))

    def reduction(arm: str, against: str) -> dict[str, float | None]:
        if not fails[against].sum():
            return {"value": None, "low": None, "high": None}  # nothing failed there: nothing to reduce
        theirs = fails[against][draws].sum(axis=1)
        shares = 1.0 - fails[arm][draws].sum(axis=1) / np.maximum(theirs, 1.0)
        value = 1.0 - fails[arm].sum() / fails[against].sum()
        low, high = np.quantile(shares, [0.025, 0.975])
        return {"value": float(value), "low": float(low), "high": float(high)}

    def ratio(key: str, arm: str = "isthmus", against: str = "tuned") -> float:
        return float(np.mean([one[key] for one in figures[arm]]) / np.mean([one[key] for one in figures[against]]))

    runs = [one for arm in ARMS for one in figures[arm]]
    tuned, breaker, static = (reduction("isthmus", against) for against in ("tuned", "breaker", "static"))
    room = fails["tuned"].sum() - fails["oracle"].sum()
    return {
        "failure_reduction_vs_tuned": tuned["value"],
        "failure_reduction_ci_low": tuned["low"],
        "failure_reduction_ci_high": tuned["high"],
        "headroom_share": float((fails["tuned"].sum() - fails["isthmus"].sum()) / room) if room > 0 else None,
        "load_ratio_vs_tuned": ratio("calls"),
        "busy_ratio_vs_tuned": ratio("busy_s"),
        "p95_ratio_vs_tuned": ratio("p95_all_s"),
        "p95_completed_ratio_vs_tuned": ratio("p95_s"),
        "compensations_ratio_vs_tuned": ratio("compensations"),
        "asks_an_order": float(np.mean([one["asks"] for one in figures["isthmus"]])),
        "failure_reduction_vs_breaker": breaker["value"],
        "failure_reduction_vs_breaker_ci_low": breaker["low"],
        "failure_reduction_vs_static": static["value"],
        "avoidable_share_static": float(fails["static"].sum() / sum(one["sagas"] for one in figures["static"])),
        "avoidable_share_tuned": float(fails["tuned"].sum() / sum(one["sagas"] for one in figures["tuned"])),
        "avoidable_share_isthmus": float(fails["isthmus"].sum() / sum(one["sagas"] for one in figures["isthmus"])),
        "avoidable_share_oracle": float(fails["oracle"].sum() / sum(one["sagas"] for one in figures["oracle"])),
        "sagas_per_cpu_s": float(sum(one["sagas"] for one in runs) / sum(one["cpu_s"] for one in runs)),
        "seeds": len(fails["tuned"]),
    }


def _print(
    console: Console, figures: dict[str, list[dict[str, float]]], materials: Sequence[Material], shape: Shape
) -> None:
    sources = " and ".join(material.source for material in materials)
    for material in materials:
        console.print(f"[dim]{material.source}: {' → '.join(material.plan)}")
    count = len(figures["tuned"])
    table = Table(
        title=f"{sources}: {count} seeds of {shape.sagas:,} orders, each has {shape.patience:.0f} s",
        caption="Means over seeds, 95 % intervals by a bootstrap over them. Failed: technically, or too late. "
        "p95: a failed order counts with all of its time.",
    )
    columns = (
        ("failed, %", "failure_share", 100.0),
        ("p95, s", "p95_all_s", 1.0),
        ("p95 of completed", "p95_s", 1.0),
        ("calls an order", "calls", 1.0),
        ("asks an order", "asks", 1.0),
        ("undone an order", "compensations", 1.0),
    )
    table.add_column("arm")
    for title, _, _ in columns:
        table.add_column(title, justify="right")
    for arm in ARMS:
        cells = [
            _interval(
                np.array([one[key] for one in figures[arm]]) * factor, bounds=key in ("failure_share", "p95_all_s")
            )
            for _, key, factor in columns
        ]
        table.add_row(_NAMES[arm], *cells, style="bold" if arm == "isthmus" else "")
    console.print(table)


def _interval(values: Floats, *, bounds: bool) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "none"
    if not bounds:
        return f"{values.mean():.3g}"
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
