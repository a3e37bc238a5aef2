"""Features in process: the state of a running saga, kept event by event, and the figures that it gives.

What belongs here: the incremental evaluation of what ``spec`` says. What does not: the same in SQL (``sql``). One event
costs some ten microseconds, so that advice can be given while an orchestrator waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ml.sagas.features import ENDED, FeatureSet
from ml.sagas.spec import NAN, Aggregate, Recent, SagaEvent, Where


class RecentEvents:
    """The times of recent events of all sagas of a type, by condition; what no window can reach is forgotten."""

    def __init__(self, features: FeatureSet) -> None:
        self._reach: dict[Where, int] = {}
        for node in features.nodes:
            if isinstance(node, Recent):
                self._reach[node.where] = max(self._reach.get(node.where, 0), node.seconds * 1_000_000)
        self._times: dict[Where, list[int]] = {where: [] for where in self._reach}
        self._shapes: dict[tuple[str, str, str, str], list[Where]] = {}

    def add(self, event: SagaEvent) -> None:
        """Take in an event; events may come out of order within the longest window."""
        shape = (event.kind, event.step, event.status, event.participant)
        matching = self._shapes.get(shape)
        if matching is None:
            matching = self._shapes[shape] = [where for where in self._reach if where.matches(*shape)]
        for where in matching:
            times = self._times[where]
            if not times or times[-1] <= event.us:
                times.append(event.us)
            else:
                insort(times, event.us)
            # Twice the reach: an event may be late by as much, and cutting seldom keeps an addition cheap.
            if len(times) > 256 and times[0] < times[-1] - 4 * self._reach[where]:
                del times[: bisect_left(times, times[-1] - 2 * self._reach[where])]

    def count(self, node: Recent, us: int) -> int:
        """Return how many events fulfilled the node's condition in its window before ``us``."""
        times = self._times[node.where]
        return bisect_left(times, us) - bisect_left(times, us - node.seconds * 1_000_000)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an event of one shape changes: the places of the aggregates that it matches, by kind of update."""

    counts: tuple[int, ...]
    others: tuple[tuple[int, str, str], ...]  # place, how, column


class Layout:
    """A feature set laid out as slots: what to update on which shape of event, what to read for which feature.

    The running aggregates have the first slots, then what looks back, then what looks at other sagas.
    """

    def __init__(self, features: FeatureSet) -> None:
        nodes = features.nodes
        self.running = [node for node in nodes if isinstance(node, Aggregate) and node.how != "lag"]
        self.lags = [node for node in nodes if isinstance(node, Aggregate) and node.how == "lag"]
        self.recents = [node for node in nodes if isinstance(node, Recent)]
        self.start: list[Any] = [0 if node.how in ("count", "sum", "distinct") else None for node in self.running]
        self.start += [None] * (len(self.lags) + len(self.recents))
        self.memory = 1 + max((node.back for node in self.lags), default=0)
        places = {node: place for place, node in enumerate([*self.running, *self.lags, *self.recents])}
        self.reads: list[tuple[Callable[[Any, int, int], Any], Any, int]] = [
            (feature.reader(), "" if feature.is_text else NAN, places[feature.node]) for feature in features.features
        ]
        self._plans: dict[tuple[str, str, str, str], _Plan] = {}

    def plan(self, event: SagaEvent) -> _Plan:
        """Return what an event of this shape changes."""
        shape = (event.kind, event.step, event.status, event.participant)
        plan = self._plans.get(shape)
        if plan is None:
            matching = [(place, node) for place, node in enumerate(self.running) if node.where.matches(*shape)]
            plan = self._plans[shape] = _Plan(
                counts=tuple(place for place, node in matching if node.how == "count"),
                others=tuple((place, node.how, node.column) for place, node in matching if node.how != "count"),
            )
        return plan


class SagaState:
    """One running saga: call :meth:`update` with each event in order, :meth:`values` after any."""

    __slots__ = ("_distinct", "_lags", "_layout", "_slots", "_started", "position", "start_us", "us")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._slots: list[Any] = layout.start.copy()
        self._distinct: dict[int, set[Any]] = {}
        self._lags: list[SagaEvent] = []
        self._started: dict[str, int] = {}
        self.position = 0
        self.start_us = 0
        self.us = 0

    def update(self, event: SagaEvent) -> None:  # noqa: PLR0912
        """Take in the saga's next event, in the order of time, kind and id; endings change nothing."""
        if event.kind not in ("started", "step"):
            return
        work_us = None
        if event.kind == "step":
            if not self.position:
                self.start_us = event.us
            self.position += 1
            self.us = event.us
            self._lags.append(event)
            if len(self._lags) > self._layout.memory:
                del self._lags[0]
            if event.status in ENDED and (begun := self._started.get(event.step)) is not None:
                work_us = event.us - begun
            if event.status == "started":
                self._started[event.step] = event.us
        plan = self._layout.plan(event)
        slots = self._slots
        for place in plan.counts:
            slots[place] += 1
        for place, how, column in plan.others:
            value = work_us if column == "work_us" else getattr(event, column)
            # What is not there: None, an empty text, NaN (which differs from itself).
            if value is None or value == "" or value != value:  # noqa: PLR0124
                continue
            held = slots[place]
            if how == "last" or held is None:
                slots[place] = value
            elif how == "sum":
                slots[place] = held + value
            elif how == "max":
                slots[place] = max(held, value)
            if how == "distinct":
                seen = self._distinct.setdefault(place, set())
                seen.add(value)
                slots[place] = len(seen)

    def values(self, recent: RecentEvents | None = None) -> list[Any]:
        """Return the features' values as of the last step event; categories as texts, missing numbers as NaN."""
        us, start_us, slots, last, place = self.us, self.start_us, self._slots, self._lags, len(self._layout.running)
        for lag in self._layout.lags:
            slots[place] = getattr(last[-1 - lag.back], lag.column) if lag.back < len(last) else None
            place += 1
        for node in self._layout.recents:
            slots[place] = recent.count(node, us) if recent is not None else None
            place += 1
        return [
            missing if (held := slots[at]) is None else read(held, us, start_us)
            for read, missing, at in self._layout.reads
        ]


def prefixes(
    events: Iterable[SagaEvent],
    features: FeatureSet,
    *,
    longest: int | None = None,
    sagas: Container[str] | None = None,
) -> Iterator[tuple[SagaEvent, int, list[Any]]]:
    """Yield each step event with its position (from 1) and the features as of it.

    ``events`` are those of all sagas of one type in order of time, each saga's in its own order. Prefixes of more
    than ``longest`` step events are left out, and those of sagas that are not among ``sagas``; load figures see all.
    """
    layout = Layout(features)
    recent, states = RecentEvents(features), defaultdict[str, SagaState](lambda: SagaState(layout))
    for event in events:
        recent.add(event)
        if sagas is not None and event.saga_id not in sagas:
            continue
        state = states[event.saga_id]
        state.update(event)
        if event.kind == "step" and (longest is None or state.position <= longest):
            # Strictly earlier events only: those of the same microsecond that are yet to come do not count either.
            yield event, state.position, state.values(recent)
