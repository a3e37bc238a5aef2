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

from benchmarks._times import in_seconds
from examples.shop.world.faults import Fault, Kind, kind_of
from examples.shop.world.run import World, sized

Floats = NDArray[np.float64]
PAST = 0.6
"""Share of what was measured that is the developers' part."""
STEPS = 5
_FEWEST = 100
_CALM = {"calm", "normal", "base", "baseline", "healthy", "steady"}
_WINDOW = 180.0
"""Seconds that an injected fault of the Nezha sets lasts, about."""
_GAP = 600.0
"""A schedule's calm longer than this is cut to it: nothing happens in it that tells policies apart."""
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
    """A schedule that is given; empty where each seed draws one."""
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
    """Return the material of a folder with ``latency.parquet`` and ``faults.parquet``."""
    latency = _read(folder / "latency.parquet", {"participant", "regime", "milliseconds"})
    latency = latency[np.isfinite(latency.milliseconds) & (latency.milliseconds > 0)]
    names = [str(name) for name in latency.regime.unique()]
    base = next((name for name in names if name.lower() in _CALM), names[0])
    by = {
        (str(regime), str(participant)): own.milliseconds.to_numpy(dtype=np.float64) / 1000.0
        for (regime, participant), own in latency.groupby(["regime", "participant"], sort=False)
    }
    plan = tuple(participant for regime, participant in by if regime == base and len(by[regime, participant]) >= 2)
    if not plan:
        raise SystemExit(f"{folder}/latency.parquet: no participant has durations in the regime {base!r}.")
    slow: dict[str, Floats] = {}
    later: dict[str, Floats] = {}
    for (regime, participant), seconds in by.items():
        if regime != base and participant in plan:
            (slow if _is_slow(regime) else later)[participant] = seconds
    calm = {participant: by[base, participant] for participant in plan}
    return Material(folder.name, plan, calm, slow, later, _schedule(folder / "faults.parquet", plan))


def world(material: Material, seed: int, shape: Shape, *, past: bool) -> World:
    """Return the world of a seed, made of the developers' part or of what came after it."""
    random = np.random.default_rng([seed, int(past)])
    calm = {name: _part(seconds, past=past) for name, seconds in material.calm.items()}
    faults = material.faults or _drawn(material, shape, random)
    horizon = max(fault.end for fault in faults) + shape.patience if material.faults else shape.horizon
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


def _schedule(file: Path, plan: tuple[str, ...]) -> tuple[Fault, ...]:
    """Return a schedule that is given, from its first fault on, long calms cut short."""
    rows = _read(file, {"participant", "kind", "start", "end", "severity"})
    start, end = (in_seconds(rows[column]) for column in ("start", "end"))
    faults = []
    for place in range(len(rows)):
        participant, word = str(rows.participant.iloc[place]), str(rows.kind.iloc[place])
        try:
            kind = kind_of(word)
        except ValueError as error:
            print(f"left out: {error}")
            continue
        if participant not in plan:
            print(f"left out: a fault of {participant}, which has no durations")
        elif end[place] > start[place]:
            severity = float(rows.severity.iloc[place])
            faults.append(Fault(participant, kind, float(start[place]), float(end[place]), severity))
    if not faults:
        raise SystemExit(f"{file}: no fault that can be used.")
    return _closer(sorted(faults, key=lambda fault: fault.start))


def _closer(faults: list[Fault]) -> tuple[Fault, ...]:
    lead = min(_GAP, 120.0)
    shift, latest, moved = faults[0].start - lead, faults[0].start, []
    for fault in faults:
        shift += max(0.0, fault.start - latest - _GAP)
        moved.append(Fault(fault.participant, fault.kind, fault.start - shift, fault.end - shift, fault.severity))
        latest = max(latest, fault.end)
    return tuple(moved)


def _is_slow(regime: str) -> bool:
    try:
        return kind_of(regime) is Kind.SLOW
    except ValueError:
        return False


def _read(file: Path, columns: set[str]) -> pd.DataFrame:
    if not file.is_file():
        raise SystemExit(f"{file} is not there: --data takes a folder with latency.parquet and faults.parquet.")
    table = pd.read_parquet(file)
    if missing := columns - set(table.columns):
        raise SystemExit(f"{file} lacks {', '.join(sorted(missing))}.")
    return table
