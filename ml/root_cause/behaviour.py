"""What services did otherwise than usual: steps, calls and log lines that a visit lacks or has anew.

What belongs here: evidence of the family ``behaviour``. What does not: how visits and kinds of lines are found.

A visit's behaviour is which events it has. For each kind of visit (service and operation) and event, the share of
visits that have it is compared with the reference's. A caller whose callee fails does otherwise too: its change counts
only as far as it goes beyond the share of its visits that called a service which had changed itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.root_cause.logs import Kinds
from ml.root_cause.robust import Floats, Ints, gate
from ml.root_cause.traces import DEEPEST, Visits
from ml.root_cause.types import Evidence, Instrument

_VISITS = 10  # a kind of visit that the reference has fewer of has no usual behaviour
_KEY = ["service", "operation"]


@dataclass(frozen=True, slots=True)
class Acts:
    """Visits and their events. ``visits``: ``service``, ``operation``, ``block``, ``parent`` (row or -1).

    ``events``: ``visit`` (row) and ``event``, each pair once.
    """

    visits: pd.DataFrame
    events: pd.DataFrame


def acts_of(visits: Visits, logs: pd.DataFrame | None, kinds: Kinds | None, block_us: int) -> Acts:
    """Return the acts of whole traces, with the log lines that bear a visit's trace and span."""
    whole = visits.table["whole"].to_numpy()
    begin = visits.table.groupby("trace")["start_us"].transform("min")
    table = visits.table[_KEY].assign(block=begin // block_us, parent=visits.parent)
    events = [visits.events]
    if logs is not None and kinds is not None and len(logs):
        at = visits.visit_of_span.index.get_indexer(pd.MultiIndex.from_frame(logs[["trace", "span"]]))
        events.append(_lines(visits.visit_of_span.to_numpy(np.int64)[at[at >= 0]], logs["text"][at >= 0], kinds))
    every = pd.concat(events, ignore_index=True)
    every = every[whole[every["visit"].to_numpy()]].drop_duplicates(ignore_index=True)
    # What is not whole keeps its row, for the numbers of rows, under a name that has no habits.
    table.loc[~whole, "operation"] = ""
    return Acts(table, every)


def acts_of_lines(logs: pd.DataFrame, kinds: Kinds, block_us: int) -> Acts:
    """Return acts where there are no traces: ten seconds in which a service logged stand for a visit."""
    slices = logs["time_us"] // 10_000_000
    at = logs.groupby([logs["service"], slices]).ngroup().to_numpy(np.int64)
    first = pd.DataFrame({"at": at, "service": logs["service"], "time_us": slices * 10_000_000})
    first = first.drop_duplicates("at").sort_values("at", ignore_index=True)
    visits = first[["service"]].assign(operation="10 seconds", block=first["time_us"] // block_us, parent=-1)
    return Acts(visits, _lines(at, logs["text"], kinds).drop_duplicates(ignore_index=True))


def _lines(visit: Ints, texts: pd.Series, kinds: Kinds) -> pd.DataFrame:
    """Return the events of log lines: the kind of each, and how it begins."""
    code, unique = pd.factorize(texts)
    named = [kinds.of(text) for text in unique]
    both = ([f"log {name}" for name in named], [f"log {' '.join(name.split()[:3])} …" for name in named])
    return pd.concat(
        [pd.DataFrame({"visit": visit, "event": np.asarray(names, dtype=object)[code]}) for names in both],
        ignore_index=True,
    )


@dataclass(frozen=True, slots=True)
class Habits:
    """``visits`` of each kind, and ``share`` and ``dispersion`` of each event of each kind."""

    visits: pd.Series
    shares: pd.DataFrame


def learn(acts: Acts) -> Habits:
    """Learn the usual share of visits that have an event. Blocks of time that stand apart are left out."""
    visits = acts.visits
    key = visits.groupby(_KEY).ngroup().to_numpy(np.int64)
    names = visits[_KEY].drop_duplicates().sort_values(_KEY, ignore_index=True)
    block = np.unique(visits["block"].to_numpy(), return_inverse=True)[1]
    width = int(block.max()) + 1 if len(block) else 1
    size = np.bincount(key * width + block, minlength=len(names) * width).reshape(len(names), width)
    rows = acts.events["visit"].to_numpy(np.int64)
    pair = pd.DataFrame({"key": key[rows], "event": acts.events["event"].to_numpy(object)})
    code = pair.groupby(["key", "event"]).ngroup().to_numpy(np.int64)
    kinds = pair.drop_duplicates().sort_values(["key", "event"], ignore_index=True)
    of = kinds["key"].to_numpy(np.int64)
    having = np.zeros((len(kinds), width))
    np.add.at(having, (code, block[rows]), 1.0)
    share, dispersion = _usual(having, size[of].astype(np.float64))
    shares = names.iloc[of].reset_index(drop=True).assign(event=kinds["event"], share=share, dispersion=dispersion)
    totals = pd.Series(size.sum(axis=1), index=pd.MultiIndex.from_frame(names))
    return Habits(totals, shares.set_index([*_KEY, "event"]))


def _usual(having: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Return the pooled share of each row and its dispersion (1: as chance), without blocks that stand apart."""
    kept = size > 0
    share = np.zeros(len(having))
    apart = np.zeros_like(size)
    for _ in range(4):
        total = np.where(kept, size, 0.0).sum(axis=1)
        share = (np.where(kept, having, 0.0).sum(axis=1) + 0.5) / (total + 1.0)
        p = share[:, None]
        apart = np.divide((having - size * p) ** 2, size * p * (1 - p), where=size > 0, out=np.zeros_like(size))
        kept = (size > 0) & (apart <= 9.0)
        # Where a fifth would go they are no exceptions, and the share varies that much: then all count.
        lost = kept.sum(axis=1) < 0.8 * (size > 0).sum(axis=1)
        kept[lost] = size[lost] > 0
    blocks = kept.sum(axis=1)
    dispersion = np.where(kept, apart, 0.0).sum(axis=1) / np.maximum(blocks - 1, 1)
    return share, np.maximum(dispersion, 1.0)


def changes(habits: Habits, acts: Acts) -> pd.DataFrame:
    """Return how the events of a window differ.

    Columns: ``service``, ``operation``, ``event``, ``visits``, ``before`` and ``after`` (shares of visits), and
    ``weight`` (0 to 1: how far chance is ruled out).
    """
    visits = acts.visits
    count = visits.groupby(_KEY).size()
    count = count[habits.visits.reindex(count.index).fillna(0) >= _VISITS]
    rows = visits.iloc[acts.events["visit"].to_numpy()]
    seen = (
        pd.DataFrame(
            {name: rows[name].to_numpy(object) for name in _KEY} | {"event": acts.events["event"].to_numpy(object)}
        )
        .groupby([*_KEY, "event"])
        .size()
    )
    table = habits.shares.join(seen.rename("having"), how="outer").reset_index()
    at = pd.MultiIndex.from_frame(table[_KEY])
    table["visits"] = count.reindex(at).to_numpy()
    usual = habits.visits.reindex(at).to_numpy(np.float64)
    table = table[np.isfinite(table["visits"])].assign(reference=usual[np.isfinite(table["visits"])])
    n, reference = table["visits"].to_numpy(), table["reference"].to_numpy()
    before = table["share"].fillna(0.0).to_numpy()
    p = np.where(before > 0, before, 0.5 / (reference + 1.0))
    after = table["having"].fillna(0.0).to_numpy() / n
    error = np.sqrt(p * (1 - p) * (1 / n + 1 / reference) * table["dispersion"].fillna(1.0).to_numpy())
    return pd.DataFrame(
        {
            **{name: table[name].to_numpy(object) for name in [*_KEY, "event"]},
            "visits": n,
            "before": before,
            "after": after,
            "weight": gate(np.abs(after - before) / error),
        }
    )


def evidence(found: pd.DataFrame, acts: Acts) -> list[Evidence]:
    """Return evidence for each service whose behaviour changed by itself."""
    if not len(found):
        return []
    found = found.assign(change=np.abs(found["after"] - found["before"]) * found["weight"])
    key = pd.MultiIndex.from_frame(found[_KEY])
    changed = found["change"].groupby(key).max()
    explained = _explained(acts, changed)
    own = np.maximum(found["change"].to_numpy() - explained.reindex(key).fillna(0.0).to_numpy(), 0.0)
    result = []
    for service, rows in found.assign(own=own).groupby("service"):
        row = rows.iloc[int(np.argmax(rows["own"].to_numpy()))]
        if row["own"] > 0:
            result.append(Evidence(str(service), "behaviour", _instrument(row), float(row["own"]), _words(row)))
    return result


def _explained(acts: Acts, changed: pd.Series) -> pd.Series:
    """Return for each kind of visit the share whose change the services below it account for.

    Below, not just called: an error may pass through a service that has nothing left to do, and so shows nothing.
    """
    visits, parent = acts.visits, acts.visits["parent"].to_numpy(np.int64)
    kind = visits.groupby(_KEY).ngroup().to_numpy(np.int64)
    names = visits[_KEY].drop_duplicates().sort_values(_KEY, ignore_index=True)
    own = changed.reindex(pd.MultiIndex.from_frame(names)).fillna(0.0).to_numpy()[kind]
    depth, above = np.zeros(len(parent), dtype=np.int64), parent.copy()
    for _ in range(DEEPEST):
        has = above >= 0
        if not has.any():
            break
        depth[has] += 1
        above[has] = parent[above[has]]
    worst = np.zeros(len(parent))
    for level in range(int(depth.max(initial=0)), 0, -1):
        rows = np.flatnonzero(depth == level)
        np.maximum.at(worst, parent[rows], np.maximum(own, worst)[rows])
    return pd.Series(worst).groupby(kind).mean().set_axis(pd.MultiIndex.from_frame(names))


def _instrument(row: pd.Series) -> Instrument:
    return "logs" if str(row["event"]).startswith("log ") else "traces"


def _words(row: pd.Series) -> str:
    """Say which event changed, and how far."""
    kind, _, what = str(row["event"]).partition(" ")
    noun = {"log": "log line", "step": "step", "call": "call of"}.get(kind, kind)
    return (
        f"of {int(row['visits'])} calls of {row['operation']} {row['after']:.0%} had the {noun} “{what[:100]}”, "
        f"{row['before']:.0%} in the reference"
    )
