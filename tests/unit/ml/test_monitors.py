"""Baselines, tails and rounds: few false alarms on good hours, and faults that show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml.monitors import baseline
from ml.monitors.measures import measure, reference
from ml.monitors.rounds import alarms, combined, count_p, discovery_rate, leading
from ml.monitors.tails import two_tails, upper_tail
from ml.monitors.types import Measures, Reference


def test_a_tail_keeps_its_promise_beyond_the_sample() -> None:
    random = np.random.default_rng(1)
    tail = upper_tail(random.standard_normal(20_000))
    assert float(tail.p(np.array([3.0]))[0]) == pytest.approx(1.35e-3, rel=0.4)
    far = float(tail.p(np.array([5.5]))[0])
    assert 1e-10 < far < 1e-5
    assert tail.p(np.array([np.nan]))[0] == 1.0


def test_two_tails_of_positive_numbers_see_a_unit_that_is_wrong() -> None:
    random = np.random.default_rng(2)
    tails = two_tails(random.lognormal(3, 0.7, 20_000))
    p = tails.p(np.array([20.0, 20_000.0, 0.02, -20.0]))
    assert p[0] > 0.1
    assert (p[1:] < 1e-6).all()


def test_a_tail_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        upper_tail(np.array([np.nan]))


def hours(count: int, random: np.random.Generator) -> tuple[list[int], list[Measures]]:
    found = []
    for hour in range(count):
        rows = int(random.poisson(200 * (1.5 + np.sin(hour / 24 * 2 * np.pi)) * random.lognormal(0, 0.05)))
        nulls = int(random.binomial(rows, 0.1))
        counts = tuple(random.multinomial(rows - nulls, [0.25] * 4).tolist())
        found.append(Measures(rows, 60.0 + 30 * random.random(), {"a": nulls}, {"a": counts}))
    return list(range(count)), found


def test_good_hours_are_quiet_and_faults_alarm() -> None:
    random = np.random.default_rng(3)
    at, every = hours(600, random)
    base = baseline.learn(at[:400], every[:400])
    false = sum(len(alarms(base.p(hour, one))) for hour, one in zip(at[400:], every[400:], strict=True))
    assert false <= 1
    good = every[450]
    stopped = Measures(0, 3600.0, {"a": 0}, {"a": (0, 0, 0, 0)})
    assert "volume" in alarms(base.p(450, stopped))
    lost = Measures(good.rows, good.silence, {"a": good.rows // 2}, {"a": tuple(n // 2 for n in good.counts["a"])})
    assert "nulls:a" in alarms(base.p(450, lost))
    moved = Measures(good.rows, good.silence, good.nulls, {"a": (0, 0, 0, sum(good.counts["a"]))})
    assert "spread:a" in alarms(base.p(450, moved))


def test_a_trend_is_left_out_rather_than_alarmed_for_ever() -> None:
    random = np.random.default_rng(4)
    at, every = hours(300, random)
    grown = [
        Measures(one.rows, one.silence, {"a": 0}, {"a": (max(0, 300 - hour), 50, 50, hour)})
        for hour, one in zip(at, every, strict=True)
    ]
    assert "spread:a" in baseline.learn(at, grown).left_out


def test_too_little_history_says_so() -> None:
    with pytest.raises(baseline.TooShort, match="at least 48"):
        baseline.learn([1], [Measures(1, 0.0)])


def test_measures_count_by_bin_and_survive_json() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, np.nan, 9.0], "k": ["a", None, "b", "a"]})
    by = {"x": Reference(edges=(1.0, 5.0)), "k": Reference(values=("a",)), "gone": Reference(edges=(0.0,))}
    seen = measure(frame, by, np.array([0, 10_000_000, 20_000_000, 30_000_000]), (0, 60_000_000))
    assert seen.counts == {"x": (1, 1, 1), "k": (2, 1), "gone": (0, 0)}
    assert seen.nulls == {"x": 1, "k": 1, "gone": 4}
    assert seen.silence == 30.0
    assert Measures.from_json(seen.as_json()) == seen
    assert set(reference(frame)) == {"x", "k"}


def test_the_rate_of_a_round_follows_from_the_budget() -> None:
    assert discovery_rate(240, rounds_per_day=24) == pytest.approx(0.005)
    assert alarms({}) == set()
    assert combined({"a:x": 0.01, "a:y": 0.5, "b": 0.3}, frozenset({"a"})) == {"a": 0.02, "b": 0.3}
    assert alarms({"a": 1e-9, **{f"b{n}": 0.5 for n in range(99)}}) == {"a"}
    assert count_p(2, 1_000, 1e-6, 2) == 1.0
    assert count_p(3, 1_000, 1e-6, 2) < 1e-9


def test_the_strongest_check_of_a_table_leads_its_alarm() -> None:
    p = {"a/x": 1e-9, "a/y": 1e-12, "b/x": 1e-7, "b/schema": 0.0}
    assert leading(p, p) == {"a/y", "b/schema"}
    assert leading(set(), p) == set()
    assert leading({"a/schema"}, {}) == {"a/schema"}


def test_rows_of_one_event_break_a_check_together() -> None:
    alone, together = count_p(4, 1_000, 1e-5, 0), count_p(4, 1_000, 1e-5, 0, clump=0.6)
    assert alone < 1e-8
    assert together > 1e-4
    assert count_p(4, 1_000, 1e-5, 4) == 1.0
