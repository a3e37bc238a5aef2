"""Arms of ``timeouts.py`` and the loop that they all run in: step by step, knowing only what has ended by then.

What belongs here: baselines, the loop over streams, and the learning of the past. What does not: streams
(``_timeout_streams``), choosing and reporting (``timeouts``).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks._timeout_streams import Stream
from ml.quantiles import observed_quantile
from ml.timeouts.advisor import Advisor, Bounds, Prepared
from ml.timeouts.conformal import Rule, Window
from ml.timeouts.model import DurationModel, NamedFigures, step_figures, with_usual

Floats = NDArray[np.float64]
#: Durations here are down to a millisecond, so that no bound hides what an arm does.
BOUNDS = Bounds(floor_ms=0.5, cap_ms=120_000.0, default_ms=30_000.0)


class Arm(Protocol):
    """One way to give time-outs."""

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> Prepared | float:
        """Return the time-out (ms) of a step that begins, or what to predict it from."""
        ...

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Take a step's end, or that it was given up."""
        ...


@dataclass
class Static:
    """One time-out for each key, fitted on the past; the key is the participant, or participant and step."""

    table: dict[tuple[str, ...], float]
    by_step: bool = False

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> float:
        """Return the table's entry, the participant's longest for a step that the past had not."""
        if not self.by_step:
            return self.table[participant,]
        if (participant, step) in self.table:
            return self.table[participant, step]
        return max(ms for key, ms in self.table.items() if key[0] == participant)

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Learn nothing."""


@dataclass
class Rolling:
    """The p99 of each participant's last durations; a cut one counts ``factor`` times as long as it was waited for."""

    size: int
    factor: float
    start: dict[str, list[float]]
    windows: dict[str, Window] = field(default_factory=dict)
    whose: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, past in self.start.items():
            self.windows[name] = Window(self.size)
            for ms in past[-self.size :]:
                self.windows[name].add(ms)

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> float:
        """Return the window's p99."""
        self.whose[ticket] = participant
        return min(self.windows[participant].upper(0.01), BOUNDS.cap_ms)

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Take the duration."""
        self.windows[self.whose.pop(ticket)].add(ms * self.factor if cut else ms)


@dataclass
class Advised:
    """Ours: the advisor with any rule."""

    advisor: Advisor

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> Prepared | float:
        """Return what to predict from, or the safe default."""
        return self.advisor.prepare(ticket, participant, step, at) or self.advisor.default(participant).timeout_ms

    def decide(self, ticket: int, prepared: Prepared, top: float, unit: float) -> float:
        """Return the time-out (ms)."""
        return self.advisor.decide(ticket, prepared, top, unit).timeout_ms

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Take a step's end, or that it was given up."""
        if cut:
            self.advisor.gave_up(ticket, ms)
        else:
            self.advisor.ended(ticket, ms)


