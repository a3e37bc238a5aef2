"""Tuning of the arms of ``saga_policy.py``: the same number of trials for each, on the developers' worlds alone.

What belongs here: what may be tuned of each arm, within which bounds, and the search. What does not: the arms.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._policy_arms import Insight, Isthmus, Oracle, Settings, Static, Tuned
from benchmarks._policy_breaker import Breaker, Caution
from benchmarks._policy_worlds import Material, Shape, world
from examples.shop.world.policy import Policy
from examples.shop.world.run import World, run
from ml.steering.decide import Rules
from ml.steering.health import Habits
from ml.timeouts.learning import Learned

TUNED = Path(__file__).with_name("saga_policy_tuned.json")
DEVELOPERS = (1, 2, 3, 4)
"""Seeds of the developers' worlds."""
ARMS = ("static", "tuned", "breaker", "isthmus", "oracle")

Bounds = Mapping[str, tuple[float, float, str]]
"""By name: lowest, highest, and ``log``, ``linear`` or ``whole``."""

_SETTINGS: Bounds = {
    "timeout": (0.8, 40.0, "log"),
    "attempts": (2, 40, "whole"),
    "backoff": (0.05, 10.0, "log"),
    "most": (1.0, 120.0, "log"),
    "ratio": (0.05, 10.0, "log"),
    "bulkhead": (2.0, 200.0, "log"),
}
_CAUTION: Bounds = {
    "opens": (0.2, 1.0, "linear"),
    "window": (5, 200, "whole"),
    "fewest": (2, 50, "whole"),
    "slow": (2.0, 100.0, "log"),
    "rests": (0.3, 30.0, "log"),
    "longer": (1.0, 3.0, "log"),
    "most_rest": (2.0, 60.0, "log"),
    "probes": (1, 20, "whole"),
    "spread": (0.1, 30.0, "log"),
    "late": (0.0, 3.0, "linear"),
}
_INSIGHT: Bounds = {
    "errors": (0.3, 1.0, "linear"),
    "hangs": (0.0, 1.0, "linear"),
    "crowd": (1.0, 30.0, "log"),
    "timeout": (1.0, 20.0, "log"),
    "late": (0.0, 3.0, "linear"),
}
_STEERING: Bounds = {
    "hopeless": (0.01, 0.3, "log"),
    "probe": (0.1, 5.0, "log"),
    "pause": (0.05, 3.0, "log"),
    "last": (0.5, 6.0, "log"),
    "late": (0.0, 3.0, "linear"),
    "slack": (1.0, 4.0, "log"),
    "memory": (4.0, 30.0, "log"),
    "tail": (0.95, 0.998, "linear"),
    "pace": (0.05, 0.5, "log"),
    "cut": (0.4, 0.9, "linear"),
    "longest": (5.0, 60.0, "log"),
}
BOUNDS: Mapping[str, Bounds] = {
    "tuned": _SETTINGS,
    "breaker": {**_SETTINGS, **_CAUTION},
    "isthmus": _STEERING,
    "oracle": _INSIGHT,
}


def policy(
    arm: str,
    chosen: Mapping[str, float],
    a_world: World,
    past: Mapping[str, Any],
    seed: int,
    *,
    learned: Learned | None = None,
) -> Policy:
    """Return the policy of an arm with what was chosen for it; the rest stays as it is by default."""
    if arm == "static":
        return Static()
    if arm == "tuned":
        return Tuned(Settings(**_of(Settings, chosen)), a_world, past, seed)
    if arm == "breaker":
        return Breaker(Settings(**_of(Settings, chosen)), Caution(**_of(Caution, chosen)), a_world, past, seed)
    if arm == "isthmus":
        return Isthmus(Rules(**_of(Rules, chosen)), Habits(**_of(Habits, chosen)), a_world, past, seed, learned=learned)
    return Oracle(Insight(**_of(Insight, chosen)), a_world, past, seed)


def _of(kind: type, chosen: Mapping[str, float]) -> dict[str, Any]:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return {name: value for name, value in chosen.items() if name in fields}


