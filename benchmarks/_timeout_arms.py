"""Arms of ``timeouts.py`` and the loop that they all run in: step by step, knowing only what has ended by then.

What belongs here: baselines, the loop over streams, and what each arm learns of the past. What does not: streams
(``_timeout_streams``), choosing and reporting (``timeouts``).
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks._timeout_streams import Stream
from ml.quantiles import observed_quantile
from ml.timeouts.advisor import Advisor, Bounds, Prepared
from ml.timeouts.learning import History, Learned, learn
from ml.timeouts.model import DurationModel
from ml.timeouts.price import Tail

Floats = NDArray[np.float64]
TARGET = 0.01
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
class Window:
    """The last durations, sorted beside their order; beyond the largest one p99 goes on in a straight line."""

    size: int
    values: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Take a value, and let the oldest one go where the window is full."""
        if len(self.values) == self.size:
            del self.ordered[bisect_left(self.ordered, self.values.popleft())]
        self.values.append(value)
        insort(self.ordered, value)

    def upper(self, share: float) -> float:
        """Return the value that a share of the window lies above."""
        count = len(self.ordered)
        rank = math.ceil((1.0 - share) * (count + 1)) - 1
        if rank < count:
            return self.ordered[max(rank, 0)]
        return self.ordered[-1] * (1.0 + 0.1 * ((1.0 - share) * (count + 1) - count))


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
        return min(self.windows[participant].upper(TARGET), BOUNDS.cap_ms)

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Take the duration."""
        self.windows[self.whose.pop(ticket)].add(ms * self.factor if cut else ms)


@dataclass
class Advised:
    """Ours. With ``late``, a caller hears late answers and after ``late`` seconds more calls a given-up step hung."""

    advisor: Advisor
    late: float = math.inf

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> Prepared | float:
        """Return what to predict from, or the safe default."""
        return self.advisor.prepare(ticket, participant, step, at) or self.advisor.default(participant).timeout_ms

    def decide(self, prepared: Prepared, tail: Tail) -> float:
        """Return the time-out (ms)."""
        return self.advisor.decide(prepared, tail).timeout_ms

    def close(self, ticket: int, ms: float, cut: bool) -> None:
        """Take a step's end, or that it was given up."""
        (self.advisor.gave_up if cut else self.advisor.ended)(ticket, ms)


@dataclass
class Quantile(Advised):
    """The model's 0.99 quantile in every context, as it is."""

    def decide(self, prepared: Prepared, tail: Tail) -> float:
        """Return the time-out (ms)."""
        return self.advisor.bounded(tail.quantile(math.log(TARGET))).timeout_ms


def run(pairs: Sequence[tuple[Stream, Arm]], model: DurationModel) -> list[Floats]:
    """Return each pair's time-outs, milliseconds, one a step; pairs go in lockstep so that predictions are batched.

    A step that ends at the very time at which another begins is known to it.
    """
    pending: list[list[tuple[float, int, bool]]] = [[] for _ in pairs]
    timeouts = [np.zeros(len(stream.ms)) for stream, _ in pairs]
    for i in range(max(len(stream.ms) for stream, _ in pairs)):
        waiting: list[tuple[int, Advised, Prepared]] = []
        for which, (stream, arm) in enumerate(pairs):
            if i >= len(stream.ms):
                continue
            at, given = stream.start[i], timeouts[which]
            _tell(pending[which], stream, arm, given, float(at))
            answer = arm.prepare(i, stream.participant[i], stream.step[i], float(at))
            if isinstance(answer, Prepared):
                assert isinstance(arm, Advised), "only ours has something predicted"
                waiting.append((which, arm, answer))
            else:
                given[i] = answer
                heapq.heappush(pending[which], (at + min(stream.ms[i], answer) / 1000.0, i, False))
        if waiting:
            tails = model.tails(
                np.array([one.covariates for _, _, one in waiting]), np.array([one.base for _, _, one in waiting])
            )
            for (which, ours, one), tail in zip(waiting, tails, strict=True):
                stream = pairs[which][0]
                ms = timeouts[which][i] = ours.decide(one, tail)
                heapq.heappush(pending[which], (stream.start[i] + min(stream.ms[i], ms) / 1000.0, i, False))
    return timeouts


def _tell(queue: list[tuple[float, int, bool]], stream: Stream, arm: Arm, given: Floats, at: float) -> None:
    """Tell an arm what has ended or was given up by now, and which of the given-up ones are taken for hung."""
    while queue and queue[0][0] <= at:
        when, done, again = heapq.heappop(queue)
        ms, most = float(stream.ms[done]), float(given[done])
        if again and isinstance(arm, Advised):
            if stream.start[done] + ms / 1000.0 > when:
                arm.advisor.never_ended(done)
            continue
        arm.close(done, min(ms, most), ms > most)
        if ms > most and isinstance(arm, Advised) and arm.late < math.inf:
            heapq.heappush(queue, (when + arm.late, done, True))


@dataclass
class Past:
    """What the past taught: ours, tables of the static arms, durations for the rolling one."""

    learned: Learned
    by_participant: dict[tuple[str, ...], float]
    by_step: dict[tuple[str, ...], float]
    last: dict[str, list[float]]

    def arm(self, pooled: float, own: float) -> Advised:
        """Return ours with its two rates."""
        return Advised(Advisor(self.learned, BOUNDS, TARGET, pooled, own))

    def quantile(self) -> Quantile:
        """Return the quantiles as they are."""
        return Quantile(self.arm(0.0, 0.0).advisor)


def taught(streams: dict[str, list[Stream]], model: DurationModel) -> Past:
    """Learn from past streams by regime. The static p99 come from the calm ones: durations without a fault."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for stream in streams["calm"]:
        for name, what, value in zip(stream.participant, stream.step, stream.ms.tolist(), strict=True):
            groups[name,].append(value)
            groups[name, what].append(value)
    p99 = {key: observed_quantile(np.array(own), 1.0 - TARGET) for key, own in groups.items()}
    by_participant: dict[tuple[str, ...], float] = {key: value for key, value in p99.items() if len(key) == 1}
    by_step: dict[tuple[str, ...], float] = {
        key: p99[key] if len(own) >= 100 else p99[key[:1]] for key, own in groups.items() if len(key) == 2
    }
    histories = [
        History(one.participant, one.step, one.start, one.ms, calm=regime == "calm")
        for regime, own in streams.items()
        for one in own
    ]
    last = {key[0]: own for key, own in groups.items() if len(key) == 1}
    return Past(learn(histories, model, target=TARGET), by_participant, by_step, last)
