"""Unusual access: somebody new, and volumes; silence while there is too little history."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from ml.access import unusual

START = date(2026, 5, 4)
BI, ANA = ("bi", "marts.people"), ("ana", "marts.people")


def past(days: int, seed: int = 1) -> dict[tuple[str, str], dict[date, int]]:
    rng = np.random.default_rng(seed)
    return {BI: {START + timedelta(days=n): int(rng.lognormal(6, 0.3)) for n in range(days)}}


def test_a_new_reader_stands_out_after_a_week_of_history() -> None:
    assert not unusual({ANA: 5}, past(6), days=6)
    assert list(unusual({ANA: 5, BI: 400}, past(8), days=8)) == [ANA]


def test_a_volume_far_beyond_every_day_before_stands_out() -> None:
    (reason,) = unusual({BI: 500_000}, past(40), days=40)[BI]
    assert reason.startswith("volume: 500,000 rows, at most ")
    assert not unusual({BI: 500_000}, past(10), days=10), "ten days are too few"


def test_usual_days_raise_next_to_nothing() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(bool(unusual({BI: int(rng.lognormal(6, 0.3))}, past(60, seed), days=60)) for seed in range(400))
    assert alarms <= 2
