"""The benchmark of forecasts: which files it takes, how it bins, and its baselines' arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import forecast
from benchmarks.forecasts import peers
from benchmarks.forecasts.data import Competition, binned, competitions, requests
from ml.load.panel import Panel


def wide(folder: Path, name: str, rows: dict[str, list[float]]) -> None:
    longest = max(map(len, rows.values()))
    table = pd.DataFrame([[key, *row, *[np.nan] * (longest - len(row))] for key, row in rows.items()])
    table.columns = [f"V{place + 1}" for place in range(table.shape[1])]
    table.to_csv(folder / name, index=False)


def test_without_a_test_the_last_steps_are_scored_and_with_one_it_is(tmp_path: Path) -> None:
    wide(tmp_path, "Any-train.csv", {"a": [1.0] * 100, "b": [2.0] * 80})
    wide(tmp_path, "Any-test.csv", {"b": [9.0] * 12, "a": [8.0] * 12})
    (without,) = competitions([tmp_path], None, horizon=10)
    assert (without.known.tolist(), without.official) == ([90, 70], False)
    (official,) = competitions([tmp_path], tmp_path)
    assert (official.known.tolist(), official.horizon, official.official) == ([100, 80], 12, True)
    assert official.panel.read(np.array([0, 1]), np.array([100, 80])).tolist() == [8.0, 9.0]


def test_a_test_that_lacks_a_series_is_said(tmp_path: Path) -> None:
    wide(tmp_path, "train.csv", {"a": [1.0] * 100, "b": [2.0] * 80})
    wide(tmp_path, "test.csv", {"a": [8.0] * 12})
    with pytest.raises(SystemExit, match="no row for 1 series, b first"):
        competitions([tmp_path], tmp_path)


def test_an_hour_of_silence_is_a_gap_and_a_quiet_minute_is_zero(tmp_path: Path) -> None:
    ts = pd.date_range("2026-01-01", periods=4 * 3600, freq="s")
    counts = np.ones(len(ts))
    counts[600:660] = 0
    counts[7200:12_600] = 0
    pd.DataFrame({"ts": ts, "requests": counts}).to_parquet(tmp_path / "some.parquet")
    pd.DataFrame({"other": [1]}).to_parquet(tmp_path / "else.parquet")
    found = requests([tmp_path])
    assert list(found) == ["some"]
    minutes = binned(found["some"], 60).values
    assert minutes[9:12].tolist() == [60.0, 0.0, 60.0]
    assert np.isnan(minutes[121:209]).all()
    assert np.isfinite(minutes[:119]).all()


def test_naive_2_follows_a_season_and_leaves_noise_alone() -> None:
    hour = np.arange(24 * 20)
    seasonal = 100 + 50 * np.sin(2 * np.pi * hour / 24)
    noise = 100 + np.random.default_rng(0).normal(size=len(hour))
    panel = Panel.of({"seasonal": seasonal, "noise": noise}, (24, 168))
    found = peers.naive2(Competition("made", panel, panel.lengths - 48, 48, False))
    np.testing.assert_allclose(found[0], seasonal[-48:], rtol=0.02)
    np.testing.assert_allclose(found[1], noise[-49])


def test_figures_are_those_of_their_definitions() -> None:
    assert forecast.smape(np.array([[0.0, 3.0]]), np.array([[0.0, 1.0]])).tolist() == [50.0]
    quantiles = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]] * 4)
    assert forecast.coverage(quantiles, np.array([2.0, 0.5, 5.0, 1.0])) == {"coverage_80": 0.5, "coverage_95": 0.75}
    assert forecast.pinball(quantiles[:1], np.array([2.0])) == pytest.approx((0.05 + 0.1 + 0 + 0.1 + 0.05) / 5)
