"""Where in its tail a step's time-out lies: where waiting longer no longer pays at the price of a false time-out.

What belongs here: the tail's form and the rule on it. What does not: how a tail is predicted (``ml.timeouts.model``)
and how the price follows what happens (``ml.timeouts.conformal``).

The same 0.99 quantile in every context keeps a share of false time-outs, but not with the least waiting: in a context
with a heavy tail the last half per cent costs seconds, in one with a light tail milliseconds. Let a step in context x
still be under way at t with probability S(t | x), let waiting cost t / scale, and let a false time-out cost a price.
Then the time-out that costs least has S(t) = t / (scale * price * index), where the tail beyond its 0.9 quantile is
Pareto with this index. One price for all contexts of a participant gives its share of false time-outs with the least
mean waiting (Lagrange); the price is what the correction moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_LOG_TENTH = math.log(0.1)


@dataclass(frozen=True, slots=True)
class Tail:
    """A tenth of log durations lie above ``start``; a share 0.1 * exp(-index * u) lies above ``start + u``."""

    start: float
    index: float

    def quantile(self, log_share: float) -> float:
        """Return the log duration that a share (given as its log) lies above."""
        return self.start + (_LOG_TENTH - log_share) / self.index


@dataclass(frozen=True, slots=True)
class Offer:
    """A step's time-outs at all prices: ``at_one + slope * log price``, log durations."""

    at_one: float
    slope: float

    def timeout(self, log_price: float) -> float:
        """Return the log time-out at a price."""
        return self.at_one + self.slope * log_price

    def price(self, log_ms: float) -> float:
        """Return the log price at which the time-out is just ``log_ms``: the conformal score of a duration."""
        return (log_ms - self.at_one) / self.slope


def offer(tail: Tail, scale: float) -> Offer:
    """Return what a step's tail asks at each price. ``scale`` is the log duration that waiting is counted in."""
    slope = 1.0 / (1.0 + tail.index)
    return Offer(slope * (tail.index * tail.start + _LOG_TENTH + scale + math.log(tail.index)), slope)
