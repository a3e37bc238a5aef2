"""Lean scoring: what a trained failure model says, without scikit-learn's cost of a call, and equal to the last bit.

What belongs here: the same arithmetic as ``FailureModel.score`` for the estimators that we train (a blend of the linear
design and boosted trees, or the trees alone), laid out so that a few rows cost some hundred microseconds and not three
thousand. What does not: fitting, and any approximation.

Each sum is taken in scikit-learn's order, and the linear part multiplies a matrix of the same shape and layout, so that
no bit differs. :func:`scorer` makes sure of that on rows of its own before it hands a lean model out; where a bit
differs, or an estimator has another form, scikit-learn scores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import SplineTransformer

from ml.sagas.estimators import ROUND, Blend, Columns, Design, Matrix, divided_by, log_odds
from ml.sagas.model import FailureModel

log = logging.getLogger("isthmus.sagas")

Floats = NDArray[np.float64]
Score = Callable[[Matrix], Floats]
_BLOCKS: Final = ("equal", "log", "any", "missing", "plain", "round", "spline")
_LARGEST: Final = float(np.finfo(np.float64).max)
"""What stands for an infinite value, as in :class:`Design`."""
_INDICATED: Final = ("category", "weekday", "worker")
_SPLIT_BITS: Final = 8
"""Most splits of a tree: what its row of the table is found by is one byte."""
_REMEMBERED: Final = 4_096
"""Values of which a spline remembers its row."""


class OtherForm(ValueError):
    """The estimator is none that can be laid out here."""


def scorer(model: FailureModel) -> Score:
    """Return what scores rows as ``model`` does: leanly where that gives the same bits, else by scikit-learn."""
    if not model.is_current:
        return model.score
    try:
        lean = _laid_out(model)
        equal = _equal(model, lean)
    except OtherForm as reason:
        log.info("the model of %s is scored by scikit-learn: %s", model.saga_type, reason)
        return model.score
    except Exception:
        # Whatever form its parts have: scikit-learn scores it, or says itself what is wrong.
        log.exception("the model of %s cannot be laid out; scikit-learn scores it", model.saga_type)
        return model.score
    if not equal:
        log.error("the model of %s is scored by scikit-learn: laid out, it differs", model.saga_type)
        return model.score
    return lean


def _equal(model: FailureModel, lean: _Lean) -> bool:
    """Return whether both give the same bits, for matrices of several heights: their products are summed otherwise."""
    trial = _trial(model, lean.thresholds)
    return all(np.array_equal(lean(trial[:rows]), model.score(trial[:rows])) for rows in (1, 2, 3, 7, 13, len(trial)))


class _Lean:
    """A model laid out: its parts' probabilities, their blend, and the calibration."""

    def __init__(self, model: FailureModel, parts: Sequence[_Trees | _Linear], weights: Floats | None) -> None:
        self._parts = parts
        self._calibrator = model.calibrator
        linear = getattr(model.calibrator, "linear_", None)
        #: Of ``platt``: one coefficient and the intercept.
        self._line = (linear.coef_.T, linear.intercept_) if linear is not None and linear.coef_.size == 1 else None
        self._weights = None if weights is None else weights[:, None]
        self._whole = 1.0 if weights is None else weights.sum()

    @property
    def thresholds(self) -> Sequence[tuple[int, Floats]]:
        """Where trees split, by column."""
        return [one for part in self._parts if isinstance(part, _Trees) for one in part.splits]

    def __call__(self, x: Matrix) -> Floats:
        """Return calibrated probabilities of the matrix's rows."""
        odds = [log_odds(part(x)) for part in self._parts]
        if self._weights is None:
            mean = odds[0]
        else:
            mean = np.multiply(np.array(odds), self._weights).sum(axis=0) / self._whole
            mean = log_odds(1 / (1 + np.exp(-mean)))
        if self._line is None or self._calibrator.constant_ is not None:
            return self._calibrator.predict(mean)
        coefficient, intercept = self._line
        return np.asarray(expit((mean[:, None] @ coefficient + intercept).ravel()), dtype=np.float64)


def _laid_out(model: FailureModel) -> _Lean:
    estimator = model.estimator
    if isinstance(estimator, Blend):
        return _Lean(
            model, [_part(one) for one in estimator.estimators], np.asarray(estimator.weights, dtype=np.float64)
        )
    return _Lean(model, [_part(estimator)], None)


def _part(estimator: Any) -> _Trees | _Linear:
    if not isinstance(estimator, Pipeline):
        raise OtherForm(f"it is a {type(estimator).__name__}")
    steps = [step for _, step in estimator.steps]
    if len(steps) == 2 and isinstance(steps[0], Columns):
        return _Trees(steps[0], steps[1])
    if len(steps) == 3 and isinstance(steps[1], Design) and isinstance(steps[2], LogisticRegression):
        return _Linear(list(steps[0].columns), steps[1], steps[2])
    raise OtherForm(f"it is a pipeline of {', '.join(type(step).__name__ for step in steps)}")


