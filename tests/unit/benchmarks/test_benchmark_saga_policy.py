"""The benchmark of saga policies: what it reads, how it judges, and that arms see the same world."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks._policy_breaker import Breaker
from benchmarks._policy_tuning import ARMS, BOUNDS, TUNED, chosen, policy, search
from benchmarks._policy_worlds import Shape, given, world
from benchmarks.retry_storm import a_world as storm_world
from benchmarks.retry_storm import policy as storm_policy
from benchmarks.saga_policy import result
from examples.shop.world.faults import Kind
from examples.shop.world.policy import Coming, Send, Wait
from examples.shop.world.run import run
from ml.steering.decide import Rules
from ml.steering.health import Habits

SMALL = Shape(sagas=600, horizon=300.0, patience=60.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    rows = [
        (participant, regime, milliseconds)
        for participant in ("inventory", "payment")
        for regime, factor in (("calm", 1.0), ("brownout", 5.0), ("drift", 2.0))
        for milliseconds in (factor * random.lognormal(4.5, 0.5, 400)).tolist()
    ]
    pd.DataFrame(rows, columns=["participant", "regime", "milliseconds"]).to_parquet(tmp_path / "latency.parquet")
    faults = [
        ("payment", "crash", 50_000.0, 50_060.0, 1.0),
        ("inventory", "latency", 90_000.0, 90_100.0, 4.0),
        ("payment", "sunspots", 90_000.0, 90_100.0, 4.0),
        ("nobody", "crash", 90_000.0, 90_100.0, 1.0),
    ]
    table = pd.DataFrame(faults, columns=["participant", "kind", "start", "end", "severity"])
    table.to_parquet(tmp_path / "faults.parquet")
    return tmp_path


def test_a_folder_is_read_and_its_calm_cut_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    material = given(folder)
    assert material.plan == ("inventory", "payment")
    assert [fault.kind for fault in material.faults] == [Kind.CRASH, Kind.SLOW]
    crash, slow = material.faults
    assert crash.end - crash.start == pytest.approx(60.0)
    assert slow.start - crash.end == pytest.approx(600.0)
    assert set(material.slow) == set(material.later) == {"inventory", "payment"}
    said = capsys.readouterr().out
    assert "'sunspots'" in said
    assert "nobody" in said


@pytest.mark.parametrize("form", ["us", "ns", "text", "epoch milliseconds"])
def test_times_of_a_schedule_in_other_forms(folder: Path, form: str) -> None:
    table = pd.read_parquet(folder / "faults.parquet")
    for column in ("start", "end"):
        moments = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(table[column], unit="s")
        values: dict[str, Any] = {
            "us": moments.dt.as_unit("us"),
            "ns": moments.dt.as_unit("ns"),
            "text": moments.astype(str),
            "epoch milliseconds": (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds() * 1000,
        }
        table = table.assign(**{column: values[form]})
    table.to_parquet(folder / "faults.parquet")
    assert [round(fault.end - fault.start) for fault in given(folder).faults] == [60, 100]


def test_the_scored_part_comes_after_the_developers(folder: Path) -> None:
    material = given(folder)
    past, later = (world(material, 1, SMALL, past=part) for part in (True, False))
    together = np.concatenate([past.durations["payment"], later.durations["payment"]])
    assert np.array_equal(together, material.calm["payment"])


@pytest.mark.parametrize("missing", ["latency.parquet", "faults.parquet"])
def test_a_file_that_is_missing_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(SystemExit, match=missing):
        given(folder)


def test_every_arm_meets_the_same_orders_and_isthmus_saves_most(folder: Path) -> None:
    a_world = world(given(folder), 7, SMALL, past=False)
    outcomes = {arm: run(a_world, policy(arm, {}, a_world, a_world.durations, 7), 7) for arm in ARMS}
    begun = {arm: [end.began for end in outcome.ends] for arm, outcome in outcomes.items()}
    assert all(begun[arm] == begun["static"] for arm in ARMS)
    failures = {arm: outcome.summary()["failures"] for arm, outcome in outcomes.items()}
    assert failures["static"] > 0
    assert failures["isthmus"] < failures["tuned"]


def test_the_reduction_is_paired_and_has_an_interval() -> None:
    base = {
        "sagas": 100.0,
        "calls": 5.0,
        "busy_s": 1.0,
        "p95_s": 2.0,
        "p95_all_s": 2.0,
        "compensations": 0.1,
        "cpu_s": 1.0,
        "asks": 5.0,
    }
    counts = {"static": [30, 40], "tuned": [20, 10], "breaker": [15, 5], "isthmus": [5, 5], "oracle": [0, 0]}
    figures = {arm: [{**base, "failures": float(count)} for count in counts[arm]] for arm in ARMS}
    judged = result(figures)
    assert judged["failure_reduction_vs_tuned"] == pytest.approx(1 - 10 / 30)
    assert judged["failure_reduction_ci_low"] == pytest.approx(0.5)
    assert judged["failure_reduction_ci_high"] == pytest.approx(0.75)
    assert judged["headroom_share"] == pytest.approx(20 / 30)


def test_nothing_failed_is_nothing_to_reduce() -> None:
    base = {
        "sagas": 100.0,
        "calls": 5.0,
        "busy_s": 1.0,
        "p95_s": 2.0,
        "p95_all_s": 2.0,
        "compensations": 0.1,
        "cpu_s": 1.0,
        "asks": 5.0,
    }
    judged = result({arm: [{**base, "failures": 0.0}] * 2 for arm in ARMS})
    assert judged["failure_reduction_vs_tuned"] is None
    assert judged["headroom_share"] is None


def test_the_search_keeps_within_its_bounds(folder: Path) -> None:
    class Inline:
        map = staticmethod(map)

    ticks: list[int] = []
    material = given(folder)
    shape = Shape(sagas=60, horizon=100.0, patience=30.0)
    best = search("tuned", [(material, None)], shape, trials=3, pool=Inline(), tick=lambda: ticks.append(1))  # type: ignore[arg-type]
    assert len(ticks) == 3
    assert all(BOUNDS["tuned"][name][0] <= value <= BOUNDS["tuned"][name][1] for name, value in best.items())


def test_what_ships_is_what_was_tuned() -> None:
    tuned = chosen()["isthmus"]
    assert json.loads(TUNED.read_text())["trials"] > 0
    assert {**asdict(Rules()), **asdict(Habits())}.items() >= tuned.items()


def test_retries_alone_keep_the_storm_alive_and_steering_ends_it() -> None:
    ends = {}
    for arm in ("retries", "Isthmus"):
        a_world = storm_world(1)
        outcome = run(a_world, storm_policy(arm, a_world, 1), 1)
        late = [end for end in outcome.ends if end.began > 500.0 and end.reason != "declined"]
        ends[arm] = sum(end.reason == "" for end in late) / len(late)
    assert ends["retries"] < 0.2
    assert ends["Isthmus"] > 0.95


def test_odd_schedules_and_regimes_are_read(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    rows: list[tuple[str, str | None, float]] = [("Card", None, ms) for ms in random.lognormal(4, 0.5, 50).tolist()]
    rows += [("stock", regime, factor * ms) for regime, factor in (("x", 3.0), ("y", 1.0)) for ms in (10.0, 20.0)]
    rows += [("mail", "calm", 7.0), ("mail", "calm", float("nan"))]
    pd.DataFrame(rows, columns=["participant", "regime", "milliseconds"]).to_parquet(tmp_path / "latency.parquet")
    faults = [
        ("card", "latency spike", 10.0, 20.0, 300.0),
        ("CARD", "error_rate", 30.0, 40.0, 80.0),
        ("stock", "hang", 50.0, 60.0, None),
        ("mail", "crash", 70.0, 80.0, 1.0),
        ("mail", "slowdown", 90.0, 100.0, 0.5),
        ("mail", "crash", 100.0, 100.0, 1.0),
    ]
    table = pd.DataFrame(faults, columns=["participant", "kind", "start", "end", "severity"])
    table.to_parquet(tmp_path / "faults.parquet")
    material = given(tmp_path)
    assert material.plan == ("Card", "stock", "mail")
    assert material.calm["stock"].tolist() == [0.01, 0.02], "the quickest regime is the usual one"
    spike, errors, hang, crash, slow = material.faults
    assert (spike.kind, slow.kind, slow.factor, spike.factor) == (Kind.SLOW, Kind.SLOW, 5.5, 10.0)
    assert (errors.participant, errors.share, hang.share, crash.share) == ("Card", 0.8, 1.0, 1.0)
    table.iloc[:0].to_parquet(tmp_path / "faults.parquet")
    calm = world(given(tmp_path), 1, SMALL, past=False)
    assert calm.faults == ()
    assert calm.horizon == SMALL.horizon


def test_severities_on_small_scales(folder: Path) -> None:
    def shares(*severities: float) -> list[float]:
        faults = [("payment", "error", 10.0 * at, 10.0 * at + 5, one) for at, one in enumerate(severities)]
        table = pd.DataFrame(faults, columns=["participant", "kind", "start", "end", "severity"])
        table.to_parquet(folder / "faults.parquet")
        return [fault.share for fault in given(folder).faults]

    assert shares(0.5, 1.0) == [0.5, 1.0]
    assert shares(1, 5) == [0.2, 1.0]
    assert shares(2, 8) == [0.2, 0.8]
    assert shares(12.5, 60) == [0.125, 0.6]


def test_isthmus_is_called_when_there_is_a_place_and_asks_hardly_more_than_once_a_call(folder: Path) -> None:
    a_world = world(given(folder), 7, SMALL, past=False)
    figures = run(a_world, policy("isthmus", {}, a_world, a_world.durations, 7), 7).summary()
    assert figures["asks"] < figures["calls"] + 2.0


def test_the_breaker_opens_and_tries_again(folder: Path) -> None:
    a_world = world(given(folder), 7, SMALL, past=False)
    breaker = policy("breaker", {}, a_world, a_world.durations, 7)
    assert isinstance(breaker, Breaker)
    of = Coming(1, 1, "payment", 0, 0, 1_000.0, None)
    for _ in range(20):
        breaker.ended(of, breaker.sent(of, 0.0), 0.1, "refused")
    assert isinstance(breaker.decide(of, 1.0), Wait)
    assert isinstance(breaker.decide(of, 60.0), Send), "half open"
    for _ in range(3):
        breaker.ended(of, breaker.sent(of, 60.0), 60.1, "ok")
    assert isinstance(breaker.decide(of, 60.2), Send)
