"""Lean scoring: the same bits as scikit-learn's, or scikit-learn."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ml.sagas import lean
from ml.sagas.calibration import Calibrator, Method
from ml.sagas.estimators import Matrix, fit, log_odds
from ml.sagas.features import Vocabulary, feature_set
from ml.sagas.model import FORM, FailureModel
from ml.sagas.training import challenger
from tests.integration.orchestrator.world import model as boosted_alone

FEATURES = feature_set(
    Vocabulary(
        (("charge", "completed"), ("charge", "started"), ("charge", "timed_out"), ("reserve", "completed")),
        ("inventory", "payment"),
        ("w-1", "w-2"),
    )
)


def rows(count: int, seed: int) -> Matrix:
    """Figures of every size, categories, and one value in seven missing."""
    random, width = np.random.default_rng(seed), len(FEATURES.features)
    x = np.floor(np.exp(random.normal(1.0, 2.0, (count, width))) * 4) / 4
    x[:, FEATURES.names.index("position")] = random.integers(1, 40, count)
    x[:, FEATURES.names.index("amount")] = random.choice([5.0, 20.0, 500.0, 5_000.0, 61.25, 0.0, -3.0], count)
    for column in FEATURES.text_columns:
        x[:, column] = random.integers(-1, len(FEATURES.categories[FEATURES.names[column]]), count)
    x[random.random(x.shape) < 1 / 7] = np.nan
    return np.asarray(x)


@cache
def blend() -> FailureModel:
    """What training makes of a saga type, on figures whose truth is a sum of some of them."""
    x = rows(4_000, 1)
    truth = np.nan_to_num(x[:, 0]) / 20 - np.nan_to_num(np.log1p(np.abs(x[:, 7]))) / 4 + np.isnan(x[:, 3])
    y = (np.random.default_rng(2).random(len(x)) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    estimator = fit(challenger(FEATURES, 0.003, 0.5), x, y)
    calibrator = Calibrator().fit(log_odds(estimator.predict_proba(x)[:, 1]), y)
    return FailureModel("order", "technical", FEATURES, estimator, calibrator, 0.5, FORM)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 15, 40, 500])
def test_a_blend_scores_as_scikit_learn_does_to_the_last_bit(count: int) -> None:
    score = lean.scorer(blend())
    assert score != blend().score
    for seed in range(20):
        x = rows(count, 100 + seed)
        assert score(x).tolist() == blend().score(x).tolist()


def test_values_at_and_beside_thresholds_and_beyond_all_bounds() -> None:
    model = blend()
    score, x = lean.scorer(model), rows(200, 7)
    for tree in (one for each in model.estimator.estimators[1][-1]._predictors for one in each):
        inner = tree.nodes[tree.nodes["is_leaf"] == 0]
        for column, threshold in zip(inner["feature_idx"], inner["num_threshold"], strict=True):
            at = int(np.random.default_rng(int(column)).integers(len(x)))
            x[at, column % x.shape[1]] = np.nextafter(threshold, np.random.default_rng(at).choice([-9e9, 9e9]))
            x[(at + 1) % len(x), column % x.shape[1]] = threshold
    x[::17, 1::3] = np.inf
    x[::13, 1::4] = -np.inf
    x[::11, 2::5] = -0.0
    assert score(x).tolist() == model.score(x).tolist()


@pytest.mark.parametrize("method", ["none", "platt", "beta", "isotonic"])
def test_every_calibration(method: Method) -> None:
    model, x = blend(), rows(1_000, 3)
    y = np.random.default_rng(4).integers(0, 2, len(x))
    calibrated = replace(model, calibrator=Calibrator(method).fit(log_odds(model.estimator.predict_proba(x)[:, 1]), y))
    score = lean.scorer(calibrated)
    assert score != calibrated.score
    assert score(x).tolist() == calibrated.score(x).tolist()


def test_trees_alone() -> None:
    model = boosted_alone()
    score = lean.scorer(model)
    assert score != model.score
    x = np.random.default_rng(5).exponential(2.0, (50, len(model.features.features)))
    assert score(x).tolist() == model.score(x).tolist()


def test_another_estimator_is_left_to_scikit_learn() -> None:
    x = np.nan_to_num(rows(300, 6))
    other = replace(blend(), estimator=LogisticRegression().fit(x, np.arange(300) % 2))
    assert lean.scorer(other) == other.score
    unfitted = replace(blend(), estimator=challenger(FEATURES, 0.003, 0.5))
    assert lean.scorer(unfitted) == unfitted.score
    old = replace(blend(), form=1)
    assert lean.scorer(old) == old.score


def test_what_differs_by_one_bit_is_left_to_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    model, exact = blend(), lean._Trees.__call__
    monkeypatch.setattr(lean._Trees, "__call__", lambda self, x: np.nextafter(exact(self, x), 1.0))
    assert lean.scorer(model) == model.score


def test_what_is_laid_out_does_not_follow_the_model() -> None:
    """A champion is replaced whole; what was laid out of it stays as it was."""
    model = deepcopy(blend())
    score, x = lean.scorer(model), rows(5, 8)
    before = score(x).tolist()
    model.estimator = None
    assert score(x).tolist() == before
