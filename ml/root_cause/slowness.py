"""Who added the time: own time and the ways between services, each against its reference.

What belongs here: evidence of the family ``time``, from traces or from latencies per pair of services. What does not:
the geometry of traces (``traces``).

The way from a to b may be slow because of either. If a service is slow to send and receive, all its ways are; so each
way's added time is explained as a sum of one delay at either end, by least squares with delays of at least 0, the
smaller ones preferred.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.root_cause.robust import Floats, Ints, gate, midmeans, spread
from ml.root_cause.traces import Visits
from ml.root_cause.types import Evidence, Instrument, figure

#: Blocks of the reference with fewer calls of a kind say nothing about it.
_CALLS = 3
_KEY = ["service", "operation", "callee"]
_SPENT = ["service", "operation", "ms"]
#: What a delay at the caller counts of one at the callee, so that of a lone way the callee is suspected: a caller that
#: is slow shows it in its own time and on its other ways, too.
_AT_CALLER = 0.7


@dataclass(frozen=True, slots=True)
class Usual:
    """What a call's parts usually take: indexed by service, operation and callee (empty: the service's own time).

    ``center`` ms; ``drift``, how far blocks of time lie from it; ``noise``, how far single calls do.
    """

    table: pd.DataFrame


def learn(parts: pd.DataFrame, block: Ints) -> Usual:
    """Learn what is usual from parts of calls (as of `Visits`) and, for each, the number of its block of time."""
    kind = parts.groupby(_KEY, sort=True).ngroup().to_numpy(np.int64)
    names = parts[_KEY].drop_duplicates().sort_values(_KEY, ignore_index=True)
    own = parts["own_ms"].to_numpy(np.float64)
    count = len(names)
    pairs, pair = np.unique(np.column_stack([kind, block]), axis=0, return_inverse=True)
    means, sizes = midmeans(pair.ravel(), own, len(pairs))
    pooled, total = midmeans(kind, own, count)
    held = sizes >= _CALLS
    of = pairs[:, 0].astype(np.int64)
    center, drift, noise = pooled.copy(), np.zeros(count), np.zeros(count)
    order = np.argsort(kind, kind="stable")
    for number, rows in enumerate(np.split(order, np.cumsum(np.bincount(kind, minlength=count))[:-1])):
        blocks = means[held & (of == number)]
        if len(blocks) >= _CALLS:
            center[number] = np.median(blocks)
            drift[number] = spread(blocks - center[number])
        else:
            drift[number] = pooled[number] / 2
        noise[number] = spread(own[rows] - np.median(own[rows]))
    table = names.assign(center=center, drift=drift, noise=noise, calls=total)
    return Usual(table[table["calls"] >= _CALLS].set_index(_KEY))


def added(usual: Usual, parts: pd.DataFrame) -> pd.DataFrame:
    """Return, for each part of a call that has a reference, what the window adds to it.

    Columns: ``service``, ``operation``, ``callee``, ``calls``, ``before`` and ``after`` (ms a call) and ``excess``, the
    share of their difference that counts.
    """
    names = parts[_KEY].drop_duplicates().sort_values(_KEY, ignore_index=True)
    kind = parts.groupby(_KEY, sort=True).ngroup().to_numpy(np.int64)
    mean, calls = midmeans(kind, parts["own_ms"].to_numpy(np.float64), len(names))
    known = usual.table.reindex(pd.MultiIndex.from_frame(names))
    before = known["center"].to_numpy()
    # A twentieth of what is usual, and of a millisecond, is never worth a word.
    scale = np.sqrt(
        known["drift"].to_numpy() ** 2 + known["noise"].to_numpy() ** 2 / calls + (before / 20) ** 2 + 0.05**2
    )
    excess = np.maximum(mean - before, 0.0) * gate((mean - before) / scale)
    found = names.assign(calls=calls, before=before, after=mean, excess=excess)
    return pd.DataFrame(found[np.isfinite(before)]).reset_index(drop=True)


def parts_of(links: pd.DataFrame) -> pd.DataFrame:
    """Return latencies per pair of services as parts of calls, one row a way or service and time.

    The way is what the source measured more than the target did. A service's own time is what it took to answer, as its
    callers' requests were measured at it, without the slowest call that it made itself.
    """
    ways = pd.DataFrame(
        {
            "time_us": links["time_us"],
            "service": links["source"],
            "operation": "all calls",
            "callee": links["target"],
            "own_ms": (links["at_source"] - links["at_target"]).clip(lower=0.0),
        }
    )
    answers = links.groupby(["time_us", "target"])["at_target"].mean()
    calls = links.groupby(["time_us", "source"])["at_source"].max()
    calls.index.names = answers.index.names
    own = (answers - calls.reindex(answers.index).fillna(0.0)).clip(lower=0.0).rename("own_ms").reset_index()
    own = own.rename(columns={"target": "service"}).assign(operation="all requests", callee="")
    return pd.concat([ways, own], ignore_index=True).dropna(subset=["own_ms"])


def spent_on(visits: Visits) -> pd.Series:
    """Return the time spent on each service in all, ms: its visits and the ways to it, by the middle half of each."""
    parts = visits.parts[visits.parts["callee"] != ""]
    inside = visits.table[["service", "operation", "duration_ms"]].set_axis(_SPENT, axis=1)
    ways = parts[["callee", "operation", "own_ms"]].set_axis(_SPENT, axis=1).assign(operation=parts["service"])
    every = pd.concat([inside, ways], ignore_index=True)
    kind = every.groupby(_SPENT[:2]).ngroup().to_numpy(np.int64)
    names = every[_SPENT[:2]].drop_duplicates().sort_values(_SPENT[:2], ignore_index=True)
    mean, calls = midmeans(kind, every["ms"].to_numpy(np.float64), len(names))
    return pd.Series(mean * calls).groupby(names["service"].to_numpy()).sum()


def spent_by_links(links: pd.DataFrame) -> pd.Series:
    """Return the same from latencies per pair of services; as if each pair had one call a time."""
    return links.groupby("target")["at_source"].sum()


def delays(source: Ints, target: Ints, excess: Floats, weight: Floats, count: int) -> tuple[Floats, Floats]:
    """Return a delay of what each of ``count`` services sends, and one of what it is sent, that explain the ``excess``.

    ``excess`` of each way, from ``source`` to ``target``, is the sum of the two, in the sense of least squares with
    ``weight``. Of explanations that are as good the one with the fewest delays wins (an elastic net), and a way between
    two services that have no other is the callee's.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet

    if not len(excess) or not excess.any():
        return np.zeros(count), np.zeros(count)
    rows = np.zeros((len(excess), 2 * count))
    at = np.arange(len(excess))
    pull = np.sqrt(weight / weight.sum())
    rows[at, source] = pull * _AT_CALLER
    rows[at, count + target] = pull
    # The net weighs squares of delays against delays: of a scale of their own, so that the unit does not matter.
    unit = float(excess.max())
    aim = pull * excess / unit
    strictness = 0.01 * float((rows.T @ aim).max()) / len(excess)
    net = ElasticNet(alpha=strictness, l1_ratio=0.9, positive=True, fit_intercept=False, max_iter=10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digit does not matter
        found = net.fit(rows, aim).coef_
    return found[:count] * _AT_CALLER * unit, found[count:] * unit


def evidence(found: pd.DataFrame, spent: pd.Series, instrument: Instrument) -> list[Evidence]:
    """Return evidence for each service, given what was added and the time (ms) that was ``spent`` on each in all.

    The strength is the root of two shares: of the time spent on the service, what it added itself; and of the time that
    all services added, what it did.
    """
    services = sorted({*found["service"], *found["callee"].loc[found["callee"] != ""], *spent.index})
    number = {name: at for at, name in enumerate(services)}
    total = np.zeros(len(services))
    own = found[found["callee"] == ""]
    np.add.at(total, own["service"].map(number).to_numpy(np.int64), (own["excess"] * own["calls"]).to_numpy())
    ways = (
        found[found["callee"] != ""]
        .assign(sum=lambda f: f["excess"] * f["calls"])
        .groupby(["service", "callee"], as_index=False)[["sum", "calls"]]
        .sum()
    )
    source, target = (ways[name].map(number).to_numpy(np.int64) for name in ("service", "callee"))
    calls = ways["calls"].to_numpy(np.float64)
    sends, receives = delays(
        source, target, (ways["sum"] / ways["calls"]).to_numpy(np.float64), np.minimum(calls, 30.0), len(services)
    )
    explained = sends[source] + receives[target]
    scale = np.where(explained > 0, ways["sum"].to_numpy() / np.maximum(explained, 1e-9), 0.0)
    np.add.at(total, source, sends[source] * scale)
    np.add.at(total, target, receives[target] * scale)
    everything = max(float(total.sum()), 1e-9)
    result = []
    for name, sum_ in zip(services, total.tolist(), strict=True):
        if sum_ <= 0:
            continue
        local = sum_ / max(float(spent.get(name, 0.0)), sum_)
        words = _words(name, found, sends[number[name]], receives[number[name]], local)
        result.append(Evidence(name, "time", instrument, float(np.sqrt(local * sum_ / everything)), words))
    return result


def _words(service: str, found: pd.DataFrame, sends: float, receives: float, local: float) -> str:
    """Say where a service's added time was seen most."""
    own = (found["service"] == service) & (found["callee"] == "")
    out = (found["service"] == service) & (found["callee"] != "") & (sends > 0)
    seen = found[own | out | ((found["callee"] == service) & (receives > 0))]
    row = seen.iloc[int(np.argmax((seen["excess"] * seen["calls"]).to_numpy()))]
    where = f"between {row['service']} and {row['callee']}" if row["callee"] else f"in {row['operation']}"
    return (
        f"{local:.0%} of the time of its calls was added by itself: "
        f"{where} {figure(row['after'])} ms a call, {figure(row['before'])} in the reference"
    )
