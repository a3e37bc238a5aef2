"""What the past teaches: figures of each step, the model of tails, and the price that each participant starts at.

What belongs here: playing past steps through, in the order in which they happened. What does not: where they are read
from, and the state of a service that runs (``ml.timeouts.advisor``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ml.quantiles import Floats, observed_quantile
from ml.timeouts.model import LEVEL, DurationModel, StepFigures, log_ms, row, step_figures, with_usual
from ml.timeouts.price import offer
from ml.timeouts.recent import Recent

#: In the past a step that never ended was waited for this many times its participant's p99.
_PATIENCE = 30.0
SPAN = 32.0
#: Rounding must not cut a step whose duration never varies.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class History:
    """Past steps in order of their starts (seconds); ``ms`` is infinite where a step never ended.

    ``load`` is each step's requests in flight at the participant where that is known; without it, steps under way are
    counted. A step's own figures come from histories that are ``calm``: without a known fault.
    """

    participant: Sequence[str]
    step: Sequence[str]
    start: Floats
    ms: Floats
    load: Floats | None = None
    calm: bool = True

    def __post_init__(self) -> None:
        if len({len(self.participant), len(self.step), len(self.start), len(self.ms)}) > 1:
            raise ValueError("a history's columns differ in length")
        if np.isnan(self.ms).any() or (self.ms < 0).any() or not np.isfinite(self.start).all():
            raise ValueError("a history needs finite starts and durations of at least 0, infinite where a step hung")
        if (np.diff(self.start) < 0).any():
            raise ValueError("a history's steps must be in order of their starts")


@dataclass(frozen=True, slots=True)
class Learned:
    """What an advisor needs of the past. ``start`` is each participant's first log price."""

    model: DurationModel
    figures: Mapping[tuple[str, str], StepFigures]
    start: Mapping[str, float]
    span: float = SPAN

    def save(self) -> dict[str, Any]:
        """Return all as plain numbers, strings, lists and dicts: JSON takes it."""
        figures = [[*key, asdict(own)] for key, own in self.figures.items()]
        return {"model": self.model.save(), "figures": figures, "start": dict(self.start), "span": self.span}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Learned:
        """Return what ``save`` saved."""
        figures = {(name, step): StepFigures(**own) for name, step, own in saved["figures"]}
        return cls(DurationModel.restore(saved["model"]), figures, dict(saved["start"]), float(saved["span"]))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Steps as they were known at their starts."""

    participant: list[str]
    covariates: Floats
    base: Floats
    ms: Floats


def learn(
    histories: Sequence[History], model: DurationModel | None = None, *, span: float = SPAN, target: float = 0.01
) -> Learned:
    """Learn from past steps; ``target`` is the share of false time-outs that the first prices are set to."""
    calm = [one for one in histories if one.calm] or list(histories)
    ended = [np.isfinite(one.ms) for one in calm]
    figures: dict[tuple[str, str], StepFigures] = step_figures(
        # Plain strings: they become keys of what is saved as JSON.
        [name for one, known in zip(calm, ended, strict=True) for name in np.asarray(one.participant)[known].tolist()],
        [step for one, known in zip(calm, ended, strict=True) for step in np.asarray(one.step)[known].tolist()],
        np.concatenate([one.ms[known] for one, known in zip(calm, ended, strict=True)] or [np.zeros(0)]),
    )
    most = {name: _PATIENCE * float(np.exp(own.scale)) for (name, _), own in figures.items()}
    played = [_play(one, figures, most, span) for one in histories]
    model = (model or DurationModel()).fit(
        np.concatenate([rows.covariates for rows in played]),
        np.concatenate([rows.ms for rows in played]),
        np.concatenate([rows.base for rows in played]),
    )
    quiet = [rows for one, rows in zip(histories, played, strict=True) if one.calm] or played
    figures = with_usual(
        figures,
        [name for rows in quiet for name in rows.participant],
        np.concatenate([rows.covariates[:, LEVEL] for rows in quiet]),
    )
    return Learned(model, figures, _first_prices(model, figures, quiet, target), span)


def scale_of(figures: StepFigures, level: float) -> float:
    """Return the log duration in which a participant's waiting is counted: its p99, and what is added to it now."""
    return figures.scale + max(level - figures.usual, 0.0)


def _play(
    history: History, figures: Mapping[tuple[str, str], StepFigures], most: Mapping[str, float], span: float
) -> _Rows:
    """Return a history's rows as they would have been seen: a duration is known when its step has ended."""
    recent = {name: Recent(span=span) for name in most}
    pending: list[tuple[float, int]] = []
    names: list[str] = []
    rows: list[tuple[float, ...]] = []
    base: list[float] = []
    waited: list[float] = []
    for i, (name, own, at, load, ms) in enumerate(_steps(history, figures, most)):
        while pending and pending[0][0] <= at:
            _, done = heapq.heappop(pending)
            residual = float(np.log(max(waited[done], 1e-3))) - base[done]
            recent[names[done]].closed(done, residual, cut=waited[done] >= most[names[done]])
        covariates = row(own, recent[name].covariates(at, load))
        recent[name].started(i, at, own.median)
        names.append(name)
        rows.append(covariates)
        base.append(own.median)
        waited.append(ms)
        heapq.heappush(pending, (at + ms / 1000.0, i))
    return _Rows(names, np.array(rows, dtype=np.float64), np.array(base), np.array(waited))


def _steps(
    history: History, figures: Mapping[tuple[str, str], StepFigures], most: Mapping[str, float]
) -> Iterator[tuple[str, StepFigures, float, float | None, float]]:
    loads: list[float | None] = [None] * len(history.ms) if history.load is None else list(history.load)
    columns = zip(history.participant, history.step, history.start.tolist(), loads, history.ms.tolist(), strict=True)
    for name, step, at, load, ms in columns:
        if (own := figures.get((name, step))) is not None:
            yield name, own, at, load, min(ms, most[name])


def _first_prices(
    model: DurationModel, figures: Mapping[tuple[str, str], StepFigures], played: Sequence[_Rows], target: float
) -> dict[str, float]:
    """Return the log price at which a share ``target`` of each participant's past steps would have been cut."""
    by_name = {name: own for (name, _), own in figures.items()}
    scores: dict[str, list[float]] = {}
    for rows in played:
        tails = model.tails(rows.covariates, rows.base)
        levels, logs = rows.covariates[:, LEVEL].tolist(), log_ms(rows.ms).tolist()
        for name, tail, level, log in zip(rows.participant, tails, levels, logs, strict=True):
            scores.setdefault(name, []).append(offer(tail, scale_of(by_name[name], level)).price(log))
    prices = {name: observed_quantile(np.array(own), 1.0 - target) + _ROUNDING for name, own in scores.items()}
    usual = float(np.median(list(prices.values())))
    return {name: prices.get(name, usual) for name in by_name}
