"""Scores, splits by time, calibration and the gate of promotion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ml.sagas import training
from ml.sagas.calibration import Calibrator
from ml.sagas.estimators import INDICATOR, WORKER, Columns, Design, divided_by
from ml.sagas.evaluation import (
    Draws,
    auc_by_length,
    calibration_error,
    calibration_floor,
    interval,
    operating_point,
    reliability,
)
from ml.sagas.features import Vocabulary, feature_set
from ml.sagas.model import OldForm
from ml.sagas.promotion import judge
from ml.sagas.stream import Prefixes
from ml.sagas.types import ORDER

RANDOM = np.random.default_rng(7)


def test_auc_by_length_is_the_mean_of_each_lengths_own() -> None:
    y, length = RANDOM.integers(0, 2, 600), RANDOM.integers(1, 6, 600)
    score = np.round(y * 0.3 + RANDOM.random(600), 1)  # with ties
    own = [roc_auc_score(y[length == one], score[length == one]) for one in range(1, 6)]
    sizes = [int((length == one).sum()) for one in range(1, 6)]
    assert auc_by_length(y, score, length) == pytest.approx(np.average(own, weights=sizes))


def test_auc_counts_weights_as_copies() -> None:
    y, length, score = RANDOM.integers(0, 2, 80), RANDOM.integers(1, 3, 80), RANDOM.random(80)
    copies = RANDOM.integers(0, 3, 80)
    again = np.repeat(np.arange(80), copies)
    assert auc_by_length(y, score, length, copies) == pytest.approx(
        auc_by_length(y[again], score[again], length[again])
    )


def test_a_length_with_one_class_is_left_out() -> None:
    assert auc_by_length(np.array([0, 1, 1]), np.array([0.1, 0.9, 0.2]), np.array([1, 1, 2])) == 1.0
    assert np.isnan(auc_by_length(np.array([1, 1]), np.array([0.1, 0.9]), np.array([1, 1])))


def test_calibration_error_is_the_mean_gap() -> None:
    p = np.repeat([0.2, 0.8], 750)
    y = np.concatenate([np.arange(750) % 5 == 0, np.arange(750) % 5 != 0]).astype(int)
    assert calibration_error(y, p) < 0.01
    assert calibration_error(y, np.clip(p + 0.1, 0, 1)) == pytest.approx(0.1, abs=0.01)
    assert sum(size for _, _, size in reliability(y, p)) == 1500


def test_the_calibration_of_a_constant_does_not_depend_on_the_rows_order() -> None:
    y = np.repeat([0, 1], 500)
    assert calibration_error(y, np.full(1000, 0.5)) == pytest.approx(0.0)


def test_the_floor_is_the_error_of_probabilities_that_hold() -> None:
    p, ids = RANDOM.random(3000), np.arange(3000).astype(str)
    y = (RANDOM.random(3000) < p).astype(int)
    alone = calibration_floor(p, ids, count=60)
    assert alone.min() * 0.8 < calibration_error(y, p) < alone.max() * 1.2
    # Ten prefixes for each saga: fewer draws behind the same rows, so more of the error is the draw.
    assert calibration_floor(np.repeat(p[:300], 10), np.repeat(ids[:300], 10), count=60).mean() > 1.5 * alone.mean()


def test_intervals_draw_whole_sagas() -> None:
    """Copies of a prefix within its saga add no certainty."""
    y, score = RANDOM.integers(0, 2, 100), RANDOM.random(100)
    ids = np.array([f"s{n}" for n in range(100)], dtype=object)
    once = interval(0.5, Draws(ids, count=200).auc(y, score, np.ones(100)))
    five = Draws(np.repeat(ids, 5), count=200).auc(np.repeat(y, 5), np.repeat(score, 5), np.ones(500))
    assert interval(0.5, five).high - interval(0.5, five).low == pytest.approx(once.high - once.low, abs=0.02)


def test_the_operating_point_follows_the_costs() -> None:
    threshold, cost, without = operating_point(np.array([0, 0, 1]), np.array([0.05, 0.3, 0.9]), missed=9, false_alarm=1)
    assert threshold == pytest.approx(0.1)
    assert cost == pytest.approx(1 / 3)
    assert without == pytest.approx(2 / 3)


def test_uncalibrated_log_odds_are_taken_as_they_are() -> None:
    odds = np.array([-1.0, 0.0, 2.0])
    assert Calibrator("none").fit(odds, np.array([0, 1, 1])).predict(odds) == pytest.approx(1 / (1 + np.exp(-odds)))


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
def test_calibration_repairs_overconfidence(method: str) -> None:
    odds = RANDOM.normal(0, 2, 6000)
    y = (RANDOM.random(6000) < 1 / (1 + np.exp(-odds / 3))).astype(np.int64)
    raw = calibration_error(y, 1 / (1 + np.exp(-odds)))
    done = Calibrator(method).fit(odds[:3000], y[:3000])  # type: ignore[arg-type]
    assert calibration_error(y[3000:], done.predict(odds[3000:])) < raw / 2
    assert np.all(np.diff(done.predict(np.linspace(-5, 5, 50))) >= -1e-9)


def test_a_single_class_calibrates_to_its_share() -> None:
    assert Calibrator().fit(np.zeros(3), np.zeros(3, np.int64)).predict(np.zeros(2)).tolist() == [0.0, 0.0]


def test_columns_that_hold_nothing_are_dropped() -> None:
    x = np.column_stack([np.full(5, np.nan), np.ones(5), np.arange(5.0)])
    assert Columns([0, 1, 2]).fit(x).transform(x).shape == (5, 1)


def test_round_amounts_are_seen() -> None:
    asked = np.array([5_000.0, 4_250.0, 0.0, np.nan, 10_000.0])
    assert divided_by(asked).sum(axis=1).tolist() == [4, 0, 0, 0, 5]
    x = np.column_stack([np.arange(5.0), asked])
    assert Columns([0], amount=1).fit(x).transform(x).tolist() == [[0, 4], [1, 0], [2, 0], [3, 0], [4, 5]]


def test_a_rare_value_is_penalised_like_a_frequent_one() -> None:
    """The width of an indicator's column is the same however rare it is, and smaller for a worker."""
    codes = np.repeat([0.0, 1.0], [950, 50])
    for kind, width in (("category", INDICATOR), ("worker", WORKER)):
        design = Design([kind]).fit(codes[:, None]).transform(codes[:, None])
        assert np.ptp(design, axis=0) == pytest.approx([width, width])


