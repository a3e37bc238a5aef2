"""Streams of steps for ``timeouts.py``: durations that were measured, regimes that are made.

What belongs here: reading the durations, and making seeded streams from them. What does not: any time-out.
The base durations are in the order in which they were measured; a stream takes them in runs of 150 from one place of
its part, so what neighbours have in common stays. A participant's arrivals swing by 60 % around their mean, and its
durations follow its load as in a queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._times import in_seconds

Floats = NDArray[np.float64]
REGIMES = ("calm", "drift", "brownout", "hangs")
_RUN = 150
_HANG_SHARE = 0.002
_RATE = 2.0  # arrivals a second at each participant
#: What a fault's kind is called, in ``faults.parquet``.
_SLOW = ("latency", "brownout", "brown-out", "brown_out", "slow", "delay", "network_delay", "cpu_contention")
_HANG = ("hang", "hangs")
_DRIFT = ("drift",)


@dataclass(frozen=True)
class Base:
    """Durations of one participant in the order in which they were measured, and the step of each."""

    participant: str
    step: NDArray[np.object_]
    ms: Floats


@dataclass(frozen=True)
class Fault:
    """A participant's fault between two shares of a stream's length; severity is a factor, or a hang's probability."""

    participant: str
    kind: str
    start: float
    end: float
    severity: float


@dataclass(frozen=True)
class Material:
    """What streams are made of: durations for each regime (``""``: the base that all others are made from)."""

    source: str
    bases: dict[str, list[Base]]
    faults: list[Fault] = field(default_factory=list)

    @property
    def regimes(self) -> tuple[str, ...]:
        """Return the regimes to score: the made ones, and those that bring durations of their own."""
        return (*REGIMES, *(f"given:{name}" for name in self.bases if name))


@dataclass(frozen=True)
class Stream:
    """Steps in order of their starts (seconds). ``ms`` is infinite where the step never ends; ``slow`` marks faults."""

    participant: list[str]
    step: list[str]
    start: Floats
    ms: Floats
    slow: NDArray[np.bool_]


def read(folders: list[Path], first: int = 0, most: int = 6) -> Material:
    """Return the material of a folder of latencies and faults, or of folders of traces.

    Of traces ``most`` services are taken in the order of their calls, after the ``first`` ones.
    """
    if len(folders) == 1 and (folders[0] / "latency.parquet").is_file():
        return _read_latency(folders[0])
    bases: dict[str, list[Base]] = {"": [], "measured": []}
    for folder in folders:
        files = sorted(folder.glob("*spans.parquet"), key=lambda file: -file.stat().st_size)
        if not files:
            raise SystemExit(
                f"{folder} has neither latency.parquet (participant, regime, milliseconds) nor *spans.parquet"
            )
        calls, faulty = _calls(files[0], folder / "fault_list.json")
        bases[""] += calls
        bases["measured"] += faulty
    largest = sorted(bases[""], key=lambda base: -len(base.ms))[first : first + most]
    names = {base.participant for base in largest}
    measured = [base for base in bases["measured"] if base.participant in names]
    return Material(" and ".join(folder.name for folder in folders), {"": largest, "measured": measured})


def _calls(file: Path, faults: Path) -> tuple[list[Base], list[Base]]:
    """Return the calls of each service outside the four minutes after each fault that was injected, and all calls.

    A call is a span whose parent is elsewhere; its step is named by its caller and itself.
    """
    columns = ["TraceID", "SpanID", "ParentID", "PodName", "OperationName", "StartTimeUnixNano", "Duration"]
    spans = pd.read_parquet(file, columns=columns)
    spans["service"] = spans.PodName.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)
    known = spans.drop_duplicates(["TraceID", "SpanID"]).set_index(["TraceID", "SpanID"])
    caller = known.reindex(pd.MultiIndex.from_frame(spans[["TraceID", "ParentID"]]))
    spans["step"] = (caller.OperationName.fillna("-") + " > ").to_numpy() + spans.OperationName.to_numpy()
    elsewhere = caller.service.to_numpy() != spans.service.to_numpy()
    spans = spans[elsewhere].sort_values("StartTimeUnixNano", kind="stable")
    listed = json.loads(faults.read_text()) if faults.is_file() else []
    listed = [one for own in listed.values() for one in own] if isinstance(listed, dict) else listed
    began = np.array([pd.Timestamp(one["inject_time"], tz="UTC").timestamp() for one in listed])
    at = spans.StartTimeUnixNano.to_numpy(dtype=np.float64)[:, None] / 1e9
    healthy = ~((at >= began) & (at < began + 240.0)).any(axis=1)
    calm = _bases(spans[healthy])
    names = {base.participant for base in calm}
    return calm, [base for base in _bases(spans) if base.participant in names]


def _bases(spans: pd.DataFrame) -> list[Base]:
    return [
        Base(str(name), own.step.to_numpy(dtype=object), own.Duration.to_numpy(dtype=np.float64) / 1000.0)
        for name, own in spans.groupby("service")
        if len(own) >= 4 * _RUN
    ]


