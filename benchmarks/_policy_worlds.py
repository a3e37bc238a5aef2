"""Worlds for ``saga_policy.py``: durations and faults that were measured or are given, and schedules drawn from them.

What belongs here: reading the data, and making a seeded world of it. What does not: any policy.

Developers' worlds (for tuning) and the worlds that are scored have different seeds, and take their durations from the
first 60 % and the last 40 % of what was measured, in the order of time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._policy_schedule import is_slow, schedule
from examples.shop.world.faults import Fault, Kind
from examples.shop.world.run import World, sized

Floats = NDArray[np.float64]
PAST = 0.6
"""Share of what was measured that is the developers' part."""
STEPS = 5
_FEWEST = 100
_CALM = {"calm", "normal", "base", "baseline", "healthy", "steady", "usual", "nominal", "ok", "idle", "good"}
_WINDOW = 180.0
"""Seconds that an injected fault of the Nezha sets lasts, about."""
_MIX = ((Kind.SLOW, 0.3), (Kind.DELAY, 0.15), (Kind.ERRORS, 0.25), (Kind.HANG, 0.15), (Kind.CRASH, 0.15))


@dataclass(frozen=True)
class Material:
    """What worlds are made of; durations are seconds in the order in which they were measured."""

    source: str
    plan: tuple[str, ...]
    calm: Mapping[str, Floats]
    slow: Mapping[str, Floats] = field(default_factory=dict)
    later: Mapping[str, Floats] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    """A schedule that is given."""
    is_given: bool = False
    """Whether it is; else each seed draws one."""
    factors: Floats = field(default_factory=lambda: np.array([2.0, 4.0, 8.0]))
    """How many times as long calls took under faults that slow down."""


@dataclass(frozen=True)
class Shape:
    """What a world has besides its material."""

    sagas: int = 16_000
    horizon: float = 1_800.0
    patience: float = 300.0
    usage: float = 0.35


def nezha(folder: Path) -> Material:
    """Return the material of a Nezha set: its services with the most calls, and how slow its faults made them."""
    file = max(folder.glob("faulty*spans.parquet"), key=lambda one: one.stat().st_size)
    spans = pd.read_parquet(file, columns=["TraceID", "SpanID", "ParentID", "PodName", "StartTimeUnixNano", "Duration"])
    spans["service"] = spans.PodName.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)
    owner = spans.drop_duplicates(["TraceID", "SpanID"]).set_index(["TraceID", "SpanID"]).service
    caller = owner.reindex(pd.MultiIndex.from_frame(spans[["TraceID", "ParentID"]])).to_numpy()
    calls = spans[caller != spans.service.to_numpy()].sort_values("StartTimeUnixNano", kind="stable")
    listed = json.loads((folder / "fault_list.json").read_text())
    listed = [one for own in listed.values() for one in own] if isinstance(listed, dict) else listed
    at = calls.StartTimeUnixNano.to_numpy(dtype=np.float64) / 1e9
    seconds = calls.Duration.to_numpy(dtype=np.float64) / 1e6
    service = calls.service.to_numpy()
    within = np.zeros(len(calls), dtype=bool)
    factors = []
    for one in listed:
        begin = pd.Timestamp(one["inject_time"], tz="UTC").timestamp()
        window = (at >= begin) & (at < begin + _WINDOW)
        within |= (at >= begin) & (at < begin + _WINDOW + 60.0)
        hurt = window & (service == one["inject_pod"].rsplit("-", 2)[0])
        if "delay" in one["inject_type"] or "cpu" in one["inject_type"]:
            usual = seconds[(service == one["inject_pod"].rsplit("-", 2)[0]) & ~window]
            if hurt.sum() >= 20 and len(usual) >= _FEWEST:
                factors.append(float(seconds[hurt].mean() / usual.mean()))
    calm = {str(name): seconds[(service == name) & ~within] for name in pd.unique(service)}
    busiest = sorted((name for name in calm if len(calm[name]) >= _FEWEST), key=lambda name: -float(calm[name].mean()))
    plan = tuple(busiest[:STEPS])
    return Material(folder.name, plan, {name: calm[name] for name in plan}, factors=np.array(factors or [4.0]))


