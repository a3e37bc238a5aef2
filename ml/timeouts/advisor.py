"""A time-out for each step as it begins: tail, price, correction and bounds together.

What belongs here: the state of a service that answers for many participants, and its saving and restoring. What does
not: a clock (times are given), threads (one caller at a time), and storage (the state is plain numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ml.timeouts.conformal import OWN_RATE, POOLED_RATE, Tracking
from ml.timeouts.learning import Learned, scale_of
from ml.timeouts.model import LEVEL, row
from ml.timeouts.price import Tail, offer
from ml.timeouts.recent import Recent

_FORM = 2
#: Given-up attempts whose end may still be told; the oldest go first and stay errors.
_MOST_CUT = 10_000

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
    """A step that begins: its covariates now, its step's median and its participant's scale (logs)."""

    participant: str
    base: float
    covariates: tuple[float, ...]
    scale: float


@dataclass(slots=True)
class Advisor:
    """Time-outs for the steps of all participants that were learned.

    A ticket is any number that the caller gives each attempt. Each begun attempt is closed once: ``ended``,
    ``gave_up`` or ``dropped``; of one given up ``never_ended`` may be told later. What closes later than what began
    after it changes only what begins thereafter.
    """

    learned: Learned
    bounds: Bounds = field(default_factory=Bounds)
    target: float = 0.01
    pooled_rate: float = POOLED_RATE
    own_rate: float = OWN_RATE
    correction: Tracking = field(init=False)
    recent: dict[str, Recent] = field(init=False)
    #: Participant and step's median of each open attempt, participant of each that was given up.
    _open: dict[int, tuple[str, float]] = field(init=False, default_factory=dict)
    _cut: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.target < 0.5:
            raise ValueError(f"the share of false time-outs that is aimed at lies between 0 and 0.5: {self.target}")
        self.correction = Tracking(self.learned.start, self.target, self.pooled_rate, self.own_rate)
        participants = sorted({participant for participant, _ in self.learned.figures})
        self.recent = {name: Recent(span=self.learned.span) for name in participants}

    def advise(self, ticket: int, participant: str, step: str, at: float, load: float | None = None) -> Advice:
        """Return the time-out of a step that begins at time ``at`` (seconds), and remember that it began.

        ``load`` is the number of requests in flight at the participant, where the past was learned with it.
        """
        prepared = self.prepare(ticket, participant, step, at, load)
        if prepared is None:
            return self.default(participant)
        return self.decide(prepared, self.learned.model.tail(prepared.covariates, prepared.base))

    def default(self, participant: str) -> Advice:
        """Return the safe default for what was not learned; it is not tracked."""
        reason: Reason = "unknown step" if participant in self.recent else "unknown participant"
        return Advice(self.bounds.default_ms, False, reason)

    def prepare(
        self, ticket: int, participant: str, step: str, at: float, load: float | None = None
    ) -> Prepared | None:
        """Return a step's covariates at its start and count it as begun; None where it was not learned.

        With ``decide`` this is ``advise`` in two parts, so that a caller can predict many steps at once.
        """
        if ticket in self._open or ticket in self._cut:
            raise ValueError(f"ticket {ticket} is in use already: each attempt needs its own")
        figures = self.learned.figures.get((participant, step))
        if figures is None:
            return None
        recent = self.recent[participant]
        covariates = row(figures, recent.covariates(at, load))
        recent.started(ticket, at, figures.median)
        self._open[ticket] = participant, figures.median
        return Prepared(participant, figures.median, covariates, scale_of(figures, covariates[LEVEL]))

    def decide(self, prepared: Prepared, tail: Tail) -> Advice:
        """Return the time-out of a prepared step from its predicted tail."""
        log_ms = offer(tail, prepared.scale).timeout(self.correction.log_price(prepared.participant))
        return self.bounded(log_ms)

    def bounded(self, log_ms: float) -> Advice:
        """Return a learned time-out, given as a log duration, within the bounds."""
        if log_ms >= math.log(self.bounds.cap_ms):
            return Advice(self.bounds.cap_ms, True, "learned", "cap")
        ms = math.exp(log_ms)
        if ms < self.bounds.floor_ms:
            return Advice(self.bounds.floor_ms, True, "learned", "floor")
        return Advice(ms, True, "learned")

    def ended(self, ticket: int, ms: float) -> None:
        """Close an attempt that ended after ``ms``. Unknown tickets are ignored: a default was given for them.

        For one that was given up this is its late answer: it was a false time-out, as it was counted.
        """
        if self._cut.pop(ticket, None) is None:
            self._close(ticket, ms, cut=False)

    def gave_up(self, ticket: int, ms: float) -> None:
        """Close an attempt that was given up after ``ms``.

        It counts as an error, though it may have been a hang, unless much of its participant hangs at present.
        """
        self._close(ticket, ms, cut=True)

    def never_ended(self, ticket: int) -> None:
        """Take back the error of a given-up attempt: it was a hang, as no answer came in any time that is sensible.

        Only a caller that hears late answers can tell, and events of sagas do not say it. Where nobody tells, the
        share of false time-outs settles below its target by the share of hangs.
        """
        if (participant := self._cut.pop(ticket, None)) is not None:
            self.correction.withdraw(participant)

    def dropped(self, ticket: int) -> None:
        """Close an attempt that tells nothing about durations: it failed at once, or its caller went away."""
        if (one := self._open.pop(ticket, None)) is not None:
            self.recent[one[0]].under_way.pop(ticket, None)

    def _close(self, ticket: int, ms: float, *, cut: bool) -> None:
        if not (math.isfinite(ms) and ms >= 0):
            raise ValueError(f"a duration is a number of milliseconds, at least 0: {ms}")
        one = self._open.pop(ticket, None)
        if one is None:
            return
        participant, base = one
        recent = self.recent[participant]
        recent.closed(ticket, math.log(max(ms, 1e-3)) - base, cut=cut)
        if cut and recent.hanging():
            return
        self.correction.outcome(participant, cut)
        if cut:
            self._cut[ticket] = participant
            if len(self._cut) > _MOST_CUT:
                del self._cut[next(iter(self._cut))]

    def save(self) -> dict[str, Any]:
        """Return the whole state but what was learned, as plain numbers, strings, lists and dicts: JSON takes it."""
        return {
            "form": _FORM,
            "recent": {name: recent.save() for name, recent in self.recent.items()},
            "correction": self.correction.save(),
            "open": [[ticket, *one] for ticket, one in self._open.items()],
            "cut": [[ticket, name] for ticket, name in self._cut.items()],
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take a saved state. Participants that are no longer known are left out, new ones start afresh; so does the
        correction where the past was learned anew."""
        if saved.get("form") != _FORM:
            raise ValueError(f"the state is of form {saved.get('form')}; this is {_FORM}")
        recent = {name: Recent.restore(saved["recent"][name]) for name in self.recent if name in saved["recent"]}
        self.recent |= recent
        self.correction.load(saved["correction"])
        self._open = {int(t): (str(name), float(base)) for t, name, base in saved["open"] if name in self.recent}
        self._cut = {int(ticket): str(name) for ticket, name in saved["cut"] if name in self.recent}
