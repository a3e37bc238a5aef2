"""Drift: false alarms stay at their rate, shifts are found, small and odd samples are judged right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml.drift.blocks import calibration_scores, column_scores, without_pattern
from ml.drift.discovery import q_values
from ml.drift.monitor import HOUR_US, Rows, TooFewBlocks, monitor
from ml.drift.rows import one_a_saga
from ml.drift.sequential import _bets, watch
from ml.drift.twosample import compare
from tests.unit.ml.drift_world import JUDGED, LEARNED, NOW, world


def draw(random: np.random.Generator, n: int, *, mean: float = 0.0) -> dict[str, Any]:
    return {
        "amount": random.normal(mean, 1, n),
        "ties": random.integers(0, 3, n).astype(float),
        "channel": random.choice(["web", "app", "partner"], n, p=[0.6, 0.3, 0.1]),
    }


def test_a_permutation_p_is_uniform_for_small_samples_with_ties() -> None:
    random = np.random.default_rng(1)
    p = np.array([[one.p for one in compare(draw(random, 12), draw(random, 9), draws=99, seed=n)] for n in range(200)])
    # 200 trials: below 0.2 lie 20 of 100, give or take four standard deviations; ties may only make it fewer.
    for column in range(3):
        assert (p[:, column] <= 0.2).mean() <= 0.2 + 4 * 0.0283
        assert (p[:, column] <= 0.05).mean() <= 0.05 + 4 * 0.0154
    assert (p[:, 0] <= 0.2).mean() >= 0.2 - 4 * 0.0283


def test_shifts_of_mean_spread_mix_and_missing_are_found() -> None:
    random = np.random.default_rng(2)
    old = draw(random, 400)
    new = draw(random, 400, mean=0.5)
    new["channel"] = random.choice(["web", "app", "kiosk"], 400, p=[0.6, 0.3, 0.1])
    new["ties"][:80] = np.nan
    found = {one.column: one for one in compare(old, new, seed=3)}
    assert all(one.p <= 0.001 for one in found.values())
    assert "20% missing" in found["ties"].detail
    assert found["channel"].kind == "category"
    assert 0.05 < found["channel"].distance < 0.2
    wide = {"amount": random.normal(0, 2, 400)}
    assert compare({"amount": old["amount"]}, wide)[0].p <= 0.001


def test_rows_of_one_unit_go_together_and_strata_hold_a_daily_pattern() -> None:
    random = np.random.default_rng(3)
    # Twenty sagas of 50 prefixes each: 1,000 rows that hold 20 values.
    old, new = np.repeat(random.normal(0, 1, 20), 50), np.repeat(random.normal(0, 1, 20), 50)
    ids = ([f"a{n // 50}" for n in range(1000)], [f"b{n // 50}" for n in range(1000)])
    assert compare({"x": old}, {"x": new}, units=ids)[0].p > 0.01
    assert compare({"x": old}, {"x": new})[0].p <= 0.01  # what taking rows for independent would say
    with pytest.raises(ValueError, match="both samples"):
        compare({"x": old}, {"x": new}, units=(ids[0], ids[0]))
    # The new sample is by night only, and nights are low.
    hours = (np.repeat([0, 1], 200), np.repeat([1], 200))
    by_hour = (random.normal(hours[0] * -3.0, 1), random.normal(hours[1] * -3.0, 1))
    assert compare({"x": by_hour[0]}, {"x": by_hour[1]}, strata=(hours[0].tolist(), hours[1].tolist()))[0].p > 0.01
    assert compare({"x": by_hour[0]}, {"x": by_hour[1]})[0].p <= 0.001


def test_what_cannot_be_compared_is_said() -> None:
    some = {"x": np.arange(3.0)}
    with pytest.raises(ValueError, match="empty"):
        compare(some, {"x": np.empty(0)})
    with pytest.raises(ValueError, match="different columns"):
        compare(some, {"y": np.arange(3.0)})
    assert compare({}, {}) == []
    constant = compare({"x": np.full(5, np.nan)}, {"x": np.full(5, np.nan)})
    assert constant[0].p == 1.0


def test_discoveries() -> None:
    assert np.allclose(q_values(np.array([0.01, 0.5, 0.02])), [0.03, 0.5, 0.03])
    assert q_values(np.empty(0)).size == 0


def test_each_bet_is_a_density() -> None:
    u = (np.arange(400_000) + 0.5) / 400_000
    paid = _bets(u, np.zeros(len(u), dtype=bool))
    # The mixture of powers has a slow end at 0: what lies below the first place is 1 / -ln(u).
    assert np.allclose(paid.mean(axis=0), 1.0, atol=0.09)
    assert (paid >= 0).all()
    assert (_bets(u, np.ones(len(u), dtype=bool))[:, 3:] == 1).all()


def test_looking_at_every_block_does_not_raise_false_alarms_and_a_shift_is_found() -> None:
    random = np.random.default_rng(4)
    names = ("a", "a", "b", "c")
    clean = [watch(random.normal(0, 1, (250, 4)), names, before=50, seed=n).alarm(0.05) for n in range(60)]
    # At most 3 of 60 expected; 10 lie four standard deviations above.
    assert sum(one is not None for one in clean) <= 10
    shifted = random.normal(0, 1, (250, 4))
    shifted[100:, 2] += 1.5
    at = watch(shifted, names, before=50).alarm(0.05)
    assert at is not None
    assert 50 <= at <= 80


def test_evidence_does_not_change_when_blocks_are_added_and_missing_ones_are_passed_over() -> None:
    scores = np.random.default_rng(5).normal(0, 1, (60, 2))
    scores[20, 0] = np.nan
    whole, part = watch(scores, ("a", "b"), before=10), watch(scores[:40], ("a", "b"), before=10)
    assert np.allclose(whole.together[:30], part.together)
    assert whole.by_column[10, 0] == whole.by_column[9, 0]
    with pytest.raises(ValueError, match="at most 1"):
        watch(scores, ("a", "b"), before=10, weights=(0.9, 0.9))
    assert watch(np.empty((5, 0)), (), before=2).alarm(0.05) is None


def test_one_prefix_of_each_saga() -> None:
    rows = one_a_saga(["b", "a", "b", "a", "c"], np.arange(5))
    assert len(rows) == 3
    assert {"bab ac".replace(" ", "")[at] for at in rows} == {"a", "b", "c"}


def test_block_scores_know_level_spread_mix_and_pattern() -> None:
    random = np.random.default_rng(7)
    reference = draw(random, 2000)
    rows, block = draw(random, 400), np.repeat(np.arange(4), 100)
    rows["amount"][block == 1] += 2
    rows["amount"][block == 2] *= 3
    rows["channel"][block == 3] = "partner"
    scores = column_scores(reference, rows, block, blocks=5)
    table = dict(zip(scores.names, scores.values.T, strict=True))
    assert np.nanargmax(table["amount: level"]) == 1
    assert np.nanargmax(table["amount: spread"]) in (1, 2)
    assert np.nanargmax(table["channel: mix"]) == 3
    assert np.isnan(scores.values[4]).all()
    flat = without_pattern(scores, [0, 1, 0, 1, 0], np.array([True, True, False, False, False]))
    assert flat.values[0, 0] == 0
    unknown = without_pattern(scores, [0, 1, 2, 2, 2], np.array([True, True, False, False, False]))
    assert np.isnan(unknown.values[2:]).all()
    p = np.full(200, 0.3)
    y = np.concatenate([(random.random(100) < 0.3).astype(float), np.ones(100)])
    off = calibration_scores(p, y, np.repeat([0, 1], 100), blocks=3)
    assert abs(off.values[0, 0]) < 4 < off.values[1, 0]
    assert np.isnan(off.values[2, 0])


def test_the_monitor_is_quiet_on_clean_traffic_and_names_what_drifted() -> None:
    clean = [monitor(world(seed), LEARNED, JUDGED, NOW, seed=seed) for seed in range(4)]
    assert sum(one.alarm_us is not None for one in clean) <= 1
    drift = monitor(world(1, shift=1.0), LEARNED, JUDGED, NOW)
    assert drift.alarm_us is not None
    assert drift.alarm_us > 84 * HOUR_US
    assert drift.blamed[0][0] in ("amount", "prediction")
    assert drift.columns[0].column == "amount"
    assert drift.q[0] < 0.05
    assert drift.evidence >= 20
    concept = monitor(world(2, concept=True), LEARNED, JUDGED, NOW)
    assert concept.alarm_us is not None
    assert concept.blamed[0][0] == "calibration"


def test_an_alarm_stays_where_it_was_as_time_goes_on_and_waits_for_labels() -> None:
    rows = world(2, concept=True)
    first = monitor(rows, LEARNED, JUDGED, NOW).alarm_us
    assert first is not None
    assert monitor(rows, LEARNED, JUDGED, first).alarm_us == first
    assert monitor(rows, LEARNED, JUDGED, first - HOUR_US).alarm_us is None
    unlabelled = Rows(rows.columns, rows.p, np.where(rows.start_us > JUDGED, np.nan, rows.y), rows.start_us)
    assert monitor(unlabelled, LEARNED, JUDGED, NOW, patience_us=100 * HOUR_US).alarm_us is None


def test_too_little_to_know_is_said() -> None:
    rows = world(1, hours=20)
    with pytest.raises(TooFewBlocks, match="do not make"):
        monitor(rows, 10 * HOUR_US, 15 * HOUR_US, 20 * HOUR_US)
    with pytest.raises(TooFewBlocks, match="no saga is older"):
        monitor(world(1), 0, 60 * HOUR_US, NOW)
