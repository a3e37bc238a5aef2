"""Steering: limits that follow what a participant bears, probes, deadlines first."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.steering.decide import Rules, Steering
from ml.steering.health import Habits, Health, Outcome
from ml.steering.line import Line

QUICK = Habits(memory=8.0, tail=0.985, pace=0.2, cut=0.6, longest=20.0)
"""Figures that follow soon: tests hold whatever was tuned."""


def steering(**rules: float) -> Steering:
    return Steering({"payment": 1.0}, lambda: 0.5, rules=Rules(**rules), habits=QUICK)


def feed(health: Health, outcome: Outcome, times: int, *, at: float = 0.0, took: float = 0.1) -> float:
    for _ in range(times):
        ticket = health.sent(at)
        at += took
        health.ended(ticket, at, outcome)
    return at


def test_the_time_out_grows_where_attempts_are_cut_and_comes_back() -> None:
    health = Health(QUICK, 1.0)
    at = feed(health, "timed_out", 10, took=1.0)
    high = health.timeout
    assert high > 4.0
    feed(health, "ok", 2_000, at=at)
    assert health.timeout < 1.1


def test_the_time_out_has_bounds() -> None:
    health = Health(replace(QUICK, longest=8.0), 1.0)
    feed(health, "timed_out", 500, took=1.0)
    assert health.timeout == pytest.approx(8.0)


def test_the_share_of_cut_attempts_is_the_promised_one() -> None:
    random = np.random.default_rng(4)
    health, cut, at = Health(replace(QUICK, pace=0.1), 4.0), 0, 0.0
    durations = random.lognormal(0.0, 1.0, 20_000)
    for took in durations.tolist():
        ticket, limit = health.sent(at), health.timeout
        health.ended(ticket, at + min(took, limit), "timed_out" if took > limit else "ok")
        cut += took > limit
        at += 1.0
    assert cut / len(durations) == pytest.approx(1 - QUICK.tail, abs=0.002)


def test_errors_say_nothing_of_what_it_bears() -> None:
    health = Health(QUICK, 1.0)
    feed(health, "error", 50)
    assert health.limit == QUICK.first_limit
    assert health.success < 0.01


def test_a_burst_of_time_outs_cuts_the_limit_once() -> None:
    health = Health(replace(QUICK, cut=0.5, first_limit=16.0), 1.0)
    tickets = [health.sent(0.0) for _ in range(16)]
    for ticket in tickets[:8]:
        health.ended(ticket, 1.0, "timed_out")
    assert health.limit == pytest.approx(8.0)


def test_the_limit_recovers_from_one() -> None:
    health = Health(QUICK, 1.0)
    feed(health, "refused", 60)
    assert health.limit < 2.0
    at = 100.0
    for _ in range(12):
        tickets = [health.sent(at) for _ in range(int(health.limit))]
        at += 0.1
        for ticket in tickets:
            health.ended(ticket, at, "ok")
    assert health.limit > 5.0


def test_an_attempt_that_was_cut_short_tells_nothing() -> None:
    health = Health(QUICK, 1.0)
    ticket = health.sent(0.0, left=0.01)
    health.ended(ticket, 0.01, "timed_out")
    assert (health.success, health.stretch, health.limit) == (1.0, 0.0, QUICK.first_limit)


def test_an_outage_holds_all_but_a_probe() -> None:
    steer = steering(probe=1.0, hopeless=0.06)
    at = feed(steer.health["payment"], "refused", 60, took=0.01)
    moves = [steer.decide("payment", saga, at + 2.0, deadline=at + 300, attempts=1, asked=1).what for saga in range(20)]
    assert moves[0] == "send"
    ticket = steer.sent("payment", at + 2.0)
    later = [steer.decide("payment", saga, at + 2.1, deadline=at + 300, attempts=1, asked=1) for saga in range(1, 20)]
    assert {move.what for move in later} == {"wait"}
    steer.ended("payment", ticket, at + 2.2, "ok")
    assert steer.health["payment"].success > Rules().hopeless


def test_the_earliest_deadlines_go_first() -> None:
    steer = steering(slack=1.0)
    steer.health["payment"].limit = 4.0
    busy = [steer.sent("payment", 0.0) for _ in range(4)]
    deadlines = {1: 90.0, 2: 30.0, 3: 60.0, 4: 40.0}
    assert {_asks(steer, saga, deadlines, asked=0) for saga in deadlines} == {"wait"}
    steer.ended("payment", busy.pop(), 0.1, "ok")
    steer.ended("payment", busy.pop(), 0.1, "ok")
    steer.health["payment"].limit = 4.0
    assert [saga for saga in (1, 3, 4, 2) if _asks(steer, saga, deadlines, asked=1) == "send"] == [4, 2]


def test_an_idle_place_goes_to_whoever_asks() -> None:
    steer = steering(slack=1.0)
    steer.health["payment"].limit = 1.0
    busy, deadlines = steer.sent("payment", 0.0), {1: 90.0, 2: 30.0}
    assert {_asks(steer, saga, deadlines, asked=0) for saga in deadlines} == {"wait"}
    steer.ended("payment", busy, 0.1, "ok")
    assert _asks(steer, 1, deadlines, asked=1) == "send"


def _asks(steer: Steering, saga: int, deadlines: dict[int, float], *, asked: int) -> str:
    return steer.decide("payment", saga, 0.2, deadline=deadlines[saga], attempts=0, asked=asked).what


def test_who_cannot_be_in_time_is_given_up() -> None:
    steer = Steering({"payment": 1.0, "bank": 40.0}, lambda: 0.5, rules=Rules(late=1.0))
    assert steer.decide("payment", 1, 0.0, deadline=5.0, attempts=0, asked=0, then=["bank"]).what == "stop"
    assert steer.decide("payment", 1, 0.0, deadline=5.0, attempts=0, asked=0).what == "send"


def test_a_further_attempt_waits_longer_where_fewer_succeed() -> None:
    steer = steering()
    before = steer.decide("payment", 1, 0.0, deadline=300.0, attempts=1, asked=0).seconds
    feed(steer.health["payment"], "error", 6)
    assert steer.decide("payment", 1, 0.0, deadline=300.0, attempts=1, asked=0).seconds > 1.5 * before


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100), st.booleans()), max_size=200))
def test_a_line_keeps_each_once_and_in_order(steps: list[tuple[int, float, bool]]) -> None:
    line, known = Line(), dict[int, float]()
    for saga, deadline, leaves in steps:
        if leaves:
            line.leave(saga)
            known.pop(saga, None)
        else:
            known.setdefault(saga, deadline)
            before = line.join(saga, deadline)
            assert before == sum((d, s) < (known[saga], saga) for s, d in known.items())
    assert line.order == sorted((d, s) for s, d in known.items())
    line.expire(50.0)
    assert all(deadline >= 50.0 for deadline, _ in line.order)
    assert {saga for _, saga in line.order} == set(line.places)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "declined", "error", "refused", "timed_out"]), st.floats(0, 30)), max_size=300
    )
)
def test_figures_stay_within_bounds(course: list[tuple[Outcome, float]]) -> None:
    health, at = Health(QUICK, 2.0), 0.0
    for outcome, took in course:
        ticket = health.sent(at)
        health.ended(ticket, at + took, outcome)
        at += took / 2
        assert 0.0 <= health.success <= 1.0
        assert health.limit >= 1.0
        assert math.exp(-1.0) * 2.0 - 1e-9 <= health.timeout <= QUICK.longest * 2.0 + 1e-9
        assert health.flying == 0
