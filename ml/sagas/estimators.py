"""Estimators of an outcome's probability: two baselines that count, a constant, and ours.

What belongs here: what is fitted on a matrix of prefixes. What does not: the features themselves, splits by time,
calibration and scores. Every estimator takes the whole matrix and looks at the columns it was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from ml.sagas.features import FeatureSet

Matrix = NDArray[np.float64]
ROUND = (500, 1_000, 2_500, 5_000, 10_000)
#: Scale of an indicator. Were it standardised, a rare value would have the widest column and be penalised least.
INDICATOR, WORKER = 4.0, 2.0
_INDICATED = {"category": INDICATOR, "weekday": INDICATOR, "worker": WORKER}
_RARE = 30  # rows below which a category or an indicator says too little to have a coefficient of its own


class Columns(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Chooses columns, and of these the ones that vary: trees cannot bin a column that holds nothing.

    ``amount`` is the place of an amount whose roundness is added as one more column: how many of ``ROUND`` divide it.
    """

    def __init__(self, columns: Sequence[int], amount: int | None = None) -> None:
        self.columns = columns
        self.amount = amount

    def fit(self, x: Matrix, y: Any = None) -> Columns:
        """Find the columns that vary."""
        wide = self._widen(x)
        with np.errstate(invalid="ignore"):
            self.kept_ = [
                column
                for column in range(wide.shape[1])
                if (seen := wide[~np.isnan(wide[:, column]), column]).size > 1 and seen.min() < seen.max()
            ]
        return self

    def transform(self, x: Matrix) -> Matrix:
        """Return the chosen columns."""
        return self._widen(x)[:, self.kept_]

    def _widen(self, x: Matrix) -> Matrix:
        chosen = x[:, list(self.columns)]
        if self.amount is None:
            return chosen
        return np.column_stack([chosen, divided_by(x[:, self.amount]).sum(axis=1)])


def divided_by(amount: NDArray[np.float64]) -> Matrix:
    """Return for each amount (positive, not missing) which of ``ROUND`` divide it, as 0 or 1.

    People who ask for 4,250 know what for; people who ask for 5,000 choose a figure.
    """
    plain = np.nan_to_num(amount)[:, None]
    return np.asarray((plain > 0) & (plain % np.array(ROUND) == 0), dtype=np.float64)


