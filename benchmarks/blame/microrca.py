"""MicroRCA (Wu et al., NOMS 2020), from the paper: a random walk over the anomalous part of the service graph.

A call between two services is anomalous where BIRCH puts its response times over time into more than one cluster. The
services called by such calls and their neighbours are the anomalous subgraph. An anomalous call weighs ``alpha``,
another as much as its response time correlates with those of the anomalous calls of its service; a service is preferred
by the mean weight of its anomalous calls times its highest correlation with a resource's use. Personalised PageRank
ranks them.

The paper's hosts are left out: these data do not say which pod ran where. Where
neither end of a call has an anomalous call of its own, the mean of all anomalous calls is what it is correlated with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import Birch

from ml.root_cause import Observed
from ml.root_cause.traces import Visits

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was tuned: BIRCH's ``threshold`` (on response times scaled by ``scale``), ``alpha``, PageRank's ``damping``,
    and whether it walks from callers to callees, as the paper has it, or both ways."""

    threshold: float = 0.05
    scale: Literal["norm", "spread"] = "norm"
    alpha: float = 0.55
    damping: float = 0.85
    both_ways: bool = False

    @classmethod
    def grid(cls) -> list[Settings]:
        """Return every combination that was tried."""
        norm = [cls(threshold, "norm") for threshold in (0.02, 0.05, 0.1, 0.2)]
        return [
            replace(one, alpha=alpha, damping=damping, both_ways=both)
            for one in [*norm, cls(3.0, "spread"), cls(6.0, "spread")]
            for alpha, damping, both in product((0.3, 0.55, 1.0), (0.5, 0.85), (False, True))
        ]


