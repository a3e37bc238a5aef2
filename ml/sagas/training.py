"""Training by time: fit on sagas that had ended before the split, score on sagas that began after it.

What belongs here: splits, weights, out-of-time calibration and the trained result. What does not: estimators, scores.

A label is known only when its saga has ended, so at any split the training rows are those of sagas that ended before
it. That leaves out the long ones among the latest: the other long ones are weighted up by the chance of having ended in
time (inverse probability of censoring, Robins and Rotnitzky 1992; the time of censoring is known for every saga).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ml.sagas import estimators
from ml.sagas.calibration import Calibrator, Method, log_odds
from ml.sagas.estimators import Name
from ml.sagas.evaluation import Draws, Interval, auc_by_length, calibration_error, interval, operating_point
from ml.sagas.features import FeatureSet
from ml.sagas.model import FORM, FailureModel
from ml.sagas.stream import Prefixes
from ml.sagas.types import Outcome, SagaType

Floats = NDArray[np.float64]
Recipe = Callable[[FeatureSet, str], Any]

#: Fewer labelled sagas than this, or of either class, train nothing: a refusal says so.
LEAST_SAGAS = 200
LEAST_OF_A_CLASS = 20
#: Shares of the training sagas (by start) at which the time-ordered folds for calibration begin.
FOLDS = (0.4, 0.55, 0.7, 0.85)
#: Prefixes that an estimator is fitted on, at most: those of one saga say much the same.
MOST_ROWS = 60_000


class TooLittleData(ValueError):
    """There are too few ended sagas, or too few of an outcome, to train on."""


@dataclass(frozen=True, slots=True)
class Scored:
    """An estimator's predictions on later prefixes, and what they are worth."""

    name: str
    p: Floats
    auc: Interval
    ece: Interval


@dataclass(frozen=True)
class Trained:
    """What training one outcome gave: the model, and every arm's score on the same later prefixes."""

    model: FailureModel
    outcome: Outcome
    later: Prefixes
    arms: dict[str, Scored]
    split_us: int
    training_sagas: int
    training_rows: int
    cost: float
    cost_without: float
    draws: Draws = field(repr=False)

    @property
    def y(self) -> NDArray[np.int64]:
        """Return the later prefixes' classes."""
        return classes(self.later, self.outcome.name)


def classes(prefixes: Prefixes, outcome: str) -> NDArray[np.int64]:
    """Return 1 where a prefix's saga ended in ``outcome``, else 0."""
    return np.asarray(prefixes.label == outcome, dtype=np.int64)


def split_time(prefixes: Prefixes, share: float = 0.7) -> int:
    """Return the start (microseconds) of the first saga after ``share`` of them, by start."""
    starts = np.sort(_per_saga(prefixes)[1])
    return int(starts[min(int(share * len(starts)), len(starts) - 1)])


