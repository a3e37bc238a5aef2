"""MicroRank (Yu et al., WWW 2021), from the paper: personalised PageRank over operations and traces, and a spectrum.

A trace is abnormal where it takes longer than its operations lead to expect. PageRank over the graph of operations and
traces, once of the abnormal and once of the normal ones, weighs how much each operation tells; the weights scale the
four counts of a spectrum (in abnormal or normal traces, or not), and a formula of fault localisation ranks operations.
A service is as suspicious as its worst operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.root_cause.traces import Visits

Floats = NDArray[np.float64]
Source = Literal["window", "reference"]
Formula = Literal["ochiai", "dstar2", "jaccard", "tarantula"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was tuned. ``sigmas``: how far above the mean an operation is still expected; ``own``: expectations are of
    own time (which a trace's duration is the sum of), else of whole durations as the paper has it; ``normal``: where
    normal traces come from; ``damping`` and ``calls`` (weight of calls beside traces) are PageRank's."""

    sigmas: float = 1.5
    own: bool = True
    normal: Source = "reference"
    formula: Formula = "ochiai"
    damping: float = 0.85
    calls: float = 0.01

    @classmethod
    def grid(cls) -> list[Settings]:
        """Return every combination that was tried."""
        formulas: tuple[Formula, ...] = ("ochiai", "dstar2", "jaccard", "tarantula")
        sources: tuple[Source, ...] = ("window", "reference")
        return [cls(*one) for one in product((0.0, 1.5, 3.0), (True, False), sources, formulas)]


@dataclass(frozen=True, slots=True)
class Operations:
    """Traces as sets of operations: ``uses`` has (trace, operation) and how often; ``calls`` (caller, callee)."""

    duration: pd.Series
    uses: pd.DataFrame
    calls: pd.DataFrame


def operations_of(visits: Visits) -> Operations:
    """Return the operations (service and operation) of each trace; their times in milliseconds."""
    table = visits.table
    name = table["service"] + " " + table["operation"]
    own = visits.parts.groupby("visit")["own_ms"].sum().reindex(range(len(table))).to_numpy()
    uses = (
        pd.DataFrame({"trace": table["trace"], "operation": name, "own": own, "whole": table["duration_ms"]})
        .groupby(["trace", "operation"])
        .agg(count=("own", "size"), own=("own", "sum"), whole=("whole", "sum"))
        .reset_index()
    )
    below = visits.parent >= 0
    calls = pd.DataFrame(
        {
            "trace": table["trace"].to_numpy()[below],
            "caller": name.to_numpy()[visits.parent[below]],
            "callee": name.to_numpy()[below],
        }
    ).drop_duplicates()
    return Operations(table[~below].groupby("trace")["duration_ms"].max(), uses, calls)


class Usual:
    """What the reference says: expected times, and the weights of its operations (found once for each setting)."""

    def __init__(self, reference: Operations) -> None:
        self.operations = reference
        uses = reference.uses
        self.expected = {
            name: (uses[name] / uses["count"]).groupby(uses["operation"]).agg(["mean", "std"]).fillna(0.0)
            for name in ("own", "whole")
        }
        self._weights: dict[tuple[float, float], Part] = {}

    def part(self, settings: Settings) -> Part:
        """Return the reference's traces as the normal ones."""
        key = settings.damping, settings.calls
        if key not in self._weights:
            self._weights[key] = _part(self.operations, settings)
        return self._weights[key]


@dataclass(frozen=True, slots=True)
class Part:
    """One side of the spectrum: each operation's weight, the traces that have it, and all of its traces."""

    weight: pd.Series
    having: pd.Series
    traces: int