class _Trees:
    """Boosted trees of at most eight splits: all splits are decided at once, and eight decisions name a leaf."""

    def __init__(self, columns: Columns, boosted: Any) -> None:
        trees = [tree.nodes for iteration in boosted._predictors for tree in iteration]  # noqa: SLF001
        if boosted.n_trees_per_iteration_ != 1 or any(nodes["is_categorical"].any() for nodes in trees):
            raise OtherForm("its trees are for more than two classes, or split categories")
        chosen = list(columns.columns)
        self._amount = columns.amount
        # Column ``len(chosen)`` of what the trees see is the amount's roundness.
        sources = [chosen[at] if at < len(chosen) else -1 for at in columns.kept_]
        kept = len(sources)
        self._take = np.array([at for at in sources if at >= 0], dtype=np.intp)
        self._round_at = sources.index(-1) if -1 in sources else None
        count = len(trees)
        places = np.zeros((count, _SPLIT_BITS), dtype=np.intp)
        thresholds = np.full((count, _SPLIT_BITS), -np.inf)
        table = np.empty((count, 256))
        for number, nodes in enumerate(trees):
            inner = np.flatnonzero(nodes["is_leaf"] == 0)
            if len(inner) > _SPLIT_BITS:
                raise OtherForm(f"a tree has more than {_SPLIT_BITS} splits")
            left = nodes["missing_go_to_left"][inner].astype(bool)
            # Twice the columns: in the second copy a missing value lies below every threshold, and so goes left.
            places[number, : len(inner)] = nodes["feature_idx"][inner] + kept * left
            thresholds[number, : len(inner)] = nodes["num_threshold"][inner]
            table[number] = [_leaf(nodes, inner, code) for code in range(256)]
        self.splits = [
            (sources[place % kept], np.unique(thresholds[places == place]))
            for place in np.unique(places)
            if sources[place % kept] >= 0
        ]
        self._kept, self._count = kept, count
        self._places, self._thresholds = places.ravel(), thresholds.ravel()[:, None]
        self._table, self._row = table.ravel(), 256 * np.arange(count)[:, None]
        self._baseline = float(boosted._baseline_prediction.ravel()[0])  # noqa: SLF001

    def __call__(self, x: Matrix) -> Floats:
        """Return the probabilities of the second class."""
        rows = len(x)
        seen = np.empty((2 * self._kept, rows))
        if self._round_at is None:
            seen[: self._kept] = x[:, self._take].T
        else:
            seen[: self._round_at] = x[:, self._take[: self._round_at]].T
            seen[self._round_at] = divided_by(x[:, self._amount]).sum(axis=1)
            seen[self._round_at + 1 : self._kept] = x[:, self._take[self._round_at :]].T
        np.copyto(seen[self._kept :], seen[: self._kept])
        low = seen[self._kept :]
        low[np.isnan(low)] = -np.inf
        goes_left = seen[self._places] <= self._thresholds
        code = np.packbits(goes_left.reshape(self._count, _SPLIT_BITS, rows), axis=1)[:, 0]
        values = np.empty((self._count + 1, rows))
        values[0] = self._baseline
        np.take(self._table, code + self._row, out=values[1:])
        # One tree after the other: a sum in another order has other last bits.
        return np.asarray(expit(np.add.accumulate(values, axis=0)[-1]), dtype=np.float64)


def _leaf(nodes: Any, inner: NDArray[np.intp], code: int) -> float:
    """Return the value of the leaf that is reached where the bits of ``code``, the highest first, say "left"."""
    goes_left = {int(node): bool(code >> (_SPLIT_BITS - 1 - bit) & 1) for bit, node in enumerate(inner)}
    at = 0
    while not nodes["is_leaf"][at]:
        at = int(nodes["left" if goes_left[at] else "right"][at])
    return float(nodes["value"][at])


