"""Forecasts: nothing of the future, gaps that stay gaps, short and odd series, intervals that keep their share."""

from __future__ import annotations

import numpy as np
import pytest

from ml.load.design import design
from ml.load.forecaster import Forecaster
from ml.load.panel import Panel

DAY, WEEK, HORIZON = 24, 168, 12


def series(seed: int, steps: int = 600, noise: float = 3.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    hour = np.arange(steps)
    shape = 40 + 20 * np.sin(2 * np.pi * hour / DAY) + 8 * (hour // DAY % 7 < 5)
    return np.maximum((1 + seed) * (shape + noise * random.normal(size=steps)), 0.0)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return Panel.of({f"s{seed}": series(seed) for seed in range(6)}, (DAY, WEEK))


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> Forecaster:
    return Forecaster(HORIZON, rows=20_000).fit(panel, panel.lengths - 48)


def test_what_comes_later_changes_no_row_of_a_design(panel: Panel) -> None:
    origin = np.full(6, 400)
    later = Panel.of(
        {name: np.concatenate([series(seed)[:400], np.full(200, 1e6)]) for seed, name in enumerate(panel.names)},
        (DAY, WEEK),
    )
    before, after = (design(one, np.arange(6), origin, HORIZON) for one in (panel, later))
    np.testing.assert_array_equal(before.columns, after.columns)
    np.testing.assert_array_equal(before.base, after.base)
    np.testing.assert_array_equal(before.scale, after.scale)


def test_what_comes_later_changes_no_forecast(panel: Panel, fitted: Forecaster) -> None:
    later = Panel.of(
        {name: np.concatenate([series(seed)[:552], np.full(48, np.nan)]) for seed, name in enumerate(panel.names)},
        (DAY, WEEK),
    )
    other = Forecaster(HORIZON, rows=20_000).fit(later, later.lengths - 48)
    known, everyone = panel.lengths - 48, np.arange(6)
    np.testing.assert_array_equal(
        fitted.predict(panel, everyone, known).quantiles, other.predict(later, everyone, known).quantiles
    )


def test_it_errs_less_than_the_same_hour_of_last_week(panel: Panel, fitted: Forecaster) -> None:
    series_, origin = np.repeat(np.arange(6), 4), np.tile(np.arange(552, 552 + 36, 9), 6)
    forecast = fitted.predict(panel, series_, origin)
    step = forecast.origin + forecast.ahead
    came, week = panel.read(forecast.series, step), panel.read(forecast.series, step - WEEK)
    assert np.abs(forecast.load - came).mean() < 0.9 * np.abs(week - came).mean()


def test_quantiles_never_cross_and_never_fall_below_zero(panel: Panel, fitted: Forecaster) -> None:
    forecast = fitted.predict(panel)
    assert (np.diff(forecast.quantiles, axis=1) >= 0).all()
    assert (forecast.quantiles >= 0).all()
    assert (forecast.load >= 0).all()


def test_intervals_of_loads_that_grow_noisy_widen(panel: Panel) -> None:
    random = np.random.default_rng(5)
    calm = series(0, 900)
    calm[500:] += random.normal(size=400) * 40
    one = Panel.of({"s": np.maximum(calm, 0)}, (DAY, WEEK))
    forecaster = Forecaster(HORIZON, rows=5000).fit(one, np.array([480]))
    zero = np.array([0])
    before = forecaster.predict(one, zero, np.array([800]))
    for origin in range(500, 800, HORIZON):
        forecast = forecaster.predict(one, zero, np.array([origin]))
        forecaster.learn(forecast, one.read(forecast.series, forecast.origin + forecast.ahead))
    after = forecaster.predict(one, zero, np.array([800]))
    width = [(one.quantiles[:, -1] - one.quantiles[:, 0]).mean() for one in (before, after)]
    assert width[1] > 1.5 * width[0]


def test_a_gap_stays_a_gap_and_does_not_stop_a_forecast(panel: Panel) -> None:
    broken = series(1)
    broken[300:380] = np.nan
    broken[-5:] = np.nan
    one = Panel.of({"broken": broken, "whole": series(2)}, (DAY, WEEK))
    forecast = Forecaster(HORIZON, rows=10_000).fit(one).predict(one)
    assert np.isfinite(forecast.load).all()
    assert np.isnan(one.read(np.array([0]), np.array([310]))).all()
    assert np.isnan(one.mean(np.array([0]), np.array([310]), np.array([320]))).all()
    np.testing.assert_allclose(one.mean(np.array([0]), np.array([298]), np.array([302])), broken[298:300].mean())


def test_a_series_of_an_hour_is_served_beside_long_ones() -> None:
    one = Panel.of({"new": np.array([5.0, 6.0, 7.0]), "old": series(0)}, (DAY, WEEK))
    forecast = Forecaster(HORIZON, rows=5000).fit(one).predict(one)
    new = forecast.load[forecast.series == 0]
    assert np.isfinite(new).all()
    assert 0 < new.mean() < 30


@pytest.mark.parametrize("values", [np.zeros(400), np.full(400, 7.0)], ids=["zero", "constant"])
def test_a_load_that_never_changes_is_forecast_as_it_is(values: np.ndarray) -> None:
    one = Panel.of({"flat": values}, (DAY, WEEK))
    forecast = Forecaster(HORIZON, rows=5000).fit(one).predict(one)
    np.testing.assert_allclose(forecast.load, values[0], atol=1e-6)


def test_too_little_past_is_said() -> None:
    one = Panel.of({"new": np.ones(20)}, (DAY, WEEK))
    with pytest.raises(ValueError, match="2 days and 12 steps"):
        Forecaster(HORIZON).fit(one)


@pytest.mark.parametrize(
    ("seasons", "values", "message"),
    [
        ((), np.ones(3), "seasons"),
        ((168, 24), np.ones(3), "ascending"),
        ((24,), np.array([1.0, np.inf]), "finite"),
    ],
)
def test_a_panel_that_makes_no_sense_is_refused(seasons: tuple[int, ...], values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Panel.of({"s": values}, seasons)


def test_origins_are_latest_first_and_leave_room_for_the_horizon(panel: Panel) -> None:
    chosen, origin = Forecaster(HORIZON).origins(panel, np.zeros(6, dtype=np.int64), panel.lengths, 6 * HORIZON * 3)
    assert (origin + HORIZON <= 600).all()
    assert [int((chosen == one).sum()) for one in range(6)] == [3] * 6
    assert origin[0] == 600 - HORIZON