def rank(window: Operations, usual: Usual, settings: Settings) -> list[str]:
    """Return the services, the most suspicious first; empty where no trace is abnormal."""
    abnormal = _abnormal(window, usual.expected["own" if settings.own else "whole"], settings.sigmas)
    if not abnormal:
        return []
    bad = _part(_among(window, abnormal), settings)
    rest = set(window.duration.index) - abnormal
    good = _part(_among(window, rest), settings) if settings.normal == "window" and rest else usual.part(settings)
    names = bad.having.index.union(good.having.index)
    f, p = (part.weight.reindex(names).fillna(0.0).to_numpy() for part in (bad, good))
    in_bad, in_good = (part.having.reindex(names).fillna(0.0).to_numpy() for part in (bad, good))
    score = _formula(settings.formula, f * in_bad, f * (bad.traces - in_bad), p * in_good, p * (good.traces - in_good))
    services = pd.Series(score).groupby([name.split(" ")[0] for name in names]).max()
    return [str(name) for name in services.sort_values(ascending=False, kind="stable").index]


def _abnormal(window: Operations, expected: pd.DataFrame, sigmas: float) -> set[str]:
    """Return the traces that take longer than their operations lead to expect."""
    at = expected.reindex(window.uses["operation"])
    most = (at["mean"] + sigmas * at["std"]).fillna(0.0).to_numpy() * window.uses["count"].to_numpy()
    bound = pd.Series(most).groupby(window.uses["trace"].to_numpy()).sum()
    return set(window.duration.index[window.duration.to_numpy() > bound.reindex(window.duration.index).to_numpy()])


def _among(every: Operations, traces: set[str]) -> Operations:
    return Operations(
        every.duration[every.duration.index.isin(traces)],
        every.uses[every.uses["trace"].isin(traces)],
        every.calls[every.calls["trace"].isin(traces)],
    )


def _part(operations: Operations, settings: Settings) -> Part:
    having = operations.uses.groupby("operation").size()
    return Part(_pagerank(operations, settings), having, len(operations.duration))


def _pagerank(part: Operations, settings: Settings) -> pd.Series:
    """Return each operation's weight; traces of few operations, and of rare kinds, are preferred."""
    operation, names = pd.factorize(part.uses["operation"], sort=True)
    trace, traces = pd.factorize(part.uses["trace"], sort=True)
    n, m = len(names), len(traces)
    length = np.bincount(trace, minlength=m).astype(np.float64)
    spread = np.bincount(operation, minlength=n).astype(np.float64)
    kind = part.uses.groupby("trace")["operation"].agg(lambda ops: hash(tuple(sorted(ops)))).reindex(traces)
    alike = kind.groupby(kind).transform("size").to_numpy(np.float64)
    prefer = 0.5 / length / (1.0 / length).sum() + 0.5 / alike / (1.0 / alike).sum()
    number = {name: at for at, name in enumerate(names)}
    caller = part.calls["caller"].map(number).to_numpy(np.int64)
    callee = part.calls["callee"].map(number).to_numpy(np.int64)
    out = np.bincount(caller, minlength=n).astype(np.float64)
    ops: Floats = np.full(n, 1.0 / (n + m))
    tr: Floats = np.full(m, 1.0 / (n + m))
    d = settings.damping
    for _ in range(25):
        from_traces = np.bincount(operation, weights=(tr / length)[trace], minlength=n)
        from_calls = np.bincount(callee, weights=(ops / np.maximum(out, 1.0))[caller], minlength=n)
        new_ops = d * (from_traces + settings.calls * from_calls)
        new_tr = d * np.bincount(trace, weights=(ops / spread)[operation], minlength=m) + (1 - d) * prefer
        ops, tr = new_ops / max(new_ops.max(), 1e-12), new_tr / max(new_tr.max(), 1e-12)
    return pd.Series(ops, index=names)


def _formula(name: Formula, ef: Any, nf: Any, ep: Any, np_: Any) -> Floats:
    """Return the suspicion of each operation by a formula of spectrum-based fault localisation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        match name:
            case "ochiai":
                found = ef / np.sqrt((ef + ep) * (ef + nf))
            case "dstar2":
                found = ef**2 / (ep + nf)
            case "jaccard":
                found = ef / (ef + ep + nf)
            case _:
                found = (ef / (ef + nf)) / (ef / (ef + nf) + ep / (ep + np_))
    return np.asarray(np.nan_to_num(found, nan=0.0, posinf=1e9))
