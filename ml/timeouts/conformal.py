"""Online corrections of a quantile, so that the share of observations above it comes to its target under drift.

What belongs here: the rules, each for one stream of outcomes, with their state as plain numbers. What does not: what is
predicted (``ml.timeouts.model``) and whose stream it is (``ml.timeouts.advisor``).

An observation is a score: how far a log duration lies above its predicted 0.99 quantile, in units of the distance
between the predicted 0.9 and 0.99 quantiles, so that 0 is that quantile. A rule gives the threshold for the next one.
An outcome may come any time later and in any order; a score that was cut at its threshold is known from below only,
and counts as an error.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Thresholds are held here: below, a usual step would be cut; above, the error is the model's, not the quantile's.
LOWEST, HIGHEST = -1.5, 4.0


class Rule(Protocol):
    """A correction of one stream."""

    def threshold(self) -> float:
        """Return the threshold of the next observation, in scores."""
        ...

    def outcome(self, score: float, error: bool) -> None:
        """Take an outcome: its score, or where it was cut if it was an ``error``."""
        ...

    def save(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        ...

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the state that ``save`` returned."""
        ...


@dataclass(slots=True)
class Tracking:
    """Quantile tracking, the P of conformal PID (Angelopoulos, Candès, Tibshirani 2023), with its I where asked for.

    ``rate`` is what an error adds in scores; each success takes ``rate * target``. Whatever the stream, the share of
    errors after n outcomes is within (HIGHEST - LOWEST + rate) / (rate * n) of the target as long as no bound is met.
    The sum is over outcomes in the order in which they come, so a delay moves corrections but loses none. What lies
    beyond a bound is lost on purpose: an outage in which every step is cut must not be paid back for hours.
    """

    target: float = 0.01
    rate: float = 0.05
    #: Steps shrink with the number of outcomes n as n ** -decay, down to ``least``, and with them the noise.
    decay: float = 0.0
    least: float = 0.02
    seen: int = 0
    #: Strength of the error integrator, in scores; 0 is none.
    integral: float = 0.0
    #: Errors in excess at which the integrator saturates.
    saturation: float = 10.0
    value: float = 0.0
    excess: float = 0.0

    def threshold(self) -> float:
        """Return the threshold of the next observation, in scores."""
        added = 0.0
        if self.integral:
            added = self.integral * math.tan(max(-1.5, min(1.5, self.excess / self.saturation)))
        return min(max(self.value + added, LOWEST), HIGHEST)

    def outcome(self, score: float, error: bool) -> None:
        """Take an outcome; only whether it was an error counts."""
        gradient = float(error) - self.target
        self.seen += 1
        rate = max(self.rate * self.seen**-self.decay, self.least) if self.decay else self.rate
        self.value = min(max(self.value + rate * gradient, LOWEST), HIGHEST)
        if self.integral:
            self.excess = min(max(self.excess + gradient, -1.5 * self.saturation), 1.5 * self.saturation)

    def save(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"value": self.value, "excess": self.excess, "seen": self.seen}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the state that ``save`` returned."""
        self.value, self.excess, self.seen = float(saved["value"]), float(saved["excess"]), int(saved["seen"])


@dataclass(slots=True)
class Window:
    """The last scores, sorted beside their order; beyond the largest one thresholds go on in a straight line."""

    size: int
    scores: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)

    def add(self, score: float) -> None:
        """Take a score, and let the oldest one go where the window is full."""
        if len(self.scores) == self.size:
            del self.ordered[bisect_left(self.ordered, self.scores.popleft())]
        self.scores.append(score)
        insort(self.ordered, score)

    def upper(self, alpha: float) -> float:
        """Return the score that a share ``alpha`` of the window lies above; any real ``alpha``."""
        count = len(self.ordered)
        if not count:
            return 0.0
        rank = math.ceil((1.0 - alpha) * (count + 1)) - 1
        if rank < count:
            return self.ordered[max(rank, 0)]
        return self.ordered[-1] + 0.1 * ((1.0 - alpha) * (count + 1) - count)

    def above(self, score: float) -> float:
        """Return the share of the window that is at least ``score``."""
        count = len(self.ordered)
        return (count - bisect_left(self.ordered, score)) / count if count else 1.0


@dataclass(slots=True)
class Adaptive:
    """Adaptive conformal inference: one step size (Gibbs and Candès 2021), or several as experts (DtACI, 2024).

    Experts are weighed by the pinball loss at the level at which the outcome would just have been covered. A cut
    score lies above what can be told, so that level counts as 0 there.
    """

    target: float = 0.01
    rates: tuple[float, ...] = (0.005,)
    size: int = 500
    #: Share of weight that is dealt out anew at each outcome, and strength of the weighing.
    mixing: float = 0.002
    sharpness: float = 50.0
    window: Window = field(init=False)
    alphas: list[float] = field(init=False)
    weights: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.window = Window(self.size)
        self.alphas = [self.target] * len(self.rates)
        self.weights = [1.0 / len(self.rates)] * len(self.rates)

    def threshold(self) -> float:
        """Return the threshold of the next observation, in scores."""
        alpha = sum(weight * alpha for weight, alpha in zip(self.weights, self.alphas, strict=True))
        return min(max(self.window.upper(alpha), LOWEST), HIGHEST)

    def outcome(self, score: float, error: bool) -> None:
        """Take an outcome."""
        if len(self.rates) == 1:
            self.alphas[0] += self.rates[0] * (self.target - float(error))
        else:
            level = 0.0 if error else self.window.above(score)
            losses = [self.target * (level - a) - min(0.0, level - a) for a in self.alphas]
            raw = [w * math.exp(-self.sharpness * x) for w, x in zip(self.weights, losses, strict=True)]
            total = sum(raw)
            self.weights = [(1 - self.mixing) * x / total + self.mixing / len(raw) for x in raw]
            self.alphas = [
                a + rate * (self.target - float(a > level)) for a, rate in zip(self.alphas, self.rates, strict=True)
            ]
        self.alphas = [min(max(a, -0.2), 0.5) for a in self.alphas]
        self.window.add(score)

    def save(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"alphas": list(self.alphas), "weights": list(self.weights), "scores": list(self.window.scores)}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the state that ``save`` returned."""
        self.alphas, self.weights = [float(a) for a in saved["alphas"]], [float(w) for w in saved["weights"]]
        self.window = Window(self.size)
        for score in saved["scores"]:
            self.window.add(float(score))
