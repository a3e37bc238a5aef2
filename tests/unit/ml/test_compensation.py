"""Costs of compensation: what is learned, what it takes to leave the default, and what the past can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ml.compensation.model import CostModel, fit
from ml.compensation.offpolicy import always_default, gain
from ml.compensation.outcomes import Past, Undone
from ml.compensation.planner import MOST_STEPS, Choice, Evidence, choose
from ml.compensation.rules import Plan, Situation, rule
from ml.compensation.semantics import Rates, parse, semantics

ORDER = parse("""
saga_type: order
steps:
  - {step: reserve_stock, ways: [{way: release}]}
  - step: charge_payment
    ways: [{way: void, when: [{fact: age_seconds, at_most: 45}]}, {way: refund, yields_to: [void]}]
""")
FACTS = {"amount": 20.0, "charge_payment.age_seconds": 10.0}
RULING = rule(ORDER, Situation(("reserve_stock", "charge_payment"), FACTS))
REVERSE: Plan = (("charge_payment", "void"), ("reserve_stock", "release"))
FORWARD: Plan = REVERSE[::-1]
Cost = Callable[[Plan, dict[str, str]], list[float]]


def stock_first_is_cheaper(plan: Plan, conditions: dict[str, str]) -> list[float]:
    return [1.0, 0.5] if plan == FORWARD else [2.0, 1.5]


def stock_first_where_payment_is_strained(plan: Plan, conditions: dict[str, str]) -> list[float]:
    """Cost of each undo: a strained payment is dear when it comes first, and makes stock wait; else it is reversed."""
    if conditions["charge_payment"] == "strained":
        return [0.5, 1.5] if plan == FORWARD else [4.0, 1.5]
    return [0.5, 3.0] if plan == FORWARD else [1.0, 0.5]


def history(
    count: int, cost: Cost, *, seed: int = 0, forward: float = 0.4, at: float = 0.0, noise: float = 0.3
) -> list[Past]:
    """Return past compensations whose orders were drawn: ``forward`` is the chance of stock first."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        conditions = {"charge_payment": "strained" if random.random() < 0.4 else "calm", "reserve_stock": "calm"}
        plan = FORWARD if random.random() < forward else REVERSE
        undone = tuple(
            Undone(*one, mean + float(random.normal(0, noise)))
            for one, mean in zip(plan, cost(plan, conditions), strict=True)
        )
        chance = forward if plan == FORWARD else 1 - forward
        found.append(Past(f"s{seed}-{number}", at + number, RULING, undone, conditions, chance))
    return found


def fitted(past: list[Past]) -> CostModel:
    model = fit(past)
    assert model is not None
    return model


def chosen(model: CostModel, saga: Past) -> Plan:
    return choose(saga.ruling, model, saga.conditions).plan


def test_the_cheaper_order_is_found_and_its_cost_is_near_the_truth() -> None:
    model = fitted(history(300, stock_first_is_cheaper))
    choice = choose(RULING, model)
    assert (choice.plan, choice.decided_by) == (FORWARD, "model")
    assert choice.cost == pytest.approx(1.5, abs=0.2)
    assert choice.default_cost == pytest.approx(3.5, abs=0.2)
    assert choice.low is not None
    assert 1.5 < choice.low < 2.0 < choice.high < 2.5  # type: ignore[operator]


def test_the_order_depends_on_the_participants_condition() -> None:
    model = fitted(history(600, stock_first_where_payment_is_strained))
    assert choose(RULING, model, {"charge_payment": "strained"}).plan == FORWARD
    assert choose(RULING, model, {"charge_payment": "calm"}).plan == REVERSE


def test_little_evidence_leaves_the_default() -> None:
    assert choose(RULING, None).decided_by == "default"
    few = choose(RULING, fit(history(15, stock_first_is_cheaper)))
    assert (few.plan, few.decided_by) == (REVERSE, "default")
    never = choose(RULING, fit(history(300, stock_first_is_cheaper, forward=0.0)))
    assert (never.plan, never.why) == (REVERSE, "no other plan that was seen often enough is cheaper")
    always = choose(RULING, fit(history(300, stock_first_is_cheaper, forward=1.0)))
    assert (always.plan, always.decided_by) == (REVERSE, "default"), "what is left was never compared with"


def test_a_difference_that_is_not_sure_leaves_the_default() -> None:
    unsure = choose(RULING, fit(history(60, lambda plan, _: [1.0, 0.99 if plan == FORWARD else 1.0], noise=2.0)))
    assert unsure.plan == REVERSE


def test_recent_compensations_count_more() -> None:
    def reverse_is_cheaper(plan: Plan, conditions: dict[str, str]) -> list[float]:
        return [3.0, 1.0] if plan == FORWARD else [1.0, 1.0]

    past = history(300, reverse_is_cheaper) + history(300, stock_first_is_cheaper, seed=1, at=10_000.0)
    model = fit(past, half_life=500.0)
    assert choose(RULING, model).plan == FORWARD
    assert choose(RULING, fit(past[:300])).plan == REVERSE