@dataclass(frozen=True)
class Job:
    """One run: an arm with what was chosen for it, in a world of the developers' part or of what came after."""

    arm: str
    chosen: Mapping[str, float]
    material: Material
    seed: int
    shape: Shape
    past: bool
    learned: Learned | None = None
    """Time-outs that were learned before, for Isthmus."""


def ran(job: Job) -> dict[str, float]:
    """Return the figures of one run, with the seconds of processor time that it took."""
    a_world = world(job.material, job.seed, job.shape, past=job.past)
    past = world(job.material, job.seed, job.shape, past=True).durations
    made = policy(job.arm, job.chosen, a_world, past, job.seed, learned=job.learned)
    began = time.process_time()
    return {**run(a_world, made, job.seed).summary(), "cpu_s": time.process_time() - began}


def loss(job: Job, figures: Mapping[str, float]) -> float:
    """Return what is made small, for every arm alike: failures first, then calls and waiting."""
    return (
        figures["failure_share"]
        + 0.01 * figures["calls"] / len(job.material.plan)
        + 0.02 * figures["p95_all_s"] / job.shape.patience
    )


def search(
    arm: str,
    cases: Sequence[tuple[Material, Learned | None]],
    shape: Shape,
    *,
    trials: int,
    pool: Executor,
    tick: Callable[[], None],
    start: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the best of ``trials`` settings: the defaults, random ones, and in the last third neighbours of the best.

    Settings in ``start`` begin there, and only neighbours move them. A setting's loss is the mean over the developers'
    worlds; each case is a material and what was learned of its past.
    """
    random = np.random.default_rng([len(arm), *map(ord, arm)])
    bounds = BOUNDS[arm]
    given = dict(start or {})
    best: tuple[float, dict[str, float]] = (math.inf, given)
    left = trials
    while left:
        near = left <= trials // 3
        batch = min(4, left, left - trials // 3 if not near else left)
        options = [_near(best[1], bounds, random) if near else {**_draw(bounds, random), **given} for _ in range(batch)]
        if left == trials:
            options[0] = given
        jobs = [
            Job(arm, option, material, seed, shape, past=True, learned=known)
            for option in options
            for seed in DEVELOPERS
            for material, known in [cases[seed % len(cases)]]
        ]
        each = [loss(job, figures) for job, figures in zip(jobs, pool.map(ran, jobs), strict=True)]
        losses = np.array(each).reshape(batch, len(DEVELOPERS)).mean(axis=1)
        for option, value in zip(options, losses.tolist(), strict=True):
            best = min(best, (value, option), key=lambda one: one[0])
            tick()
        left -= batch
    return best[1]


def chosen() -> dict[str, dict[str, float]]:
    """Return what was tuned before, by arm."""
    if not TUNED.is_file():
        raise SystemExit(f"{TUNED.name} is not there: run with --tune first.")
    settings: dict[str, dict[str, float]] = json.loads(TUNED.read_text())["settings"]
    return settings


def _draw(bounds: Bounds, random: np.random.Generator) -> dict[str, float]:
    return {name: _placed(float(random.random()), bound) for name, bound in bounds.items()}


def _near(best: Mapping[str, float], bounds: Bounds, random: np.random.Generator) -> dict[str, float]:
    """Return settings like the best ones, some of them moved by a tenth of their range or so."""
    moved = {}
    for name, bound in bounds.items():
        if name not in best:
            if random.random() < 0.3:
                moved[name] = _placed(float(random.random()), bound)
        elif random.random() < 0.5:
            moved[name] = _placed(float(np.clip(_place(best[name], bound) + random.normal(0, 0.12), 0, 1)), bound)
        else:
            moved[name] = best[name]
    return moved


def _placed(place: float, bound: tuple[float, float, str]) -> float:
    low, high, scale = bound
    if scale == "log":
        return float(low * (high / low) ** place)
    value = low + place * (high - low)
    return float(round(value)) if scale == "whole" else value


def _place(value: float, bound: tuple[float, float, str]) -> float:
    low, high, scale = bound
    return math.log(value / low) / math.log(high / low) if scale == "log" else (value - low) / (high - low)