@dataclass(frozen=True, slots=True)
class Series:
    """Response times (ms) of calls by bin of time and (caller, callee), and use of resources by bin and service.

    ``window`` marks the bins of the fault. ``graphs`` holds what was found already, by BIRCH's threshold and scale.
    """

    calls: pd.DataFrame
    use: dict[str, pd.DataFrame]
    window: NDArray[np.bool_]
    graphs: dict[tuple[float, str], Graph | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """The anomalous subgraph: ``alike``, the correlation of each call (caller, callee) that is not ``odd``, and the
    highest correlation of each service's anomalous calls with its ``use`` of a resource (0: it has none)."""

    names: list[str]
    odd: NDArray[np.bool_]
    alike: Floats
    use: Floats


def call_times(visits: Visits, bin_us: int) -> pd.DataFrame:
    """Return mean response times as the caller sees them (the callee's time and the way), by bin and pair of both."""
    table, below = visits.table, visits.parent >= 0
    begin = table["start_us"].to_numpy() // bin_us
    served = pd.DataFrame(
        {
            "bin": begin[below],
            "caller": table["service"].to_numpy(object)[visits.parent[below]],
            "callee": table["service"].to_numpy(object)[below],
            "ms": table["duration_ms"].to_numpy()[below],
        }
    )
    out = visits.parts[visits.parts["callee"] != ""]
    way = pd.DataFrame(
        {
            "bin": begin[out["visit"].to_numpy()],
            "caller": out["service"].to_numpy(object),
            "callee": out["callee"].to_numpy(object),
            "ms": out["own_ms"].to_numpy(),
        }
    )
    inside, between = (
        frame.pivot_table(index="bin", columns=["caller", "callee"], values="ms", aggfunc="mean")
        for frame in (served, way)
    )
    return inside.add(between.reindex_like(inside).fillna(0.0))


def series_of(
    window: pd.DataFrame | None, reference: pd.DataFrame | None, now: Observed, near: Observed, bin_us: int
) -> Series:
    """Return the series of a fault: bins of its window behind those of the reference."""
    frames = []
    for traces, observed in ((reference, near), (window, now)):
        parts = [] if traces is None else [traces]
        if observed.links is not None and len(observed.links):
            links = observed.links.assign(bin=observed.links["time_us"] // bin_us)
            pivot = links.pivot_table(index="bin", columns=["source", "target"], values="at_source", aggfunc="mean")
            parts.append(pivot)
        frames.append(pd.concat(parts, axis=1).T.groupby(level=[0, 1]).mean().T if parts else pd.DataFrame())
    # A bin that the fault began in is the fault's.
    frames[0] = frames[0][~frames[0].index.isin(frames[1].index)]
    calls = pd.concat(frames)
    inside = np.r_[np.zeros(len(frames[0]), bool), np.ones(len(frames[1]), bool)]
    use: dict[str, pd.DataFrame] = {}
    metrics = [frame for frame in (near.metrics, now.metrics) if frame is not None and len(frame)]
    if metrics:
        every = pd.concat(metrics)
        for name in (name for name, kind in now.kinds.items() if kind == "use"):
            by_bin = every.assign(bin=every["time_us"] // bin_us).pivot_table(
                index="bin", columns="service", values=name, aggfunc="mean"
            )
            # Metrics come once a minute: a bin without any has its neighbour's.
            use[name] = (
                by_bin.reindex(by_bin.index.union(calls.index)).ffill(limit=3).bfill(limit=3).reindex(calls.index)
            )
    return Series(calls, use, inside)


def rank(series: Series, settings: Settings) -> list[str]:
    """Return the services, the most suspicious first; those outside of the anomalous subgraph are left out."""
    key = settings.threshold, settings.scale
    if key not in series.graphs:
        series.graphs[key] = _graph(series, settings)
    graph = series.graphs[key]
    if graph is None:
        return []
    weights = np.where(graph.odd, settings.alpha, graph.alike)
    into = graph.odd.sum(axis=0)
    prefer = np.divide((weights * graph.odd).sum(axis=0), into, out=np.zeros(len(into)), where=into > 0) * graph.use
    score = _walk(weights + weights.T if settings.both_ways else weights, prefer, settings.damping)
    order = np.argsort(-score, kind="stable")
    return [graph.names[at] for at in order if score[at] > 0]


def _graph(series: Series, settings: Settings) -> Graph | None:
    """Return the anomalous subgraph; None where no call is anomalous."""
    calls = series.calls
    if not len(calls) or not series.window.any():
        return None
    pairs: list[tuple[str, str]] = [(str(pair[0]), str(pair[1])) for pair in calls.columns.to_list()]
    odd = [pair for pair in pairs if _anomalous(calls[pair].to_numpy(), series.window, settings)]
    if not odd:
        return None
    called = {callee for _, callee in odd}
    edges = [pair for pair in pairs if pair[0] in called or pair[1] in called]
    names = sorted({name for pair in edges for name in pair})
    number = {name: at for at, name in enumerate(names)}
    mean_odd = {name: calls[[pair for pair in odd if pair[1] == name]].mean(axis=1) for name in called}
    everything = calls[odd].mean(axis=1)
    is_odd = np.zeros((len(names), len(names)), dtype=bool)
    alike = np.zeros((len(names), len(names)))
    for pair in edges:
        at = number[pair[0]], number[pair[1]]
        if pair in odd:
            is_odd[at] = True
        else:
            alike[at] = _correlation(calls[pair], mean_odd.get(pair[1], mean_odd.get(pair[0], everything)))
    use = np.zeros(len(names))
    for name in called:
        uses = [_correlation(mean_odd[name], frame[name]) for frame in series.use.values() if name in frame.columns]
        # Where there are no metrics at all, its calls alone speak.
        use[number[name]] = max(uses, default=1.0)
    return Graph(names, is_odd, alike, use)


def _anomalous(times: Floats, window: NDArray[np.bool_], settings: Settings) -> bool:
    """Return whether the response times fall into more than one cluster, and the window has the slower one."""
    known = np.isfinite(times)
    if known[window].sum() == 0 or known[~window].sum() < 2:
        return False
    values = times[known]
    if settings.scale == "norm":
        values = values / max(float(np.linalg.norm(values)), 1e-9)
    else:
        rest = times[known & ~window]
        wide = float(np.quantile(np.abs(rest - np.median(rest)), 0.8)) + 0.05 * float(np.median(rest)) + 0.05
        values = values / wide
    tree = Birch(threshold=settings.threshold, n_clusters=None, compute_labels=False).fit(values.reshape(-1, 1))
    if len(tree.subcluster_centers_) < 2:
        return False
    inside = window[known]
    return float(np.mean(values[inside])) > float(np.quantile(values[~inside], 0.75))


def _correlation(one: pd.Series, other: pd.Series) -> float:
    """Return the absolute correlation over bins that both have; 0 where it is not defined."""
    both = one.notna() & other.notna()
    a, b = one[both].to_numpy(np.float64), other[both].to_numpy(np.float64)
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(a, b)[0, 1]))


def _walk(weights: Floats, prefer: Floats, damping: float) -> Floats:
    """Return the shares of a walk that starts anew, where ``prefer`` says, in 1 - ``damping`` of its steps."""
    total = prefer.sum()
    start = prefer / total if total > 0 else np.full(len(prefer), 1.0 / len(prefer))
    out = weights.sum(axis=1)
    step = np.divide(weights, out[:, None], out=np.zeros_like(weights), where=out[:, None] > 0)
    at = start.copy()
    for _ in range(200):
        new = damping * (at @ step + at[out == 0].sum() * start) + (1 - damping) * start
        if np.abs(new - at).sum() < 1e-10:
            break
        at = new
    return np.asarray(at)