def test_exploration_is_off_by_default_bounded_and_of_known_propensity() -> None:
    model, random = fitted(history(300, stock_first_is_cheaper)), np.random.default_rng(3)
    assert choose(RULING, model, random=random).propensity == 1.0
    bold = Evidence(explore=0.5, most_extra=10.0)
    unsure = fitted(history(30, lambda plan, _: [1.0, 1.0], noise=1.0))
    drawn = [choose(RULING, unsure, evidence=bold, random=random) for _ in range(400)]
    other = [one for one in drawn if one.plan == FORWARD]
    assert all(one.decided_by == "exploration" for one in other)
    assert len(other) / 400 == pytest.approx(np.mean([one.propensity for one in other]), abs=0.08)
    assert all(one.propensity >= 0.5 for one in drawn if one.plan == REVERSE)
    dear = fitted(history(30, lambda plan, _: [1.0, 1.0] if plan == REVERSE else [1.0, 9.0], noise=4.0))
    held = Evidence(explore=1.0, most_extra=0.05)
    assert {choose(RULING, dear, evidence=held, random=random).plan for _ in range(50)} == {REVERSE}


def test_many_steps_are_undone_in_the_default_order() -> None:
    steps = tuple(f"s{number}" for number in range(MOST_STEPS + 1))
    ruling = rule(semantics("undeclared"), Situation(steps))
    choice = choose(ruling, fit(history(100, stock_first_is_cheaper)))
    assert [step for step, _ in choice.plan] == list(reversed(steps))
    assert choice.decided_by == "default"


def test_a_forbidden_plan_teaches_and_is_not_chosen() -> None:
    cheap = replace(history(1, stock_first_is_cheaper)[0], undone=(Undone("charge_payment", "refund", 0.0),))
    past = history(200, stock_first_is_cheaper) + [replace(cheap, saga=str(number)) for number in range(200)]
    assert not cheap.is_admissible
    choice: Choice = choose(RULING, fit(past))
    assert choice.plan == FORWARD


def test_a_cost_that_is_no_number_is_refused() -> None:
    (one,) = history(1, stock_first_is_cheaper)
    with pytest.raises(ValueError, match="not a finite number"):
        fit([replace(one, undone=(Undone("charge_payment", "void", float("nan")),))])


def test_rates_add_time_retries_and_a_persons_help_to_the_fee() -> None:
    rates = Rates(per_second=0.1, per_retry=0.5, by_hand=7.0)
    assert rates.cost(1.0, 10.0, 3, by_hand=True) == pytest.approx(1 + 1 + 1 + 7)


# What the past can tell


def confounded(count: int, *, logged: bool, seed: int = 0) -> list[Past]:
    """Return a past whose choosers went stock first mostly where payment was strained, which costs more anyway."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        strained = bool(random.random() < 0.5)
        conditions = {"charge_payment": "strained" if strained else "calm"}
        chance = 0.8 if strained else 0.1
        forward = bool(random.random() < chance)
        plan = FORWARD if forward else REVERSE
        mean = (6.0 if strained else 2.0) - (1.0 if forward else 0.0)
        undone = tuple(Undone(*one, mean / 2 + float(random.normal(0, 0.3))) for one in plan)
        propensity = (chance if forward else 1 - chance) if logged else None
        found.append(Past(str(number), float(number), RULING, undone, conditions, propensity))
    return found


@pytest.mark.parametrize("logged", [True, False])
def test_the_gain_is_right_where_choices_were_confounded(logged: bool) -> None:
    past = confounded(1_200, logged=logged)
    costs = {plan: np.mean([one.cost for one in past if one.plan == plan]) for plan in (FORWARD, REVERSE)}
    assert costs[FORWARD] > costs[REVERSE], "the naive comparison has the wrong sign"
    found = gain(past, chosen)
    truth = float(np.mean([1.0 if one.plan == REVERSE else 0.0 for one in past]))
    assert found.low is not None
    assert found.low < truth < found.high  # type: ignore[operator]
    assert found.saving == pytest.approx(truth, abs=0.1)
    assert found.supported == 1.0
    assert (found.problems == ()) == logged, "estimated propensities are said"
    against = gain(past, chosen, against=always_default)
    assert against.low is not None
    assert against.low < 1.0 < against.high, "stock first saves one in each saga"  # type: ignore[operator]


def test_without_support_nothing_is_claimed() -> None:
    def forward(_: CostModel, saga: Past) -> Plan:
        return FORWARD

    unseen = gain(history(300, stock_first_is_cheaper, forward=0.0), forward)
    assert (unseen.saving, unseen.supported) == (None, 0.0)
    assert "support is missing for 100%" in unseen.problems[0]
    assert gain(history(5, stock_first_is_cheaper), chosen).problems == ("only 5 past compensations",)
    same = gain(history(300, stock_first_is_cheaper, forward=0.0), always_default)
    assert same.saving == pytest.approx(0.0, abs=0.05)
    assert same.as_dict()["method"] == "doubly robust, cross-fitted"


def test_a_propensity_that_is_no_probability_is_refused() -> None:
    past = history(20, stock_first_is_cheaper)
    with pytest.raises(ValueError, match="propensity"):
        gain([replace(past[0], propensity=0.0), *past[1:]], chosen)