class Design(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The design matrix of a linear model: what of each feature can act by a straight line.

    ``kinds`` gives each column's: ``category`` becomes an indicator for each value, and so does ``worker``, penalised
    four times as much; ``count`` its logarithm and whether there is any, ``time`` its logarithm and whether it is
    missing, ``hour`` two pairs of sines and cosines, ``weekday`` an indicator for each, ``position`` cubic splines,
    ``amount`` cubic splines of its logarithm and what divides it.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = kinds

    def fit(self, x: Matrix, y: Any = None) -> Design:
        """Learn splines, the categories that occur, and the scale."""
        self.values_: dict[int, NDArray[np.float64]] = {}
        self.splines_: dict[int, SplineTransformer] = {}
        for column, kind in enumerate(self.kinds):
            if kind in _INDICATED:
                values, counts = np.unique(x[~np.isnan(x[:, column]), column], return_counts=True)
                self.values_[column] = values[counts >= _RARE]
            elif kind in ("amount", "position") and np.unique(seen := self._smooth(x[:, column], kind)).size > 8:
                knots = "quantile" if kind == "amount" else "uniform"
                self.splines_[column] = SplineTransformer(n_knots=6, degree=3, knots=knots).fit(seen[:, None])
        wide, scale = self._widen(x)
        self.kept_ = np.flatnonzero(wide.std(axis=0) > 1e-9)
        self.scale_ = scale[self.kept_]
        self.scaler_ = StandardScaler().fit(wide[:, self.kept_])
        return self

    def transform(self, x: Matrix) -> Matrix:
        """Return the centred design matrix: indicators by their scale, all else standardised and cut at five."""
        chosen = self._widen(x)[0][:, self.kept_]
        indicated = ~np.isnan(self.scale_)
        scaled: Matrix = np.clip(self.scaler_.transform(chosen), -5, 5)
        scaled[:, indicated] = (chosen - self.scaler_.mean_)[:, indicated] * self.scale_[indicated]
        return scaled

    @staticmethod
    def _smooth(column: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
        plain = np.clip(np.nan_to_num(column), 0, None)
        return np.log1p(plain) if kind == "amount" else plain

    def _widen(self, x: Matrix) -> tuple[Matrix, NDArray[np.float64]]:
        """Return the columns, and the scale of each that is an indicator (NaN of the others)."""
        wide: list[NDArray[Any]] = []
        scale: list[NDArray[np.float64]] = []
        for column, kind in enumerate(self.kinds):
            values, before = x[:, column], len(wide)
            if kind in _INDICATED:
                wide.append(values[:, None] == self.values_[column])
            elif kind == "hour":
                angle = np.nan_to_num(values)[:, None] * (2 * np.pi / 24) * np.array([1, 2])
                wide += [np.sin(angle), np.cos(angle)]
            elif kind in ("amount", "position"):
                smooth = self._smooth(values, kind)[:, None]
                wide.append(self.splines_[column].transform(smooth) if column in self.splines_ else smooth)
                if kind == "amount":
                    wide.append(divided_by(values))
            elif kind == "time":
                wide += [np.log1p(np.clip(np.nan_to_num(values), 0, None))[:, None], np.isnan(values)[:, None]]
            else:
                plain = np.clip(np.nan_to_num(values), 0, None)
                wide += [np.log1p(plain)[:, None], (plain > 0)[:, None]]
            width = sum(part.shape[1] for part in wide[before:])
            scale.append(np.full(width, _INDICATED.get(kind, np.nan)))
        return np.hstack(wide).astype(np.float64), np.concatenate(scale)


class Blend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The mean of several estimators' log-odds, by ``weights``."""

    def __init__(self, estimators: Sequence[Any], weights: Sequence[float]) -> None:
        self.estimators = estimators
        self.weights = weights

    def fit(self, x: Matrix, y: NDArray[np.int64], sample_weight: NDArray[np.float64] | None = None) -> Blend:
        """Fit each estimator on the same rows."""
        self.classes_ = np.array([0, 1])
        for estimator in self.estimators:
            fit(estimator, x, y, sample_weight)
        return self

    def decision_function(self, x: Matrix) -> NDArray[np.float64]:
        """Return the mean log-odds."""
        odds = [log_odds(estimator.predict_proba(x)[:, 1]) for estimator in self.estimators]
        mean: NDArray[np.float64] = np.average(odds, axis=0, weights=self.weights)
        return mean

    def predict_proba(self, x: Matrix) -> Matrix:
        """Return the probabilities of the two classes."""
        p = 1 / (1 + np.exp(-self.decision_function(x)))
        return np.column_stack([1 - p, p])


def log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-odds of probabilities, finite also at 0 and 1."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)


def fit(estimator: Any, x: Matrix, y: NDArray[np.int64], sample_weight: NDArray[np.float64] | None = None) -> Any:
    """Fit an estimator or a pipeline with weights."""
    if sample_weight is None:
        return estimator.fit(x, y)
    if isinstance(estimator, Pipeline):
        return estimator.fit(x, y, **{f"{estimator.steps[-1][0]}__sample_weight": sample_weight})
    return estimator.fit(x, y, sample_weight=sample_weight)


#: The features that name who works.
WORKERS = ("worker", "first worker")


def column_kinds(features: FeatureSet) -> list[str]:
    """Return the kind of each column, as :class:`Design` takes it."""
    kinds = []
    for feature in features.features:
        if feature.is_text:
            kinds.append("worker" if feature.name in WORKERS else "category")
        elif feature.form in ("elapsed", "after_start", "seconds") or feature.name.startswith("duration"):
            kinds.append("time")
        elif feature.form in ("hour", "weekday"):
            kinds.append(feature.form)
        else:
            kinds.append(feature.name if feature.name in ("amount", "position") else "count")
    return kinds


def constant() -> Any:
    """Return the baseline that knows the share only."""
    return DummyClassifier(strategy="prior")


def boosted(columns: Sequence[int], *, amount: int | None = None, seed: int = 0, **options: Any) -> Any:
    """Return gradient boosting on ``columns`` and the roundness of ``amount``, strongly regularised by default."""
    defaults: dict[str, Any] = {
        "learning_rate": 0.04,
        "max_iter": 100,
        "max_leaf_nodes": 6,
        "min_samples_leaf": 300,
        "l2_regularization": 20.0,
        "max_features": 0.3,
        "early_stopping": False,
    }
    return make_pipeline(
        Columns(list(columns), amount), HistGradientBoostingClassifier(random_state=seed, **defaults | options)
    )


def linear(kinds: Sequence[str], columns: Sequence[int], *, c: float) -> Any:
    """Return a ridge-penalised logistic regression on the design of ``columns``."""
    return make_pipeline(
        _Chosen(list(columns)),
        Design([kinds[column] for column in columns]),
        LogisticRegression(C=c, solver="newton-cholesky", tol=1e-3),
    )


class _Chosen(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Chooses columns."""

    def __init__(self, columns: Sequence[int]) -> None:
        self.columns = columns

    def fit(self, x: Matrix, y: Any = None) -> _Chosen:
        """Learn nothing."""
        self.fitted_ = True
        return self

    def transform(self, x: Matrix) -> Matrix:
        """Return the chosen columns."""
        return x[:, self.columns]


Name = Literal["constant", "logistic", "boosting", "plain", "challenger"]
