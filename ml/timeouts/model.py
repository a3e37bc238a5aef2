"""Conditional quantiles of a step's duration, by gradient boosting on the log scale.

What belongs here: each step's own figures, the fit, and the repair of crossing quantiles. What does not: the running
figures of a participant (``ml.timeouts.recent``) and the online correction (``ml.timeouts.conformal``).

The target is the log duration less its step's median and less the participant's present level. Trees give no value
that they have not seen, but a sum of what was seen and the present level does: a participant ten times slower than ever
before gets quantiles ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ml.quantiles import Floats, observed_quantile

#: Middle, upper quantile, and the one that is promised.
LEVELS = (0.5, 0.9, 0.99)
_FEWEST_ROWS = 200
#: A step seen less often has no upper quantiles of its own.
_FEWEST_OF_STEP = 20
#: The correction's unit (in logs) neither vanishes nor lets one error multiply a time-out.
_LEAST_UNIT, _MOST_UNIT = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A step's own past: median log duration, and how far the 0.9 and 0.99 quantiles lie above it (logs).

    ``ceiling`` is the participant's 0.99 quantile over all its steps, a log duration, and ``usual`` the level that it
    rarely exceeds when nothing is wrong.
    """

    median: float
    upper: float
    tail: float
    ceiling: float
    usual: float = 0.0


NamedFigures = Mapping[tuple[str, str], StepFigures]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One entry a row: the promised quantile of the log duration, and how far it lies above the 0.9 quantile."""

    top: Floats
    unit: Floats


def step_figures(participant: Sequence[str], step: Sequence[str], ms: Floats) -> dict[tuple[str, str], StepFigures]:
    """Return each (participant, step)'s figures from past durations, milliseconds, all of one length."""
    logs = np.log(np.maximum(np.asarray(ms, dtype=np.float64), 1e-3))
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(participant, step, strict=True)):
        rows.setdefault(key, []).append(row)
    all_of: dict[str, list[int]] = {}
    for index, name in enumerate(participant):
        all_of.setdefault(name, []).append(index)
    ceilings = {name: observed_quantile(logs[indices], LEVELS[-1]) for name, indices in all_of.items()}
    figures = {}
    for key, indices in rows.items():
        own = logs[indices]
        if len(own) >= _FEWEST_OF_STEP:
            median, upper, tail = (observed_quantile(own, level) for level in LEVELS)
            figures[key] = StepFigures(median, upper - median, tail - median, ceilings[key[0]])
    return figures


def with_usual(figures: NamedFigures, participant: Sequence[str], level: Floats) -> dict[tuple[str, str], StepFigures]:
    """Return ``figures`` with each participant's usual level: the 0.95 quantile of ``level`` at its calm starts."""
    names = np.asarray(participant)
    usual = {name: observed_quantile(level[names == name], 0.95) for name in set(participant)}
    return {key: replace(own, usual=usual.get(key[0], 0.0)) for key, own in figures.items()}


@dataclass(slots=True)
class DurationModel:
    """Quantiles of a step's log duration given its figures and its participant's. Fit once, then only read."""

    leaves: int = 15
    rounds: int = 80
    learning_rate: float = 0.1
    least_in_leaf: int = 200
    seed: int = 0
    fitted: list[Any] = field(default_factory=list)

    def fit(self, covariates: Floats, ms: Floats, base: Floats) -> DurationModel:
        """Fit on past steps: ``covariates`` (n, 3 + len(COVARIATES)) of ``row``, ``ms`` waited, ``base`` medians.

        A step that was given up enters with the time that it was waited for. That is exact for every quantile below
        it (Powell 1986), so the time-out in force in the past must have lain above the 0.99 quantile.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        if len(ms) < _FEWEST_ROWS:
            raise ValueError(f"{len(ms)} steps are too few to learn their durations from; need {_FEWEST_ROWS}")
        if not (np.isfinite(ms).all() and np.isfinite(covariates).all()):
            raise ValueError("durations and covariates must be finite: give a step that never ended as it was waited")
        target = np.log(np.maximum(ms, 1e-3)) - base - covariates[:, 3]
        self.fitted = [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                learning_rate=self.learning_rate,
                max_iter=self.rounds,
                max_leaf_nodes=self.leaves,
                min_samples_leaf=min(self.least_in_leaf, max(20, len(ms) // 50)),
                early_stopping=False,
                random_state=self.seed,
            ).fit(covariates, target)
            for level in LEVELS
        ]
        return self

    def predict(self, covariates: Floats, base: Floats) -> Prediction:
        """Return the quantiles of each row; crossing ones are put in order (Chernozhukov et al. 2010)."""
        if not self.fitted:
            raise ValueError("the model of durations is not fitted")
        logs = np.sort(np.stack([one.predict(covariates) for one in self.fitted], axis=1), axis=1)
        return Prediction(
            logs[:, -1] + covariates[:, 3] + base, np.clip(logs[:, -1] - logs[:, -2], _LEAST_UNIT, _MOST_UNIT)
        )


def row(figures: StepFigures, recent: Sequence[float]) -> tuple[float, ...]:
    """Return one row of covariates: a step enters by its own figures, so any number of steps needs no more columns."""
    return (figures.median, figures.upper, figures.tail, *recent)