def _read_latency(folder: Path) -> Material:
    latency = pd.read_parquet(folder / "latency.parquet")
    if missing := {"participant", "regime", "milliseconds"} - set(latency.columns):
        raise SystemExit(f"{folder}/latency.parquet lacks {', '.join(sorted(missing))}")
    latency = latency[np.isfinite(latency.milliseconds) & (latency.milliseconds > 0)]
    names = [str(name) for name in latency.regime.unique()]
    base = next((n for n in names if n.lower() in {"calm", "normal", "base", "baseline", "healthy"}), names[0])
    bases: dict[str, list[Base]] = {}
    for (regime, participant), own in latency.groupby(["regime", "participant"], sort=True):
        ms = own.milliseconds.to_numpy(dtype=np.float64)
        if len(ms) < 2 * _RUN:
            print(f"left out: {participant} in {regime}, {len(ms)} durations")
            continue
        step = own["step"].to_numpy(dtype=object) if "step" in own else np.full(len(ms), "call", dtype=object)
        bases.setdefault("" if regime == base else str(regime), []).append(Base(str(participant), step, ms))
    if "" not in bases:
        raise SystemExit(f"{folder}/latency.parquet: regime {base} has no participant with {2 * _RUN} durations")
    return Material(folder.name, bases, _read_faults(folder / "faults.parquet"))


def _read_faults(file: Path) -> list[Fault]:
    """Return a schedule of faults; starts and ends become shares of the schedule's length."""
    if not file.is_file():
        return []
    rows = pd.read_parquet(file)
    if missing := {"participant", "kind", "start", "end", "severity"} - set(rows.columns):
        raise SystemExit(f"{file} lacks {', '.join(sorted(missing))}")
    if not len(rows):
        return []
    times = [in_seconds(column) for column in (rows.start, rows.end)]
    first = 0.0 if 0 <= times[0].min() < 1e8 else float(times[0].min())
    length = max(float(times[1].max()) - first, 1e-9)
    kinds = rows.kind.astype(str).str.lower()
    unknown = sorted(set(kinds) - {*_SLOW, *_HANG, *_DRIFT})
    if unknown:
        print(f"faults of a kind that changes no duration here are left out: {', '.join(unknown)}")
    return [
        Fault(str(p), k, (a - first) / length, (b - first) / length, float(s))
        for p, k, a, b, s in zip(rows.participant, kinds, *times, rows.severity, strict=True)
    ]


def make(material: Material, regime: str, part: tuple[float, float], steps: int, seed: int) -> Stream:
    """Return ``steps`` steps of a regime from the durations within ``part`` (shares of the measured order)."""
    random = np.random.default_rng([seed, sum(map(ord, regime)), int(1000 * part[0])])
    given = regime.removeprefix("given:") if regime.startswith("given:") else ""
    bases = material.bases[given]
    each = steps // len(bases)
    pieces = [_participant(base, regime, material.faults, part, each, random=random) for base in bases]
    start = np.concatenate([piece[1] for piece in pieces])
    order = np.argsort(start, kind="stable")
    steps_of = np.concatenate([piece[0] for piece in pieces])[order]
    ms, slow = (np.concatenate([piece[i] for piece in pieces])[order] for i in (2, 3))
    names = np.repeat([base.participant for base in bases], each)[order]
    return Stream([str(n) for n in names], [str(s) for s in steps_of], start[order], ms, slow)


def joined(first: Stream, second: Stream) -> Stream:
    """Return one stream, the second after the first."""
    return Stream(
        first.participant + second.participant,
        first.step + second.step,
        np.concatenate([first.start, second.start + first.start[-1]]),
        np.concatenate([first.ms, second.ms]),
        np.concatenate([first.slow, second.slow]),
    )


def _participant(
    base: Base, regime: str, faults: list[Fault], part: tuple[float, float], count: int, *, random: np.random.Generator
) -> tuple[NDArray[np.object_], Floats, Floats, NDArray[np.bool_]]:
    low, high = int(part[0] * len(base.ms)), int(part[1] * len(base.ms))
    runs = random.integers(low, max(high - _RUN, low + 1), -(-count // _RUN))
    rows = np.minimum((runs[:, None] + np.arange(_RUN)).ravel()[:count], len(base.ms) - 1)
    along = np.arange(count) / count
    swing = 1 + 0.6 * np.sin(2 * np.pi * (2 * along + random.uniform()))
    start = np.cumsum(random.exponential(1 / (_RATE * swing)))
    busy = 0.35 * swing
    ms = base.ms[rows] * (1 - 0.35) / (1 - busy)
    slow = np.zeros(count, dtype=bool)
    own = [fault for fault in faults if fault.participant == base.participant]
    if regime == "drift":
        end = next((fault.severity for fault in own if fault.kind in _DRIFT), random.uniform(2.0, 4.0))
        ms *= end**along
    elif regime == "brownout":
        episodes = [(f.start, f.end, f.severity) for f in own if f.kind in _SLOW] or _episodes(random)
        for first, last, factor in episodes:
            inside = (along >= first) & (along < last)
            ms[inside] *= max(factor, 1.0)
            slow |= inside
    elif regime == "hangs":
        share = np.full(count, _HANG_SHARE)
        for fault in (fault for fault in own if fault.kind in _HANG):
            inside = (along >= fault.start) & (along < fault.end)
            share[inside] = min(max(fault.severity, 0.0), 1.0)
        ms[random.random(count) < share] = np.inf
    return base.step[rows], start, ms, slow


def _episodes(random: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return one brown-out in each half of the stream: 6 to 14 % of its length, 3 to 10 times as slow."""
    return [
        (begin, begin + random.uniform(0.06, 0.14), random.uniform(3.0, 10.0))
        for begin in (random.uniform(0.05, 0.3), random.uniform(0.55, 0.8))
    ]