def given(folder: Path) -> Material:
    """Return the material of a folder with ``latency.parquet`` and ``faults.parquet``.

    A participant's usual durations are those of a regime that is called calm or the like; where it has none, of its
    quickest regime. Regimes whose names mean a brown-out stand for slow work, others for what comes later.
    """
    latency = _read(folder / "latency.parquet", {"participant", "regime", "milliseconds"})
    latency = latency.assign(milliseconds=pd.to_numeric(latency.milliseconds, errors="coerce"))
    latency = latency[np.isfinite(latency.milliseconds) & (latency.milliseconds > 0) & latency.participant.notna()]
    if latency.empty:
        raise SystemExit(f"{folder}/latency.parquet: no participant has a duration above 0 milliseconds.")
    calm: dict[str, Floats] = {}
    slow: dict[str, Floats] = {}
    later: dict[str, Floats] = {}
    for name, own in latency.assign(regime=latency.regime.fillna("calm")).groupby("participant", sort=False):
        regimes = {
            str(regime): part.milliseconds.to_numpy(dtype=np.float64) / 1000.0
            for regime, part in own.groupby("regime", sort=False)
        }
        base = next((one for one in regimes if one.strip().lower() in _CALM), None)
        base = base or min(regimes, key=lambda one: float(np.median(regimes[one])))
        participant = str(name)
        calm[participant] = regimes.pop(base)
        for regime, seconds in regimes.items():
            (slow if is_slow(regime) else later).setdefault(participant, seconds)
    plan = tuple(calm)
    return Material(folder.name, plan, calm, slow, later, schedule(folder / "faults.parquet", plan), is_given=True)


def world(material: Material, seed: int, shape: Shape, *, past: bool) -> World:
    """Return the world of a seed, made of the developers' part or of what came after it."""
    random = np.random.default_rng([seed, int(past)])
    calm = {name: _part(seconds, past=past) for name, seconds in material.calm.items()}
    faults = material.faults if material.is_given else _drawn(material, shape, random)
    last = max((fault.end for fault in material.faults), default=0.0)
    horizon = last + shape.patience if last else shape.horizon
    rate = shape.sagas / horizon
    return World(
        plan=material.plan,
        durations=calm,
        slow_durations=material.slow,
        later_durations=material.later,
        workers=sized(calm, material.plan, rate, shape.usage),
        rate=rate,
        horizon=horizon,
        patience=shape.patience,
        faults=faults,
    )


def _part(seconds: Floats, *, past: bool) -> Floats:
    cut = max(1, int(PAST * len(seconds)))
    return seconds[:cut] if past else seconds[min(cut, len(seconds) - 1) :]


def _drawn(material: Material, shape: Shape, random: np.random.Generator) -> tuple[Fault, ...]:
    """Draw a schedule: one fault after another, now and then two at once, of all kinds at any participant."""
    faults, at = [], float(random.uniform(60, 180))
    kinds, weights = [kind for kind, _ in _MIX], [weight for _, weight in _MIX]
    while at < shape.horizon - 240:
        kind = kinds[int(random.choice(len(kinds), p=weights))]
        length = _WINDOW * float(random.uniform(0.4, 1.6))
        severity = float(random.uniform(0.3, 1.0))
        if kind in (Kind.SLOW, Kind.DELAY):
            severity = max(1.5, float(random.choice(material.factors) * random.uniform(0.7, 1.4)))
        elif kind is Kind.CRASH:
            severity = 1.0
        faults.append(Fault(str(random.choice(material.plan)), kind, at, at + length, severity))
        at += length * (0.3 if random.random() < 0.15 else 1.0) + float(random.exponential(120.0))
    return tuple(faults)


def _read(file: Path, columns: set[str]) -> pd.DataFrame:
    if not file.is_file():
        raise SystemExit(f"{file} is not there: --data takes a folder with latency.parquet and faults.parquet.")
    table = pd.read_parquet(file)
    if missing := columns - set(table.columns):
        raise SystemExit(f"{file} lacks {', '.join(sorted(missing))}.")
    return table
