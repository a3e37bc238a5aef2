"""A time-out for each step as it begins: prediction, correction and bounds together.

What belongs here: the state of a service that answers for many participants, and its saving and restoring. What does
not: a clock (times are given), threads (one caller at a time), and storage (the state is plain numbers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ml.timeouts.conformal import Rule, Tracking
from ml.timeouts.model import DurationModel, StepFigures, row
from ml.timeouts.recent import Recent

_FORM = 1

Reason = Literal["learned", "unknown participant", "unknown step"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what a time-out lies, and what it is where nothing is known; milliseconds."""

    floor_ms: float = 20.0
    cap_ms: float = 300_000.0
    default_ms: float = 30_000.0

    def __post_init__(self) -> None:
        if not 0 < self.floor_ms <= self.default_ms <= self.cap_ms < math.inf:
            raise ValueError(f"need 0 < floor <= default <= cap: {self.floor_ms}, {self.default_ms}, {self.cap_ms}")


@dataclass(frozen=True, slots=True)
class Advice:
    """A time-out, milliseconds; ``known`` is false where it is the safe default, and ``reason`` says why."""

    timeout_ms: float
    known: bool
    reason: Reason
    bound: Literal["", "floor", "cap"] = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step that begins: its covariates as they are known now."""

    participant: str
    base: float
    covariates: tuple[float, ...]
    #: The participant's 0.99 quantile at its present level, a log duration.
    ceiling: float


@dataclass(frozen=True, slots=True)
class _Open:
    participant: str
    base: float
    top: float
    unit: float


@dataclass(slots=True)
class Advisor:
    """Time-outs for the steps of all participants that the model knows; a correction for each participant.

    A ticket is any number that the caller gives each attempt. Each begun attempt is closed once: ``ended``,
    ``gave_up`` or ``dropped``. What closes later than what began after it changes only what begins thereafter.
    """

    model: DurationModel
    figures: Mapping[tuple[str, str], StepFigures]
    bounds: Bounds = field(default_factory=Bounds)
    rule: Callable[[], Rule] = Tracking
    span: float = 32.0
    #: How far, in logs, a predicted quantile may lie above its participant's at the present level. The promise is kept
    #: for each participant, not each context: waiting long in a few contexts of heavy tail costs more than it saves.
    slack: float = -0.3
    recent: dict[str, Recent] = field(init=False)
    rules: dict[str, Rule] = field(init=False)
    _open: dict[int, _Open] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        participants = sorted({participant for participant, _ in self.figures})
        self.recent = {name: Recent(span=self.span) for name in participants}
        self.rules = {name: self.rule() for name in participants}

    def advise(self, ticket: int, participant: str, step: str, at: float) -> Advice:
        """Return the time-out of a step that begins at time ``at`` (seconds), and remember that it began."""
        prepared = self.prepare(ticket, participant, step, at)
        if prepared is None:
            return self.default(participant)
        one = self.model.predict(np.array([prepared.covariates]), np.array([prepared.base]))
        return self.decide(ticket, prepared, float(one.top[0]), float(one.unit[0]))

    def default(self, participant: str) -> Advice:
        """Return the safe default for what the model does not know; it is not tracked."""
        reason: Reason = "unknown step" if participant in self.recent else "unknown participant"
        return Advice(self.bounds.default_ms, False, reason)

    def prepare(self, ticket: int, participant: str, step: str, at: float) -> Prepared | None:
        """Return a step's covariates at its start and count it as begun; None where the model does not know it.

        With ``decide`` this is ``advise`` in two parts, so that a caller can predict many steps at once.
        """
        if ticket in self._open:
            raise ValueError(f"ticket {ticket} is open already: each attempt needs its own")
        figures = self.figures.get((participant, step))
        if figures is None:
            return None
        recent = self.recent[participant]
        covariates, recent_level = row(figures, recent.covariates(at)), recent.level
        recent.started(ticket, at, figures.median)
        self._open[ticket] = _Open(participant, figures.median, 0.0, 1.0)
        return Prepared(
            participant, figures.median, covariates, figures.ceiling + max(recent_level - figures.usual, 0.0)
        )

    def decide(self, ticket: int, prepared: Prepared, top: float, unit: float) -> Advice:
        """Return the time-out of a prepared step from its predicted log quantile and the unit of its tail."""
        top = min(top, prepared.ceiling + self.slack)
        self._open[ticket] = _Open(prepared.participant, prepared.base, top, unit)
        log_ms = top + unit * self.rules[prepared.participant].threshold()
        ms = math.exp(min(log_ms, math.log(self.bounds.cap_ms)))
        if ms < self.bounds.floor_ms:
            return Advice(self.bounds.floor_ms, True, "learned", "floor")
        return Advice(ms, True, "learned", "cap" if log_ms >= math.log(self.bounds.cap_ms) else "")

    def ended(self, ticket: int, ms: float) -> None:
        """Close an attempt that ended after ``ms``. Unknown tickets are ignored: a default was given for them."""
        self._close(ticket, ms, cut=False)

    def gave_up(self, ticket: int, ms: float) -> None:
        """Close an attempt that was given up after ``ms``: it counts as an error, though it may have been a hang."""
        self._close(ticket, ms, cut=True)

    def dropped(self, ticket: int) -> None:
        """Close an attempt that tells nothing about durations: it failed at once, or its caller went away."""
        if (one := self._open.pop(ticket, None)) is not None:
            self.recent[one.participant].under_way.pop(ticket, None)

    def _close(self, ticket: int, ms: float, *, cut: bool) -> None:
        if not (math.isfinite(ms) and ms >= 0):
            raise ValueError(f"a duration is a number of milliseconds, at least 0: {ms}")
        one = self._open.pop(ticket, None)
        if one is None:
            return
        log_ms = math.log(max(ms, 1e-3))
        self.recent[one.participant].closed(ticket, log_ms - one.base)
        self.rules[one.participant].outcome((log_ms - one.top) / one.unit, cut)

    def save(self) -> dict[str, Any]:
        """Return the whole state but the model as plain numbers, strings, lists and dicts: JSON takes it."""
        return {
            "form": _FORM,
            "rule": type(self.rule()).__name__,
            "recent": {name: recent.save() for name, recent in self.recent.items()},
            "rules": {name: rule.save() for name, rule in self.rules.items()},
            "open": [[t, one.participant, one.base, one.top, one.unit] for t, one in self._open.items()],
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take a saved state. Participants that the model no longer knows are left out, new ones start afresh."""
        rule = type(self.rule()).__name__
        if (saved.get("form"), saved.get("rule")) != (_FORM, rule):
            raise ValueError(f"state of form {saved.get('form')} for {saved.get('rule')}; this is {_FORM} for {rule}")
        recent = {name: Recent.restore(saved["recent"][name]) for name in self.recent if name in saved["recent"]}
        for name in self.rules:
            if name in saved["rules"]:
                self.rules[name].load(saved["rules"][name])
        self.recent |= recent
        self._open = {
            int(ticket): _Open(str(name), float(base), float(top), float(unit))
            for ticket, name, base, top, unit in saved["open"]
            if name in self.recent
        }
