"""Retry budgets: never more retries than the share allows, in any window."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.client.budget import SLOTS, RetryBudget, RetryBudgets


def test_requests_earn_retries_and_the_minimum_is_always_there() -> None:
    budget = RetryBudget(0.1, 60.0, minimum=2)
    assert [budget.withdraw(0.0) for _ in range(3)] == [True, True, False]
    for _ in range(30):
        budget.deposit(1.0)
    assert [budget.withdraw(1.0) for _ in range(4)] == [True, True, True, False]
    assert budget.balance(1.0) == pytest.approx(0.0)


def test_what_was_spent_comes_back_when_it_is_older_than_the_window() -> None:
    budget = RetryBudget(0.0, 20.0, minimum=1)
    assert budget.withdraw(100.0)
    assert not budget.withdraw(119.9)
    assert budget.withdraw(100.0 + 20.0 + 20.0 / SLOTS)


def test_old_requests_earn_nothing() -> None:
    budget = RetryBudget(1.0, 10.0, minimum=0)
    budget.deposit(0.0)
    assert not budget.withdraw(11.0)
    budget.deposit(11.0)
    assert budget.withdraw(11.0)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    budget = RetryBudget(0.0, 10.0, minimum=1)
    assert budget.withdraw(1_000.0)
    assert not budget.withdraw(0.0)
    assert not budget.withdraw(1_001.0)


@given(
    ratio=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    minimum=st.sampled_from([0.0, 1.0, 2.5]),
    calls=st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=200),
    window=st.sampled_from([1.0, 7.0, 60.0]),
)
def test_in_the_window_before_each_retry_there_are_never_too_many(
    ratio: float, minimum: float, calls: list[tuple[float, bool]], window: float
) -> None:
    budget, now = RetryBudget(ratio, window, minimum), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for pause, retry in calls:
        now += pause
        if not retry:
            requests.append(now)
            budget.deposit(now)
        elif budget.withdraw(now):
            retries.append(now)
            asked = sum(at > now - window for at in requests)
            assert sum(at > now - window for at in retries) <= ratio * asked + minimum + 1e-6


@pytest.mark.parametrize("terms", [(-0.1, 60, 1), (math.nan, 60, 1), (0.1, 0, 1), (0.1, math.inf, 1), (0.1, 60, -1)])
def test_terms_that_are_none_are_refused(terms: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="needed"):
        RetryBudget(*terms)
    with pytest.raises(ValueError, match="no time"):
        RetryBudget(0.1, 60).withdraw(math.nan)


def test_participants_have_budgets_of_their_own_that_follow_the_advice() -> None:
    budgets = RetryBudgets(minimum=1)
    assert budgets.of("payment", 0.0, 60.0).withdraw(0.0)
    assert budgets.of("inventory", 0.0, 60.0).withdraw(0.0)
    assert not budgets.of("payment", 0.0, 60.0).withdraw(1.0)
    for _ in range(10):
        budgets.of("payment", 0.0, 60.0).deposit(2.0)
    assert budgets.of("payment", 0.5, 60.0).withdraw(2.0), "a new ratio holds at once, for what was counted too"
    assert budgets.of("payment", 0.5, 30.0).window_seconds == pytest.approx(30.0)
