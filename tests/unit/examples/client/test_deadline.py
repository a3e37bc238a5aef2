"""Deadlines: what is left, how it is passed on, and when a call is not worth sending."""

from __future__ import annotations

import math

import pytest

from examples.client.deadline import HEADER, Deadline, ExpectedDuration


def test_a_deadline_is_passed_on_as_what_is_left() -> None:
    told = Deadline.within(2.0, now=100.0).header(now=101.5)
    assert told == {HEADER: "500"}
    assert Deadline.from_header(told[HEADER], now=7.0).remaining(7.1) == pytest.approx(0.4)
    assert Deadline().header(now=0.0) == {}


@pytest.mark.parametrize("value", [None, "", "soon", "nan", "inf", "-1", "1e300"])
def test_a_header_that_says_nothing_is_no_deadline(value: str | None) -> None:
    assert Deadline.from_header(value, now=0.0).remaining(0.0) == math.inf


def test_a_call_that_cannot_make_it_is_not_worth_sending() -> None:
    deadline = Deadline.within(1.0, now=0.0)
    assert deadline.allows(0.9, now=0.0)
    assert deadline.allows(None, now=0.99)
    assert not deadline.allows(0.9, now=0.2)
    assert not deadline.allows(None, now=1.0)
    assert Deadline().allows(1e9, now=0.0)
    assert deadline.earlier(0.5, now=0.0).at == 0.5
    assert deadline.earlier(5.0, now=0.0).at == 1.0


def test_the_expected_duration_is_that_of_late_calls_and_is_forgotten() -> None:
    expected = ExpectedDuration(memory_seconds=10.0, enough=3)
    for number, seconds in enumerate((0.1, 9.0, 0.2)):
        assert expected.value(number) is None
        expected.observe(seconds, number)
    assert expected.value(3.0) == 0.2
    assert expected.value(10.5) is None, "two are left, which is not enough"


def test_shedding_ends_by_itself() -> None:
    """While nothing is sent nothing is measured: what was measured in the brown-out must not hold for ever."""
    expected, sent = ExpectedDuration(memory_seconds=10.0, enough=3), []
    for tick in range(40):
        if Deadline.within(1.0, now=tick).allows(expected.value(tick), now=tick):
            sent.append(tick)
            expected.observe(5.0 if tick < 10 else 0.1, tick)
    assert sent[:3] == [0, 1, 2]
    assert sent[-1] == 39
    assert len(sent) > 20


def test_bounds_of_an_estimate_are_checked() -> None:
    with pytest.raises(ValueError, match="needed"):
        ExpectedDuration(enough=0)