def test_the_design_is_finite_whatever_is_missing() -> None:
    kinds = ["category", "worker", "count", "time", "hour", "weekday", "position", "amount"]
    codes = (RANDOM.integers(0, 3, 200).astype(float) for _ in range(2))
    x = np.column_stack([*codes, *(RANDOM.random(200) * 20 for _ in kinds[2:])])
    design = Design(kinds).fit(x)
    assert np.isfinite(design.transform(np.full((3, len(kinds)), np.nan))).all()
    assert design.transform(x)[:, np.isnan(design.scale_)].std() == pytest.approx(1, abs=0.2)


def sagas(count: int, *, signal: float = 1.0, start: int = 0) -> Prefixes:
    """Sagas of three prefixes each, one a second; the failing ones have more of the first activity."""
    features = feature_set(Vocabulary((("a", "completed"), ("b", "failed")), ("p",)))
    random = np.random.default_rng(count + start)
    fails = random.random(count) < 0.3
    x = np.full((count * 3, len(features.features)), 0.0)
    column = features.names.index("count a:completed")
    x[:, column] = np.repeat(fails, 3) * signal + random.random(count * 3) * 2
    x[:, features.names.index("amount")] = np.repeat(random.random(count) * 100, 3)
    begin = np.repeat((start + np.arange(count)) * 1_000_000, 3).astype(np.int64)
    return Prefixes(
        np.repeat(np.array([f"s{start + n}" for n in range(count)], dtype=object), 3),
        np.tile([1, 2, 3], count),
        begin + np.tile([1, 2, 3], count),
        x,
        np.repeat(np.where(fails, "technical", "completed"), 3).astype(object),
        begin,
        begin + 500_000,
        np.ones(count * 3, dtype=bool),
    )


