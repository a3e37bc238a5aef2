"""Declarations and rules of compensation: what is refused, what is open, and that no plan ever breaks a rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.compensation.model import CostModel, Term, terms
from ml.compensation.planner import Evidence, cheapest, choose, plans
from ml.compensation.rules import Ruling, Situation, arranged, closing, default_plan, rule, violations
from ml.compensation.semantics import (
    COMPENSATE,
    Condition,
    DeclarationInvalid,
    Order,
    Semantics,
    Undo,
    Way,
    parse,
    semantics,
)

ORDER = semantics("order")
DONE = ("reserve_stock", "charge_payment")
STOCK, VOID, REFUND = ("reserve_stock", "release"), ("charge_payment", "void"), ("charge_payment", "refund")


def ruled(age: float | None = 10.0, done: tuple[str, ...] = DONE, amount: float | None = 20.0, **more: Any) -> Ruling:
    facts: dict[str, Any] = {} if age is None else {"charge_payment.age_seconds": age}
    if amount is not None:
        facts["amount"] = amount
    return rule(ORDER, Situation(done, facts, **more))


# Declarations

PAY = "  - step: pay\n    ways: [{way: void}, {way: refund, yields_to: [void]}]\n"
SHIP = "  - step: ship\n    ways: [{way: recall}]\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("saga_type: [", "it is no YAML"),
        ("steps: []", "saga_type: Field required"),
        ("saga_type: a\nsteps: []\nstep: []", "step: Extra inputs are not permitted"),
        (f"saga_type: a\nsteps:\n{PAY}{PAY}", "a step is declared twice"),
        ("saga_type: a\nsteps:\n  - {step: pay}", "pay: has no way, and is not final"),
        ("saga_type: a\nsteps:\n  - {step: pay, pivot: true, ways: [{way: void}]}", "pay: is final, and has ways"),
        ("saga_type: a\nsteps:\n  - {step: pay, ways: [{way: void}, {way: void}]}", "a way is declared twice"),
        ("saga_type: a\nsteps:\n  - {step: pay, ways: [{way: void, yields_to: [x]}]}", "void yields to x"),
        (
            "saga_type: a\nsteps:\n  - {step: pay, ways: [{way: v, yields_to: [r]}, {way: r, yields_to: [v]}]}",
            "ways that yield in a circle",
        ),
        (f"saga_type: a\nsteps:\n{PAY}order: [{{first: pay, then: fly, because: b}}]", "fly is no step of a"),
        (
            f"saga_type: a\nsteps:\n{PAY}{SHIP}"
            "order: [{first: pay, then: ship, because: b}, {first: ship, then: pay, because: b}]",
            "order in a circle",
        ),
        (f"saga_type: a\nsteps:\n{PAY}order: [{{first: pay, then: pay, because: b}}]", "order in a circle"),
        ("saga_type: a\nsteps:\n  - {step: p, ways: [{way: v, when: [{fact: f}]}]}", "either equals, or at_least"),
        ("saga_type: a\nrates: {by_hand: -1}", "rates/by_hand: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_problem(text: str, problem: str) -> None:
    with pytest.raises(DeclarationInvalid, match=r"^a\.yml: ") as caught:
        parse(text, name="a.yml")
    assert problem in str(caught.value)


def test_a_type_without_a_declaration_is_undone_in_reverse_by_one_way() -> None:
    ruling = rule(semantics("nobody declared this"), Situation(("a", "b")))
    assert default_plan(ruling) == (("b", COMPENSATE), ("a", COMPENSATE))


# What is open


def test_a_payment_is_voided_while_that_is_possible_and_refunded_only_afterwards() -> None:
    assert ruled(10).ways["charge_payment"] == ("void",)
    assert ruled(10).closed["charge_payment"] == ("never refund while void is possible",)
    assert ruled(60).ways["charge_payment"] == ("refund",)
    assert ruled(None).ways["charge_payment"] == ("void",), "the provider refuses it without harm"
    assert ruled(None).closed["charge_payment"] == ("never refund while void may be possible",)


def test_a_way_that_is_soon_closed_is_known() -> None:
    def soon(age: float, seconds: float) -> frozenset[str]:
        return closing(ORDER, Situation(DONE, {"amount": 20.0, "charge_payment.age_seconds": age}), seconds)

    assert soon(10, 30) == frozenset()
    assert soon(20, 30) == {"charge_payment"}
    assert soon(60, 30) == frozenset(), "a refund stays possible"


def test_a_way_that_must_not_be_asked_twice_waits_for_a_person() -> None:
    ruling = ruled(60, tried=frozenset({REFUND}))
    assert ruling.ways == {"reserve_stock": ("release", "let_expire")}
    assert "must not be asked twice" in ruling.held["charge_payment"]
    assert ruled(10, tried=frozenset({VOID})).ways["charge_payment"] == ("void",)


def test_a_person_decides_on_large_and_on_unknown_amounts() -> None:
    assert ruled(amount=9_000).held == {"charge_payment": "amount is at least 5000"}
    assert ruled(amount=None).held == {"charge_payment": "amount is unknown"}


def test_what_waits_for_a_person_holds_what_comes_after_it() -> None:
    ruling = ruled(done=(*DONE, "send_confirmation"), tried=frozenset({("send_confirmation", "send_correction")}))
    assert set(ruling.held) == {"charge_payment", "send_confirmation"}
    assert "send_confirmation goes before it" in ruling.held["charge_payment"]
    assert default_plan(ruling) == (STOCK,)


def test_what_may_never_have_been_done_is_undone_by_what_does_no_harm() -> None:
    late = ruled(60, unsure=frozenset({"charge_payment"}))
    assert "charge_payment" in late.held, "a refund would give away what was never taken"
    assert ruled(None, unsure=frozenset({"charge_payment"})).ways["charge_payment"] == ("void",)
    left = ruled(done=(*DONE, "send_confirmation"), unsure=frozenset({"send_confirmation"}))
    assert default_plan(left) == (VOID, STOCK)
    assert left.held == {}


def test_past_the_pivot_nothing_is_undone_and_what_is_not_declared_is_for_a_person() -> None:
    pivot = parse("saga_type: a\nsteps:\n  - {step: pay, ways: [{way: void}]}\n  - {step: ship, pivot: true}")
    assert default_plan(rule(pivot, Situation(("pay", "ship")))) == ()
    assert default_plan(rule(pivot, Situation(("pay",)))) == (("pay", "void"),)
    assert rule(pivot, Situation(("pay", "other"))).held == {"other": "nothing is declared for other"}


def test_the_order_nearest_to_what_is_wanted_keeps_the_rules() -> None:
    ruling = ruled(done=(*DONE, "send_confirmation"))
    correction = ("send_confirmation", "send_correction")
    assert default_plan(ruling) == (correction, VOID, STOCK)
    assert arranged(ruling, [VOID, STOCK, correction]) == (STOCK, correction, VOID)
    with pytest.raises(ValueError, match="lacks a step"):
        arranged(ruling, [VOID])


def test_the_check_of_a_plan_finds_each_breach() -> None:
    young = Situation((*DONE, "send_confirmation"), {"amount": 1.0, "charge_payment.age_seconds": 5.0})
    found = violations(ORDER, young, (REFUND, ("send_confirmation", "send_correction"), ("reserve_stock", "burn")))
    assert found == [
        "charge_payment is undone by refund while void may be possible",
        "burn is no way of reserve_stock",
        "charge_payment is undone before send_confirmation",
    ]
    old = Situation(DONE, {"amount": 1.0, "charge_payment.age_seconds": 500.0}, frozenset({REFUND}))
    assert "void of charge_payment is not possible, or not known to be" in violations(ORDER, old, (VOID,))
    assert "refund of charge_payment is asked twice" in violations(ORDER, old, (REFUND,))
    assert "a step is undone twice" in violations(ORDER, old, (STOCK, STOCK))
    assert "ship was not done" in violations(ORDER, old, (("ship", "recall"),))


# Rules win, whatever the model says

FACTS = ("settled", "amount")
conditions = st.one_of(
    st.builds(Condition, fact=st.just("settled"), equals=st.booleans()),
    st.builds(Condition, fact=st.just("amount"), at_least=st.sampled_from([1.0, 5.0])),
    st.builds(Condition, fact=st.just("amount"), at_most=st.sampled_from([3.0, 7.0])),
)


@st.composite
def undos(draw: st.DrawFn, step: str) -> Undo:
    kind = draw(st.sampled_from(["ways"] * 8 + ["pivot", "irreversible"]))
    if kind != "ways":
        return Undo(step=step, **{kind: True})
    names = [f"way{at}" for at in range(draw(st.integers(1, 3)))]
    ways = tuple(
        Way(
            way=name,
            when=tuple(draw(st.lists(conditions, max_size=2))),
            yields_to=tuple(draw(st.lists(st.sampled_from(names[:at]), unique=True))) if at else (),
            safe_to_try=draw(st.booleans()),
            idempotent=draw(st.booleans()),
        )
        for at, name in enumerate(names)
    )
    return Undo(
        step=step,
        ways=ways,
        hold_when=tuple(draw(st.lists(conditions, max_size=1))),
        if_unsure=draw(st.sampled_from(["undo", "leave", "hold"])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Semantics, Situation, dict[str, str]]:
    steps = [f"s{at}" for at in range(draw(st.integers(1, 4)))]
    pairs = [pair for pair in pairwise(draw(st.permutations(steps))) if draw(st.booleans())]
    declared = Semantics(
        saga_type="any",
        steps=tuple(draw(undos(step)) for step in steps),
        order=tuple(Order(first=first, then=then, because="a rule") for first, then in pairs),
    )
    done = draw(st.lists(st.sampled_from([*steps, "unknown"]), unique=True))
    facts: dict[str, Any] = {}
    if draw(st.booleans()):
        facts["settled"] = draw(st.booleans())
    if draw(st.booleans()):
        facts["amount"] = draw(st.floats(0, 10) | st.just(float("nan")))
    tried = frozenset(draw(st.lists(st.tuples(st.sampled_from(steps), st.sampled_from(["way0", "way1"])), max_size=2)))
    unsure = frozenset(draw(st.lists(st.sampled_from(done), max_size=2))) if done else frozenset[str]()
    health = {step: draw(st.sampled_from(["calm", "strained"])) for step in steps}
    return declared, Situation(tuple(done), facts, tried, unsure), health


def opinionated(ruling: Ruling, health: dict[str, str], seed: int) -> CostModel:
    """Return a model with a strong, arbitrary opinion on everything, also on what the rules forbid."""
    random, found = np.random.default_rng(seed), dict[Term, int]()
    for plan in plans(ruling):
        for at, (step, way) in enumerate(plan):
            for term in terms(step, way, [one for one, _ in plan[:at]], health):
                found.setdefault(term, len(found))
    size = max(1, len(found))
    return CostModel(found, random.normal(0, 1e3, size), np.eye(size), np.full(size, 1e6), 10)


@settings(max_examples=100, deadline=None)
@given(world=worlds(), seed=st.integers(0, 2**32 - 1))
def test_no_plan_ever_breaks_a_rule(world: tuple[Semantics, Situation, dict[str, str]], seed: int) -> None:
    declared, situation, health = world
    ruling = rule(declared, situation)
    model, random = opinionated(ruling, health, seed), np.random.default_rng(seed)
    left = set(situation.done) - ruling.ways.keys() - ruling.held.keys()
    assert left <= situation.unsure, "each step that was done is undone, or a person decides"
    for evidence in (Evidence(), Evidence(explore=1.0, most_extra=1e9), Evidence(min_seen=1e9)):
        choice = choose(ruling, model, health, evidence=evidence, random=random)
        for plan in (choice.plan, choice.default):
            assert violations(declared, situation, plan) == []
            assert {step for step, _ in plan} == set(ruling.ways), "nothing that may be undone is forgotten"
        assert 0 < choice.propensity <= 1
    every = list(plans(ruling))
    assert len(set(every)) == len(every)
    assert not any(violations(declared, situation, plan) for plan in every)
    best = cheapest(ruling, model, health)
    assert best is not None
    assert model.cost(best, health) == pytest.approx(min(model.cost(plan, health) for plan in every)), "exact search"
