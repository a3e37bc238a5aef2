"""What a participant looked like lately, known at a step's start: the only covariates that move.

What belongs here: running figures of one participant, updated in constant time and saved as plain numbers. What does
not: what they predict (``ml.timeouts.model``).

A step counts when it has ended or was given up, never before. A given-up step counts with the time that it was waited
for, but not as much slower than those that ended lately: in a brown-out those that end are slow too, while hangs would
lengthen each other's time-outs without end. A step under way counts with its age, which is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Steps under way whose age is looked at, the oldest ones: bounds what a start costs in a pile-up.
_MOST_AGES = 16
_MINUTE = 60.0
#: How far (in logs) a given-up step counts beyond those that ended lately, and what of these is slower than ever.
_MOST_BEYOND, _MUCH_SLOWER = 2.0, 0.5
#: Five given up among the last 32, and nearly all of them.
_MANY_CUT, _ALL_CUT = 0.15, 0.9


@dataclass(slots=True)
class Recent:
    """Running figures of one participant. A residual is a log duration less its step's median log duration."""

    #: Steps over which the level is averaged (exponentially); the slow one and the spread take eight times as many.
    span: float = 32.0
    level: float = 0.0
    slow: float = 0.0
    spread: float = 0.3
    last: float = 0.0
    #: Level of those that ended, over a quarter of the span.
    answered: float = 0.0
    #: Share of given-up steps, averaged as the level is.
    cutting: float = 0.0
    arrivals: float = 0.0
    arrived_at: float = -math.inf
    #: Steps under way: when each began and its step's median log duration, oldest first.
    under_way: dict[int, tuple[float, float]] = field(default_factory=dict)

    def started(self, ticket: int, at: float, base: float) -> None:
        """Note that a step began; ``base`` is its step's median log duration."""
        self.arrivals = self._arrivals_at(at) + 1.0
        self.arrived_at = max(at, self.arrived_at)
        self.under_way[ticket] = (at, base)

    def closed(self, ticket: int, residual: float, *, cut: bool) -> None:
        """Note that a step ended or was given up (``cut``) after a log duration of ``residual`` over its median."""
        self.under_way.pop(ticket, None)
        quick = 1.0 / self.span
        self.cutting += (float(cut) - self.cutting) * quick
        if cut:
            residual = min(residual, self.answered + _MOST_BEYOND)
        else:
            self.answered += (residual - self.answered) * min(4 * quick, 1.0)
        self.last = residual
        self.spread += (abs(residual - self.level) - self.spread) * quick / 8
        self.level += (residual - self.level) * quick
        self.slow += (residual - self.slow) * quick / 8

    def hanging(self) -> bool:
        """Return whether many steps are given up while those that end are as fast as ever: they hang.

        Where nearly all are given up, hangs cannot be told from a brown-out, and this is false.
        """
        return _MANY_CUT < self.cutting < _ALL_CUT and self.answered < self.slow + _MUCH_SLOWER

    def covariates(self, at: float, load: float | None = None) -> tuple[float, ...]:
        """Return the figures of ``COVARIATES`` as they are at time ``at``.

        ``load`` is the number of requests in flight as the participant or its caller tells it; without it, the steps
        under way here are counted.
        """
        oldest = 0.0
        for count, (began, base) in enumerate(self.under_way.values()):
            if count == _MOST_AGES:
                break
            age = at - began
            if age > 0.0:
                oldest = max(oldest, math.log(age * 1000.0) - base - self.level)
        return (
            self.level,
            self.slow - self.level,
            self.last - self.level,
            self.spread,
            oldest,
            float(len(self.under_way)) if load is None else load,
            math.log1p(self._arrivals_at(at)),
        )

    def _arrivals_at(self, at: float) -> float:
        """Return the arrivals of the last minute, each weighed by how recent it is."""
        return self.arrivals * math.exp(-max(at - self.arrived_at, 0.0) / _MINUTE) if self.arrivals else 0.0

    def save(self) -> dict[str, Any]:
        """Return the state as plain numbers, steps under way included."""
        return {
            "span": self.span,
            "level": self.level,
            "slow": self.slow,
            "spread": self.spread,
            "last": self.last,
            "answered": self.answered,
            "cutting": self.cutting,
            "arrivals": self.arrivals,
            "arrived_at": self.arrived_at if self.arrivals else None,
            "under_way": [[ticket, at, base] for ticket, (at, base) in self.under_way.items()],
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Recent:
        """Return what ``save`` saved."""
        figures = {
            name: float(saved[name])
            for name in ("span", "level", "slow", "spread", "last", "answered", "cutting", "arrivals")
        }
        at = saved["arrived_at"]
        under_way = {int(ticket): (float(began), float(base)) for ticket, began, base in saved["under_way"]}
        return cls(**figures, arrived_at=-math.inf if at is None else float(at), under_way=under_way)


#: Names of ``Recent.covariates``, in order.
COVARIATES = ("level", "slow", "last", "spread", "oldest", "concurrent", "arrivals")