FEATURES = feature_set(Vocabulary((("a", "completed"), ("b", "failed")), ("p",)))


def test_training_ends_before_the_split_and_scores_after_it() -> None:
    rows = sagas(1200)
    split = training.split_time(rows)
    early, later = training.ended_before(rows, split), rows.where(rows.start_us >= split)
    assert early.known_us.max() < split <= later.start_us.min()
    trained = training.train(ORDER, ORDER.outcomes[0], FEATURES, early, later, split_us=split, draws=50, folds=(0.6,))
    assert trained.arms["constant"].auc.value == pytest.approx(0.5)
    assert trained.arms["challenger"].auc.low > 0.6
    assert trained.model.threshold == pytest.approx(1 / 11)
    assert trained.cost < trained.cost_without
    with pytest.raises(OldForm, match="train it anew"):
        replace(trained.model, form=1).score(later.x)


@pytest.mark.parametrize(("count", "why"), [(60, "ended sagas"), (0, "0 ended sagas")])
def test_too_little_data_is_refused_with_the_figures(count: int, why: str) -> None:
    rows = sagas(count)
    with pytest.raises(training.TooLittleData, match=why):
        training.train(ORDER, ORDER.outcomes[0], FEATURES, rows, rows, split_us=0)


def test_sagas_that_last_long_weigh_more_for_those_that_had_not_ended() -> None:
    """Half of the sagas last 100 s of the 400 s: of four that began only three had ended at the split."""
    rows = sagas(400)
    long = np.repeat(np.arange(400) % 2 == 0, 3)
    known = rows.start_us + np.where(long, 100_000_000, 500_000)
    rows = Prefixes(rows.saga_ids, rows.position, rows.us, rows.x, rows.label, rows.start_us, known, rows.strict)
    early = training.ended_before(rows, 400_000_000)
    weight = training.censoring_weights(early, rows, 400_000_000)
    lasted = early.known_us - early.start_us
    assert weight[lasted > 1_000_000] == pytest.approx(4 / 3, abs=0.02)
    assert weight[lasted < 1_000_000] == pytest.approx(1.0, abs=0.01)
    assert weight[lasted > 1_000_000].sum() == pytest.approx(weight[lasted < 1_000_000].sum(), rel=0.02)


def test_every_saga_counts_the_same() -> None:
    rows = sagas(3)
    rows = rows.where(np.array([True, True, True, True, False, False, True, True, False]))
    weight = training.saga_weights(rows)
    assert weight.mean() == pytest.approx(1)
    assert [weight[rows.saga_ids == saga].sum() for saga in ("s0", "s1", "s2")] == pytest.approx([2, 2, 2])


def test_promotion_needs_a_gain_that_is_certain_and_calibration() -> None:
    n = 600
    ids, y, length = np.array([f"s{i}" for i in range(n)], dtype=object), RANDOM.integers(0, 2, n), np.ones(n)
    good = np.where(y == 1, 0.75, 0.25) + RANDOM.normal(0, 0.05, n)
    y_seen = np.where(RANDOM.random(n) < 0.25, 1 - y, y)  # so that 0.75 is the true share
    draws = Draws(ids, count=100)
    weak = RANDOM.random(n)
    allowed = judge(y_seen, good, length, {"champion": weak}, draws, most_error=0.1)
    assert allowed.promoted
    assert allowed.gains["champion"].above_zero
    same = judge(y_seen, good, length, {"champion": good}, draws, most_error=0.1)
    assert not same.promoted
    assert "does not lie above zero" in same.reasons[0]
    off = judge(y_seen, good / 3, length, {"champion": weak}, draws)
    assert not off.promoted
    assert "calibration error" in off.reasons[0]
