"""The ranking: every source of evidence that there is, put together per service.

What belongs here: what is learned from a reference, and a window's ranking against it. What does not: any one source
of evidence (``slowness``, ``behaviour``, ``consumption``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import pandas as pd

from ml.root_cause import behaviour, consumption, slowness
from ml.root_cause.logs import Kinds
from ml.root_cause.traces import visits_of
from ml.root_cause.types import Blame, Evidence, Instrument, NothingToRank, Observed, Ranking

#: Blocks of the reference's time: of traces and lines, and of metrics, which have a value a minute or so.
_BLOCK_US, _METRIC_BLOCK_US = 60_000_000, 180_000_000


@dataclass(frozen=True, slots=True)
class Reference:
    """What is usual, as far as a reference showed it; what it showed nothing of is None."""

    time: slowness.Usual | None = None
    habits: behaviour.Habits | None = None
    lines: behaviour.Habits | None = None
    kinds: Kinds | None = None
    ways: slowness.Usual | None = None
    levels: consumption.Levels | None = None
    callees: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def beside(self, other: Reference) -> Reference:
        """Return both, ``other`` first: one of traces may stand beside one of metrics that is nearer in time."""
        theirs = {name.name: getattr(other, name.name) for name in fields(other)}
        return replace(self, **{name: value for name, value in theirs.items() if value})


def learn(observed: Observed) -> Reference:
    """Learn what is usual from a time without a fault, or with few."""
    spans, logs, metrics, links = (_some(f) for f in (observed.spans, observed.logs, observed.metrics, observed.links))
    kinds = Kinds.learn(logs["text"]) if logs is not None else None
    time = habits = lines = ways = levels = None
    callees: dict[str, set[str]] = defaultdict(set)
    if spans is not None:
        visits = visits_of(spans)
        acts = behaviour.acts_of(visits, logs, kinds, _BLOCK_US)
        time = slowness.learn(visits.parts, acts.visits["block"].to_numpy()[visits.parts["visit"].to_numpy()])
        habits = behaviour.learn(acts)
        names = visits.table["service"].to_numpy(object)
        called = visits.parent >= 0
        for caller, callee in set(zip(names[visits.parent[called]], names[called], strict=True)):
            callees[caller].add(callee)
    if logs is not None and kinds is not None and "time_us" in logs:
        lines = behaviour.learn(behaviour.acts_of_lines(logs, kinds, _BLOCK_US))
    if links is not None:
        parts = slowness.parts_of(links)
        ways = slowness.learn(parts, (parts["time_us"] // _METRIC_BLOCK_US).to_numpy())
        for caller, callee in links[["source", "target"]].drop_duplicates().itertuples(index=False):
            callees[caller].add(callee)
    if metrics is not None and observed.kinds:
        levels = consumption.learn(metrics, observed.kinds, _METRIC_BLOCK_US)
    graph = {caller: frozenset(called) for caller, called in callees.items()}
    return Reference(time, habits, lines, kinds, ways, levels, graph)


def rank(window: Observed, reference: Reference) -> Ranking:
    """Rank all services seen in the window by how much they are to blame for what is unusual about it.

    Raises :class:`NothingToRank` where no source has both a window and a reference.
    """
    spans, logs, metrics, links = (_some(frame) for frame in (window.spans, window.logs, window.metrics, window.links))
    found: list[Evidence] = []
    seen: dict[Instrument, set[str]] = {}
    if spans is not None and reference.time is not None and reference.habits is not None:
        visits = visits_of(spans)
        seen["traces"] = set(visits.table["service"])
        added = slowness.added(reference.time, visits.parts)
        found += slowness.evidence(added, slowness.spent_on(visits), "traces")
        acts = behaviour.acts_of(visits, logs, reference.kinds, _BLOCK_US)
        found += behaviour.evidence(behaviour.changes(reference.habits, acts), acts)
        if logs is not None and reference.kinds is not None:
            seen["logs"] = set(logs["service"])
    elif logs is not None and reference.lines is not None and reference.kinds is not None and "time_us" in logs:
        acts = behaviour.acts_of_lines(logs, reference.kinds, _BLOCK_US)
        seen["logs"] = set(acts.visits["service"])
        found += behaviour.evidence(behaviour.changes(reference.lines, acts), acts)
    if links is not None and reference.ways is not None:
        seen["links"] = set(links["source"]) | set(links["target"])
        added = slowness.added(reference.ways, slowness.parts_of(links))
        found += slowness.evidence(added, slowness.spent_by_links(links), "links")
    if metrics is not None and reference.levels is not None:
        rises = consumption.rises(reference.levels, metrics, window.kinds)
        rest = consumption.evidence(rises, window.kinds, reference.callees)
        # Latencies that a metric has of a service in all say less than traces or links, and say it again.
        found += [one for one in rest if one.family == "use" or not {"traces", "links"} & seen.keys()]
        seen["metrics"] = set(metrics["service"])
    if not seen:
        raise NothingToRank("no traces, logs, links or metrics that both the window and the reference have")
    return Ranking(_blames(found, seen), tuple(seen))


def _blames(found: list[Evidence], seen: Mapping[Instrument, set[str]]) -> tuple[Blame, ...]:
    """Return the services by score: one minus the product over families of one minus the family's strength."""
    by_service: dict[str, list[Evidence]] = {service: [] for services in seen.values() for service in services}
    for one in sorted(found, key=lambda e: -e.strength):
        by_service.setdefault(one.service, []).append(one)
    result = []
    for service, evidence in by_service.items():
        doubt = 1.0
        for family in ("time", "behaviour", "use"):
            doubt *= 1.0 - _strength([one for one in evidence if one.family == family], service, seen)
        result.append(Blame(service, 1.0 - doubt, tuple(evidence)))
    return tuple(sorted(result, key=lambda blame: (-blame.score, blame.service)))


def _strength(evidence: list[Evidence], service: str, seen: Mapping[Instrument, set[str]]) -> float:
    """Return the strength of a family's evidence. Traces and links measure the same times, so their mean counts."""
    if not evidence:
        return 0.0
    if evidence[0].family != "time":
        return max(one.strength for one in evidence)
    instruments = {one.instrument for one in evidence}
    two: tuple[Instrument, Instrument] = ("traces", "links")
    instruments |= {name for name in two if name in seen and service in seen[name]}
    return sum(one.strength for one in evidence) / len(instruments)


def _some(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the frame where it has rows."""
    return frame if frame is not None and len(frame) else None