def _per_saga(prefixes: Prefixes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for each saga its first row, its start and when its label was known."""
    ids = prefixes.saga_ids
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.zeros(0, np.int64)
    return first, prefixes.start_us[first], prefixes.known_us[first]


def ended_before(prefixes: Prefixes, at_us: int) -> Prefixes:
    """Return the rows of sagas whose label was known before ``at_us``."""
    return prefixes.where(prefixes.known_us < at_us)


def censoring_weights(training: Prefixes, every: Prefixes, at_us: int, *, most: float = 3.0) -> Floats:
    """Return a weight for each training row: one over the chance that a saga that lasts so long had ended by ``at_us``.

    A saga that lasts d had ended where it began at least d before; ``every`` are the labelled sagas that had begun by
    then, ended or not, and only their starts are used.
    """
    age = np.sort(at_us - _per_saga(every.where(every.start_us < at_us))[1])
    lasted = training.known_us - training.start_us
    chance = 1 - np.searchsorted(age, lasted, "right") / max(len(age), 1)
    return np.asarray(np.clip(1 / np.maximum(chance, 1e-9), 1.0, most), dtype=np.float64)


def saga_weights(rows: Prefixes) -> Floats:
    """Return a weight for each row by which every saga counts the same, however many prefixes it has; the mean is 1.

    What is learned is a saga's fate, and a saga of forty prefixes is no more evidence of it than one of ten.
    """
    _, of, sizes = np.unique(rows.saga_ids.astype(str), return_inverse=True, return_counts=True)
    return np.asarray(sizes.mean() / sizes[of], dtype=np.float64)


def recipe(features: FeatureSet, name: str, blend: tuple[float, float] = (0.003, 0.5)) -> Any:
    """Return an unfitted estimator: a baseline or ours, with the settings that time-ordered validation chose.

    ``blend`` is that of :class:`~ml.sagas.types.SagaType`.
    """
    counts = features.count_columns
    match name:
        case "constant":
            return estimators.constant()
        case "logistic":
            kinds = estimators.column_kinds(features)
            return estimators.linear(kinds, [*counts, features.names.index("amount")], c=0.001)
        case "plain":
            return estimators.boosted(counts, max_iter=80, max_features=1.0)
        case "boosting":
            return estimators.boosted([*counts, features.names.index("amount")], max_iter=80, max_features=1.0)
        case _:
            return challenger(features, *blend)


def challenger(features: FeatureSet, c: float, boosting: float) -> Any:
    """Return our estimator: a penalised linear model over a rich design, blended with cautious boosting.

    Neither is shown the calendar, nor boosting who works: it splits on chance there, which the penalty does not.
    """
    kinds = estimators.column_kinds(features)
    amount = features.names.index("amount")
    timeless = [place for place, kind in enumerate(kinds) if kind not in ("hour", "weekday")]
    nameless = [place for place in timeless if kinds[place] != "worker"]
    return estimators.Blend(
        [
            estimators.linear(kinds, timeless, c=c),
            estimators.boosted(nameless, amount=amount, max_iter=80),
        ],
        [1 - boosting, boosting],
    )


def fit_calibrated(
    make: Callable[[], Any],
    rows: Prefixes,
    outcome: str,
    weight: Floats,
    *,
    folds: tuple[float, ...] = FOLDS,
    method: Method = "none",
    seed: int = 0,
    most_rows: int = MOST_ROWS,
) -> tuple[Any, Calibrator]:
    """Return an estimator fitted on ``rows`` and its calibrator.

    Unless the method is ``none``, the calibrator is fitted on predictions for later sagas: each fold's estimator
    learns from sagas that had ended before the fold begins and predicts those that began in it.
    """
    y, rank = classes(rows, outcome), _rank_of_start(rows)
    spans = () if method == "none" else tuple(zip(folds, (*folds[1:], 1.01), strict=True))
    odds, held = np.zeros(len(y)), np.zeros(len(y), dtype=bool)
    for low, high in spans:
        inside = (rank >= low) & (rank < high)
        if not inside.any():
            continue
        train = rows.known_us < rows.start_us[inside].min()
        if train.sum() < 50 or len(np.unique(y[train])) < 2:
            continue
        train = _thin(train, seed, most_rows)
        fitted = estimators.fit(make(), rows.x[train], y[train], weight[train])
        odds[inside], held = log_odds(fitted.predict_proba(rows.x[inside])[:, 1]), held | inside
    train = _thin(np.ones(len(y), dtype=bool), seed, most_rows)
    fitted = estimators.fit(make(), rows.x[train], y[train], weight[train])
    if not held.any():
        held, odds = train, log_odds(fitted.predict_proba(rows.x)[:, 1])
    return fitted, Calibrator(method).fit(odds[held], y[held], weight[held])


def _rank_of_start(rows: Prefixes) -> Floats:
    starts = np.sort(_per_saga(rows)[1])
    return np.asarray(np.searchsorted(starts, rows.start_us, "left") / max(len(starts), 1), dtype=np.float64)


def _thin(mask: NDArray[np.bool_], seed: int, most: int) -> NDArray[np.bool_]:
    """Return at most ``most`` of the mask's rows, drawn evenly."""
    rows = np.flatnonzero(mask)
    if len(rows) <= most:
        return mask
    thin = np.zeros_like(mask)
    thin[np.random.default_rng(seed).choice(rows, most, replace=False)] = True
    return thin


def train(
    kind: SagaType,
    outcome: Outcome,
    features: FeatureSet,
    training: Prefixes,
    later: Prefixes,
    *,
    split_us: int,
    weight: Floats | None = None,
    arms: tuple[Name, ...] = ("constant", "logistic", "boosting", "challenger"),
    draws: int = 300,
    folds: tuple[float, ...] = FOLDS,
    seed: int = 0,
    make: Recipe | None = None,
    most_rows: int = MOST_ROWS,
) -> Trained:
    """Train every arm on ``training`` and score all on ``later``; both hold labelled, strict prefixes only.

    Raises :class:`TooLittleData` where either has too few sagas.
    """
    for part, rows in (("training", training), ("later", later)):
        require(rows, outcome.name, part, least=LEAST_SAGAS if part == "training" else LEAST_SAGAS // 4)
    make = make or partial(recipe, blend=kind.blend)
    weight = saga_weights(training) * (1.0 if weight is None else weight)
    y, sampled = classes(later, outcome.name), Draws(later.saga_ids, count=draws, seed=seed)
    scored: dict[str, Scored] = {}
    model: FailureModel | None = None
    threshold = operating_point(y, np.zeros(len(y)), missed=outcome.missed, false_alarm=outcome.false_alarm)[0]
    for name in arms:
        # One thread: on so few rows more of them wait for each other, and for whatever else the machine does.
        with threadpool_limits(1):
            fitted, calibrator = fit_calibrated(
                lambda name=name: make(features, name),  # type: ignore[misc]
                training,
                outcome.name,
                weight,
                folds=folds,
                seed=seed,
                most_rows=most_rows,
                method=kind.calibration,
            )
        model = FailureModel(kind.name, outcome.name, features, fitted, calibrator, threshold, FORM)
        scored[name] = score(name, model.score(later.x), y, later, sampled)
    assert model is not None
    _, cost, without = operating_point(y, scored[arms[-1]].p, missed=outcome.missed, false_alarm=outcome.false_alarm)
    sagas = len(_per_saga(training)[0])
    return Trained(model, outcome, later, scored, split_us, sagas, len(training), cost, without, sampled)


def score(name: str, p: Floats, y: NDArray[np.int64], rows: Prefixes, draws: Draws) -> Scored:
    """Return what predictions are worth, with intervals over sagas."""
    return Scored(
        name,
        p,
        interval(auc_by_length(y, p, rows.position), draws.auc(y, p, rows.position)),
        Interval(calibration_error(y, p), float("nan"), float("nan")),
    )


def require(rows: Prefixes, outcome: str, part: str, *, least: int) -> None:
    """Raise :class:`TooLittleData` where ``rows`` have too few sagas, or too few of either class."""
    first = _per_saga(rows)[0]
    of_outcome = int((rows.label[first] == outcome).sum())
    fewest = min(of_outcome, len(first) - of_outcome)
    needed = max(LEAST_OF_A_CLASS * least // LEAST_SAGAS, 5)
    if len(first) < least or fewest < needed:
        raise TooLittleData(
            f"{part} part: {len(first)} ended sagas, {of_outcome} of them {outcome}; "
            f"it takes {least}, and {needed} of either class"
        )