class _Linear:
    """A logistic regression on :class:`Design`, whose columns are computed kind by kind and not one by one.

    Held the other way round, a row for each column: that is also the layout that scikit-learn's matrix has.
    """

    def __init__(self, columns: Sequence[int], design: Design, regression: LogisticRegression) -> None:
        blocks = self._blocks(columns, design)
        pairs = {name: [(at, source) for at, source, _ in blocks[name]] for name in blocks}
        self._from = {name: np.array([source for _, source in of], dtype=np.intp) for name, of in pairs.items()}
        self._equal = np.array([value for _, _, value in blocks["equal"]])[:, None]
        self._end = np.cumsum([len(blocks[name]) for name in _BLOCKS]).tolist()
        # Where each column of the design stands here.
        place = np.argsort([at for name in _BLOCKS for at, _ in pairs[name]])
        self._kept = place[design.kept_]
        self._mean, self._divisor = design.scaler_.mean_[:, None], design.scaler_.scale_[:, None]
        self._indicated = np.flatnonzero(~np.isnan(design.scale_))
        self._scale = design.scale_[self._indicated][:, None]
        self._coefficients, self._intercept = regression.coef_.T, regression.intercept_

    def _blocks(self, columns: Sequence[int], design: Design) -> dict[str, list[tuple[int, int, float]]]:
        """Return by kind of computation the design's columns: place in it, place in the matrix, what it is held to."""
        blocks: dict[str, list[tuple[int, int, float]]] = {name: [] for name in _BLOCKS}
        self._splines: list[tuple[int, bool, _Spline]] = []
        width = 0
        for own, (source, kind) in enumerate(zip(columns, design.kinds, strict=True)):
            if kind in _INDICATED:
                found = [("equal", value) for value in design.values_[own].tolist()]
            elif kind == "hour":
                raise OtherForm("its linear part is shown the hour")
            elif kind in ("amount", "position"):
                if own in design.splines_:
                    spline = _Spline(design.splines_[own])
                    self._splines.append((source, kind == "amount", spline))
                    found = [("spline", 0.0)] * spline.width
                else:
                    found = [("log" if kind == "amount" else "plain", 0.0)]
                if kind == "amount":
                    found += [("round", float(one)) for one in ROUND]
            else:
                found = [("log", 0.0), ("missing" if kind == "time" else "any", 0.0)]
            for name, value in found:
                blocks[name].append((width, source, value))
                width += 1
        self._rounds = np.array([value for _, _, value in blocks["round"]])[:, None]
        return blocks

    def __call__(self, x: Matrix) -> Floats:
        """Return the probabilities of the second class."""
        turned, of = x.T, self._from
        plain = np.fmin(np.fmax(turned, 0.0), _LARGEST)
        equal, log, some, missing, own, rounds, end = self._end
        wide = np.empty((end, len(x)))
        np.equal(turned[of["equal"]], self._equal, out=wide[:equal])
        np.log1p(plain[of["log"]], out=wide[equal:log])
        np.greater(plain[of["any"]], 0, out=wide[log:some])
        wide[some:missing] = np.isnan(turned[of["missing"]])
        wide[missing:own] = plain[of["plain"]]
        amounts = plain[of["round"]]
        np.logical_and(amounts > 0, amounts % self._rounds == 0, out=wide[own:rounds])
        at = rounds
        for source, is_amount, spline in self._splines:
            wide[at : at + spline.width] = spline(np.log1p(plain[source]) if is_amount else plain[source])
            at += spline.width
        chosen = wide[self._kept]
        chosen -= self._mean
        indicated = chosen[self._indicated]
        indicated *= self._scale
        chosen /= self._divisor
        np.minimum(np.maximum(chosen, -5, out=chosen), 5, out=chosen)
        chosen[self._indicated] = indicated
        return np.asarray(expit((chosen.T @ self._coefficients + self._intercept).ravel()), dtype=np.float64)


class _Spline:
    """A spline's basis at values, remembered: a position is a small number, an amount stays what it is."""

    def __init__(self, transformer: SplineTransformer) -> None:
        self._transformer = transformer
        self._known: dict[float, Floats] = {}
        self.width = int(transformer.n_features_out_)
        if transformer.extrapolation != "constant":
            raise OtherForm(f"its splines extrapolate by {transformer.extrapolation}")
        basis, degree = transformer.bsplines_[0], transformer.degree
        self._basis = basis
        self._low, self._high = float(basis.t[degree]), float(basis.t[-degree - 1])
        beyond = transformer.transform(np.array([[np.nextafter(self._low, -np.inf)], [self._high + 1]]))
        self._below, self._above = beyond[0], beyond[1]

    def __call__(self, values: Floats) -> Matrix:
        """Return the basis (width, values)."""
        return np.array([self._at(value) for value in values.tolist()]).T

    def _at(self, value: float) -> Floats:
        row = self._known.get(value)
        if row is None:
            if value < self._low:
                row = self._below
            elif value > self._high:
                row = self._above
            else:
                row = self._basis(np.array([value]))[0]
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[value] = row
        return row


def _trial(model: FailureModel, thresholds: Sequence[tuple[int, Floats]]) -> Matrix:
    """Return rows to try a laid-out model on: values of every size, on and beside its thresholds, and missing ones."""
    random, width, rows = np.random.default_rng(0), len(model.features.features), 96
    trial = np.exp(random.normal(1.0, 3.0, (rows, width)))
    whole = random.random((rows, width)) < 0.5
    trial[whole] = np.floor(random.exponential(3.0, int(whole.sum())))
    for column, values in thresholds:
        if len(values := values[np.isfinite(values)]):
            at = random.random(rows) < 0.4
            trial[at, column] = random.choice(values, int(at.sum()))
    for column in model.features.text_columns:
        count = len(model.features.categories.get(model.features.features[column].name, ()))
        trial[:, column] = random.integers(-1, max(count, 1), rows)
    trial[random.random((rows, width)) < 0.15] = np.nan
    return np.asarray(trial, dtype=np.float64)