class Fixed:
    """No correction: the predicted quantile as it is."""

    def threshold(self) -> float:
        """Return the promised quantile's own score."""
        return 0.0

    def outcome(self, score: float, error: bool) -> None:
        """Learn nothing."""

    def save(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def load(self, saved: object) -> None:
        """Take nothing."""


def run(pairs: Sequence[tuple[Stream, Arm]], model: DurationModel | None) -> list[Floats]:
    """Return each pair's time-outs, milliseconds, one a step; pairs go in lockstep so that predictions are batched.

    A step that ends at the very time at which another begins is known to it.
    """
    pending: list[list[tuple[float, int]]] = [[] for _ in pairs]
    timeouts = [np.zeros(len(stream.ms)) for stream, _ in pairs]
    for i in range(max(len(stream.ms) for stream, _ in pairs)):
        waiting: list[tuple[int, Advised, Prepared]] = []
        for which, (stream, arm) in enumerate(pairs):
            if i >= len(stream.ms):
                continue
            at, queue, given = stream.start[i], pending[which], timeouts[which]
            while queue and queue[0][0] <= at:
                _, done = heapq.heappop(queue)
                ms, most = stream.ms[done], given[done]
                arm.close(done, float(min(ms, most)), bool(ms > most))
            answer = arm.prepare(i, stream.participant[i], stream.step[i], float(at))
            if isinstance(answer, Prepared):
                assert isinstance(arm, Advised), "only ours has something predicted"
                waiting.append((which, arm, answer))
            else:
                given[i] = answer
                heapq.heappush(queue, (at + min(stream.ms[i], answer) / 1000.0, i))
        if waiting and model is not None:
            predicted = model.predict(
                np.array([one.covariates for _, _, one in waiting]), np.array([one.base for _, _, one in waiting])
            )
            tops, units = predicted.top.tolist(), predicted.unit.tolist()
            for (which, ours, one), top, unit in zip(waiting, tops, units, strict=True):
                stream = pairs[which][0]
                ms = timeouts[which][i] = ours.decide(i, one, top, unit)
                heapq.heappush(pending[which], (stream.start[i] + min(stream.ms[i], ms) / 1000.0, i))
    return timeouts


@dataclass
class Past:
    """What the past taught: figures and model of ours, tables of the static arms, durations for the rolling one."""

    figures: NamedFigures
    model: DurationModel
    by_participant: dict[tuple[str, ...], float]
    by_step: dict[tuple[str, ...], float]
    last: dict[str, list[float]]
    span: float

    def arm(self, rule: Callable[[], Rule], slack: float = 0.0) -> Advised:
        """Return ours with a rule."""
        return Advised(Advisor(self.model, self.figures, BOUNDS, rule, self.span, slack))


@dataclass
class _Recorder:
    """The past as it was: a generous time-out, every covariate noted."""

    advisor: Advisor
    most: dict[tuple[str, ...], float]
    rows: list[Prepared] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> float:
        if (prepared := self.advisor.prepare(ticket, participant, step, at)) is not None:
            self.rows.append(prepared)
            self.at.append(ticket)
        return self.most[participant,]

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        (self.advisor.gave_up if cut else self.advisor.ended)(ticket, ms)


def learn(streams: dict[str, list[Stream]], span: float, model: DurationModel) -> Past:
    """Learn from past streams by regime. The static p99 come from the calm ones: durations without a fault.

    In the past a step was given up after 30 times its participant's calm p99.
    """
    calm = streams["calm"]
    participant = [name for stream in calm for name in stream.participant]
    step = [name for stream in calm for name in stream.step]
    ms = np.concatenate([stream.ms for stream in calm])
    figures = step_figures(participant, step, ms)
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for name, what, value in zip(participant, step, ms.tolist(), strict=True):
        groups[name,].append(value)
        groups[name, what].append(value)
    p99 = {key: observed_quantile(np.array(own), 0.99) for key, own in groups.items()}
    by_participant: dict[tuple[str, ...], float] = {key: value for key, value in p99.items() if len(key) == 1}
    by_step: dict[tuple[str, ...], float] = {
        key: p99[key] if len(own) >= 100 else p99[key[:1]] for key, own in groups.items() if len(key) == 2
    }
    most = {key: 30 * value for key, value in by_participant.items()}
    everything = [stream for own in streams.values() for stream in own]
    recorders = [_Recorder(Advisor(model, figures, BOUNDS, Fixed, span), most) for _ in everything]
    run(list(zip(everything, recorders, strict=True)), None)
    covariates, base, waited = [], [], []
    for stream, recorder in zip(everything, recorders, strict=True):
        covariates += [one.covariates for one in recorder.rows]
        base += [one.base for one in recorder.rows]
        waited += [min(float(stream.ms[i]), most[stream.participant[i],]) for i in recorder.at]
    model.fit(np.array(covariates), np.array(waited), np.array(base))
    quiet = [
        one
        for stream, recorder in zip(everything, recorders, strict=True)
        if any(stream is own for own in calm)
        for one in recorder.rows
    ]
    figures = with_usual(figures, [one.participant for one in quiet], np.array([one.covariates[3] for one in quiet]))
    last = {key[0]: own for key, own in groups.items() if len(key) == 1}
    return Past(figures, model, by_participant, by_step, last, span)
