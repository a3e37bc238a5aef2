"""Outcomes: an effect is found with an interval that holds, load and hour are no effect, too little is said."""

from __future__ import annotations

import math

import numpy as np

from ml.outcomes import METHOD, Bins, estimate


def bins(seed: int, *, first: int, hours: int, effect: float = 0.0) -> Bins:
    """Ten-minute bins of a share that follows load, the hour and each hour's own luck."""
    random = np.random.default_rng(seed)
    start = (first * 3600 + np.arange(hours * 6) * 600).astype(np.int64)
    hour = start / 3600 % 24
    load = 60 + 40 * np.sin(2 * np.pi * hour / 24) + random.normal(0, 5, len(start))
    luck = np.repeat(random.normal(0, 0.01, hours), 6)
    share = np.clip(0.05 + 0.001 * load + luck + effect, 0, 1)
    of = np.maximum(1, np.round(load * 3))
    return Bins(start, random.binomial(of.astype(int), share).astype(float), of, load)


def test_intervals_hold_what_is_true_and_an_effect_is_found() -> None:
    inside = found = 0
    for seed in range(20):
        before = bins(seed, first=0, hours=96)
        same = estimate(before, bins(1000 + seed, first=96 + 12, hours=4), draws=150)
        inside += same.low <= 0.0 <= same.high
        better = estimate(before, bins(2000 + seed, first=96 + 12, hours=4, effect=-0.05), draws=150)
        found += better.high < 0
        assert same.method == METHOD
    assert inside >= 15  # 19 expected; four standard deviations below
    assert found >= 14


def test_a_busy_hour_is_no_effect() -> None:
    # Six in the evening to ten: the lowest loads of the day, against a plain mean of the day.
    value = estimate(bins(1, first=0, hours=72), bins(2, first=72 + 16, hours=4))
    assert abs(value.difference) < 0.02
    assert value.low < 0 < value.high


def test_too_little_is_said() -> None:
    few = estimate(bins(1, first=0, hours=3), bins(2, first=3, hours=1))
    assert "6 are needed" in few.method
    assert math.isnan(few.counterfactual)
    assert not math.isnan(few.actual)
    none = estimate(bins(1, first=0, hours=24), bins(2, first=24, hours=0))
    assert "nothing happened" in none.method
    constant = bins(1, first=0, hours=24)
    flat = Bins(constant.start_s, constant.hits * 0, constant.of, constant.load * 0 + 5)
    zero = estimate(flat, flat)
    assert (zero.actual, zero.low, zero.high) == (0.0, 0.0, 0.0)
