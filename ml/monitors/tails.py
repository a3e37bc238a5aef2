"""How unusual a number is beyond what was ever seen: empirical in the body, extrapolated in the tail.

What belongs here: p-values from a sample of good values. What does not: which numbers are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Share of a sample that its tail is fitted on, for samples below 2,000 and above, and its fewest and most values.
_SHARES, _LEAST, _MOST = (0.1, 0.05), 20, 2_000
#: A shape below zero ends the tail at a finite value, as a normal distribution's nearly does; no further than that of
#: one, and only where many values say so.
_SHAPES, _MANY = (-0.08, 0.5), 200
#: What few values say of the shape is mixed with this, as if so many more had said it.
_PRIOR, _WEIGHT = 0.1, 50


@dataclass(frozen=True, slots=True)
class UpperTail:
    """The upper side of a distribution: sorted ``body`` up to ``threshold``, a generalised Pareto tail beyond it."""

    body: Floats
    threshold: float
    beyond: float
    scale: float
    shape: float

    def p(self, values: Floats) -> Floats:
        """Return the chance that a good value is at least as high as each of ``values``; NaN gives 1."""
        values = np.asarray(values, dtype=np.float64)
        ranks = np.searchsorted(self.body, values, side="left")
        p = (len(self.body) - ranks + 1.0) / (len(self.body) + 1.0)
        far = values > self.threshold
        if far.any():
            with np.errstate(over="ignore", invalid="ignore"):
                over = np.minimum(values[far] - self.threshold, 1e300) / self.scale
                survival = (
                    np.exp(-np.minimum(over, 700.0))
                    if abs(self.shape) < 1e-6
                    else np.power(np.maximum(1.0 + self.shape * over, 1e-30), -1.0 / self.shape)
                )
            p[far] = np.maximum(self.beyond * survival, 1e-300)
        return np.where(np.isnan(values), 1.0, np.minimum(p, 1.0))


def upper_tail(sample: Floats, *, least_scale: float = 0.0, keep: int = 4_096) -> UpperTail:
    """Fit the upper tail of ``sample`` (good values, at least one; NaN is left out) by probability-weighted moments.

    ``least_scale`` keeps a tail from being narrower than that, where the sample hardly varies. ``keep`` bounds how many
    values the body holds. Source: Hosking and Wallis, Technometrics 29 (1987).
    """
    values = np.sort(np.asarray(sample, dtype=np.float64))
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError("a tail needs at least one finite value")
    share = _SHARES[len(values) >= 2_000]
    count = int(np.clip(round(share * len(values)), min(_LEAST, len(values)), _MOST))
    threshold = float(values[-count])
    excess = values[-count:] - threshold
    mean = float(excess.mean())
    # Weights of the second moment: the share of the excesses above each.
    weights = (count - 1 - np.arange(count)) / max(1, count - 1)
    weighted = float((weights * excess).mean())
    floor = max(least_scale, 1e-12 * max(1.0, abs(threshold)))
    shape, scale = 0.0, max(mean, floor)
    if mean > floor and mean > 2 * weighted > 0:
        least = _SHAPES[0] if count >= _MANY else 0.0
        said = 2.0 - mean / (mean - 2 * weighted)
        shape = (count * said + _WEIGHT * _PRIOR) / (count + _WEIGHT) + 0.5 * count**-0.5
        shape = float(np.clip(shape, least, _SHAPES[1]))
        scale = max(mean * (1.0 - shape), floor)
    if len(values) > keep:
        values = values[np.linspace(0, len(values) - 1, keep).round().astype(np.int64)]
    beyond = (count + 1.0) / (int(np.isfinite(np.asarray(sample, dtype=np.float64)).sum()) + 1.0)
    return UpperTail(values, threshold, beyond, scale, shape)


@dataclass(frozen=True, slots=True)
class TwoTails:
    """Both sides of a distribution on a scale that is linear near zero and logarithmic far from it."""

    unit: float
    upper: UpperTail
    lower: UpperTail

    def p(self, values: Floats) -> Floats:
        """Return two-sided p-values of ``values``; NaN gives 1."""
        bent = np.arcsinh(np.asarray(values, dtype=np.float64) / self.unit)
        return np.minimum(1.0, 2.0 * np.minimum(self.upper.p(bent), self.lower.p(-bent)))


def two_tails(sample: Floats) -> TwoTails:
    """Fit both tails of ``sample`` (good values, at least one finite)."""
    values = np.asarray(sample, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError("a tail needs at least one finite value")
    sizes = np.abs(values[values != 0])
    # Where nothing is zero or below, the scale is logarithmic throughout.
    unit = (0.1 * float(values.min()) if values.min() > 0 else float(np.quantile(sizes, 0.1))) if len(sizes) else 1.0
    bent = np.arcsinh(values / unit)
    # No tail is narrower than a hundredth of the body's width: values that hardly vary still may by rounding.
    least = 0.01 * float(np.subtract(*np.quantile(bent, [0.95, 0.05]))) + 1e-9
    return TwoTails(unit, upper_tail(bent, least_scale=least), upper_tail(-bent, least_scale=least))
