"""The tail of a step's duration given its context, by gradient boosting on the log scale.

What belongs here: each step's own figures, the fit, and the repair of crossing quantiles. What does not: the running
figures of a participant (``ml.timeouts.recent``) and where in the tail a time-out lies (``ml.timeouts.price``).

The target is the log duration less its step's median and less the participant's present level. Trees give no value
that they have not seen, but a sum of what was seen and the present level does: a participant ten times slower than ever
before gets quantiles ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ml.quantiles import Floats, observed_quantile
from ml.timeouts.price import Tail
from ml.timeouts.trees import Trees, trees_of

#: Middle, upper quantile, and the one that is promised, of a step's own figures; the last two are also what is fitted.
LEVELS = (0.5, 0.9, 0.99)
#: Where the level stands in a row of covariates.
LEVEL = 3
_FEWEST_ROWS = 200
#: A step seen less often has its participant's figures, a participant seen less often has none.
_FEWEST_OF_STEP = 20
#: Between what the 0.9 and 0.99 quantiles of the log duration are apart.
_LEAST_UNIT, _MOST_UNIT = 0.05, 3.0
_DECADE = math.log((1 - LEVELS[1]) / (1 - LEVELS[2]))


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A step's own past: median log duration, and how far the 0.9 and 0.99 quantiles lie above it (logs).

    ``scale`` is the participant's 0.99 quantile over all its steps, a log duration, and ``usual`` the level that it
    rarely exceeds when nothing is wrong.
    """

    median: float
    upper: float
    tail: float
    scale: float
    usual: float = 0.0


NamedFigures = Mapping[tuple[str, str], StepFigures]


def step_figures(participant: Sequence[str], step: Sequence[str], ms: Floats) -> dict[tuple[str, str], StepFigures]:
    """Return each (participant, step)'s figures from past durations, milliseconds, all of one length."""
    logs = log_ms(ms)
    rows: dict[tuple[str, str], list[int]] = {}
    all_of: dict[str, list[int]] = {}
    for row, key in enumerate(zip(participant, step, strict=True)):
        rows.setdefault(key, []).append(row)
        all_of.setdefault(key[0], []).append(row)
    figures = {}
    for key, indices in rows.items():
        whole = all_of[key[0]]
        own = logs[indices if len(indices) >= _FEWEST_OF_STEP else whole]
        if len(own) >= _FEWEST_OF_STEP:
            median, upper, tail = (observed_quantile(own, level) for level in LEVELS)
            scale = observed_quantile(logs[whole], LEVELS[-1])
            figures[key] = StepFigures(median, upper - median, tail - median, scale)
    return figures


def with_usual(figures: NamedFigures, participant: Sequence[str], level: Floats) -> dict[tuple[str, str], StepFigures]:
    """Return ``figures`` with each participant's usual level: the 0.95 quantile of ``level`` at its calm starts."""
    names = np.asarray(participant)
    usual = {name: observed_quantile(level[names == name], 0.95) for name in set(participant)}
    return {key: replace(own, usual=usual.get(key[0], 0.0)) for key, own in figures.items()}


@dataclass(slots=True)
class DurationModel:
    """The tail of a step's log duration given its figures and its participant's. Fit once, then only read."""

    leaves: int = 15
    rounds: int = 40
    learning_rate: float = 0.1
    least_in_leaf: int = 200
    seed: int = 0
    fitted: list[Trees] = field(default_factory=list)

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
        target = log_ms(ms) - base - covariates[:, LEVEL]
        self.fitted = [
            trees_of(
                HistGradientBoostingRegressor(
                    loss="quantile",
                    quantile=level,
                    learning_rate=self.learning_rate,
                    max_iter=self.rounds,
                    max_leaf_nodes=self.leaves,
                    min_samples_leaf=min(self.least_in_leaf, max(20, len(ms) // 50)),
                    early_stopping=False,
                    random_state=self.seed,
                ).fit(covariates, target),
                covariates[:: max(1, len(covariates) // 500)],
            )
            for level in LEVELS[1:]
        ]
        return self

    def tail(self, covariates: Sequence[float], base: float) -> Tail:
        """Return one step's tail; crossing quantiles are put in order (Chernozhukov et al. 2010)."""
        upper, top = self._two()
        return _tail(upper.one(covariates), top.one(covariates), covariates[LEVEL] + base)

    def tails(self, covariates: Floats, base: Floats) -> list[Tail]:
        """Return the tail of each row, as ``tail`` does."""
        upper, top = (trees.many(covariates).tolist() for trees in self._two())
        return [_tail(*one) for one in zip(upper, top, (covariates[:, LEVEL] + base).tolist(), strict=True)]

    def _two(self) -> list[Trees]:
        if not self.fitted:
            raise ValueError("the model of durations is not fitted")
        return self.fitted

    def save(self) -> dict[str, Any]:
        """Return the fitted model as plain numbers, lists and dicts: JSON takes it."""
        return asdict(self) | {"fitted": [trees.save() for trees in self.fitted]}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> DurationModel:
        """Return what ``save`` saved; scikit-learn is not needed."""
        return cls(**{**saved, "fitted": [Trees.restore(trees) for trees in saved["fitted"]]})


def _tail(one: float, other: float, at: float) -> Tail:
    return Tail(min(one, other) + at, _DECADE / min(max(abs(one - other), _LEAST_UNIT), _MOST_UNIT))


def row(figures: StepFigures, recent: Sequence[float]) -> tuple[float, ...]:
    """Return one row of covariates: a step enters by its own figures, so any number of steps needs no more columns."""
    return (figures.median, figures.upper, figures.tail, *recent)


def log_ms(ms: Floats) -> Floats:
    """Return log durations; nothing is shorter than a microsecond."""
    logs: Floats = np.log(np.maximum(np.asarray(ms, dtype=np.float64), 1e-3))
    return logs
