"""Who uses more than usual, or serves more slowly, by metrics sampled over time.

What belongs here: evidence of the family ``use``, and of the family ``time`` where there are only metrics to go by.
What does not: metrics of traffic, which say how much a service was asked for and not what it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.root_cause.robust import gate, midmeans, spread
from ml.root_cause.types import Evidence, Family, MetricKind, figure

_MORE = ("service", "metric", "more")


@dataclass(frozen=True, slots=True)
class Levels:
    """``center`` and ``drift`` of each (service, metric), and ``floor``: what never is worth a word."""

    table: pd.DataFrame


def learn(metrics: pd.DataFrame, names: Iterable[str], block_us: int) -> Levels:
    """Learn the usual level of each metric of each service, from means over blocks of ``block_us`` microseconds."""
    block = metrics["time_us"] // block_us
    long = _levels(metrics.assign(block=block), ["service", "block"], names)
    grouped = long.groupby(["service", "metric"])["value"]
    table = pd.DataFrame(
        {
            "center": grouped.median(),
            "drift": grouped.agg(lambda v: spread(v.to_numpy(np.float64) - float(np.median(v)))),
            "blocks": grouped.size(),
        }
    )
    typical = table.groupby("metric")["center"].median()
    table["floor"] = 0.1 * table["center"] + 0.05 * table.index.get_level_values("metric").map(typical.to_dict())
    return Levels(table[table["blocks"] >= 3])


def rises(levels: Levels, metrics: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return ``before``, ``after`` and ``weight`` (0 to 1: how far chance is ruled out) by service and metric."""
    after = _levels(metrics, ["service"], names).set_index(["service", "metric"])["value"].rename("after")
    found = levels.table.join(after, how="inner")
    scale = np.hypot(found["drift"].to_numpy(np.float64), found["floor"].to_numpy(np.float64))
    weight = gate((found["after"] - found["center"]).to_numpy(np.float64) / np.where(scale > 0, scale, np.nan))
    return pd.DataFrame({"before": found["center"], "after": found["after"], "weight": weight}, index=found.index)


def _levels(metrics: pd.DataFrame, by: list[str], names: Iterable[str]) -> pd.DataFrame:
    """Return each metric's level (``value``) within each group: the mean of the middle half, so that a burst does not
    count."""
    long = metrics.melt(by, list(names), var_name="metric", value_name="value").dropna()
    group = long.groupby([*by, "metric"], sort=True).ngroup().to_numpy(np.int64)
    keys = long[[*by, "metric"]].drop_duplicates().sort_values([*by, "metric"], ignore_index=True)
    value, _ = midmeans(group, long["value"].to_numpy(np.float64), len(keys))
    return keys.assign(value=value)


def evidence(
    found: pd.DataFrame, kinds: Mapping[str, MetricKind], callees: Mapping[str, frozenset[str]]
) -> list[Evidence]:
    """Return evidence for each service that uses more than usual, or serves more slowly than its callees account for.

    The strength is the root of two shares: of the service's own level, what was not there before; and of what all
    services have more of that metric, what it has.
    """
    more = ((found["after"] - found["before"]).clip(lower=0.0) * found["weight"]).rename("more").reset_index()
    served = more["metric"].map(kinds) == "served"
    rows: list[tuple[str, str, float]] = list(zip(*(more[name].tolist() for name in _MORE), strict=True))
    above = {(service, metric): value for service, metric, value in rows}
    explained = [
        max((above.get((callee, metric), 0.0) for callee in callees.get(service, ())), default=0.0)
        for service, metric, _ in rows
    ]
    more["own"] = np.maximum(more["more"] - np.where(served, np.asarray(explained), 0.0), 0.0)
    total = more.groupby("metric")["own"].transform("sum")
    after = found["after"].to_numpy(np.float64)
    more["strength"] = np.sqrt(
        np.divide(more["own"], after, out=np.zeros(len(more)), where=after > 0)
        * np.divide(more["own"], total, out=np.zeros(len(more)), where=total.to_numpy() > 0)
    )
    best: dict[tuple[str, Family], Evidence] = {}
    columns = [more[name].tolist() for name in ("service", "metric", "strength")]
    before = found["before"].tolist()
    for service, metric, strength, was, now in zip(*columns, before, after.tolist(), strict=True):
        family: Family = "time" if kinds[metric] == "served" else "use"
        known = best.get((service, family))
        if strength > (known.strength if known else 0.0):
            words = f"{metric} {figure(now)}, {figure(was)} in the reference"
            best[service, family] = Evidence(service, family, "metrics", strength, words)
    return list(best.values())
