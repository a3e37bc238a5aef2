"""The router's memory, files and threads stay as they are; the line that says so is tested on what is known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.load.bench import KAFKA
from tests.load.router.memory import Result, run, trend
from tests.load.router.report import dated, write

SEED = 20_261_124
MB = 1e6


def test_a_line_knows_growth_from_noise() -> None:
    draw, seconds = np.random.default_rng(7), np.arange(480.0)
    # Noise that wanders, as memory does: neighbouring samples are alike.
    wander = np.convolve(draw.normal(0, 0.2 * MB, 500), np.ones(21) / 21, "valid")[:480]
    flat = trend(seconds.tolist(), (100 * MB + wander).tolist())
    leaking = trend(seconds.tolist(), (100 * MB + wander + 5_000 * seconds).tolist())
    assert flat.flat
    assert not leaking.flat
    assert abs(leaking.slope - 5_000) < leaking.half + 500


@pytest.mark.embedded
def test_no_gross_leak(kafka_bootstrap: str, tmp_path: Path) -> None:
    result = run(kafka_bootstrap, tmp_path, seed=SEED, minutes=0.25, warm=6.0, days=0.2)
    # Over 30,000 records go by in the time measured; each held for ever would be over 40 MB, while warming up is 10.
    assert result.rss.growth < 20 * MB, result.rss
    assert_steady(result)


def assert_steady(result: Result) -> None:
    assert max(result.samples.files) - min(result.samples.files) <= 4  # a connection that is being asked through
    assert max(result.samples.threads) - min(result.samples.threads) <= 2


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get(KAFKA), reason=f"{KAFKA} names no real Kafka (make soak starts one)")
def test_a_day_of_the_shop_in_ten_minutes_leaves_memory_flat(tmp_path: Path) -> None:
    result = run(os.environ[KAFKA], tmp_path, seed=SEED, minutes=10.0, warm=150.0)
    rss, samples = result.rss, result.samples
    rows = {
        "Date, seed, machine": dated(result.seed, result.machine),
        "Sent": f"{result.replay.sent:,} records, a day of the shop in {result.minutes:.0f} minutes, 10% duplicates",
        "Resident memory, first to last sample after the warm-up": f"{samples.rss[0] / MB:.1f} to "
        f"{samples.rss[-1] / MB:.1f} MB ({result.warm:.0f} s of warm-up)",
        "Its slope, 95% interval": f"{rss.slope * 3600 / MB:+.2f} ± {rss.half * 3600 / MB:.2f} MB an hour",
        "Rise over the time measured": f"{rss.growth / 1e3:+,.0f} kB, at most {rss.most / 1e3:+,.0f} kB "
        f"({rss.most / rss.mean:.2%} of what it holds)",
        "Open files": f"{min(samples.files):.0f} to {max(samples.files):.0f}",
        "Threads": f"{min(samples.threads):.0f} to {max(samples.threads):.0f}",
    }
    write("router-memory", rows)
    assert rss.flat, rss
    assert_steady(result)
    assert trend(samples.seconds, samples.files).growth < 1
    assert trend(samples.seconds, samples.threads).growth < 1
