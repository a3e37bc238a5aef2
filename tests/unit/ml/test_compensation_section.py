"""From events to what is to be undone and to the policy's section, and back to the plan of one saga."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from events.catalogue import ACTIONS
from events.schemas import action_schema
from ml.compensation.course import STRAINED, Told, history, standing
from ml.compensation.section import LEAST_SEEN, learned, planned
from ml.compensation.semantics import semantics
from ml.sagas.spec import NAN, SagaEvent

ORDER = semantics("order")
SECOND = 1_000_000
PARTICIPANTS = {"reserve_stock": "inventory", "charge_payment": "payment", "send_confirmation": "notification"}


def event(step: str, status: str, second: float, **more: Any) -> SagaEvent:
    return SagaEvent("s", "step", round(second * SECOND), step, PARTICIPANTS[step], status, attempt=1, **more)


def course(*, strained: bool = False, amount: float = 20.0, last: str = "failed") -> list[SagaEvent]:
    """A saga that reserved at 2 s, charged at 10 s and could not confirm at 30 s."""
    return [
        SagaEvent("s", "started", 0, amount=amount),
        *([event("reserve_stock", "failed", 1)] if strained else []),
        event("reserve_stock", "completed", 2),
        event("charge_payment", "completed", 10),
        event("send_confirmation", last, 30),
    ]


def told(
    saga: int, plan: list[tuple[str, str]], fees: list[float], *, strained: bool = False, **more: Any
) -> list[Told]:
    before = [Told(replace(one, saga_id=str(saga))) for one in course(strained=strained)]
    undone = [
        Told(
            replace(event(step, "compensated", 31 + at, duration_ms=100.0), saga_id=str(saga)),
            {"way": way, "fee": fee, "propensity": 0.5, **more},
        )
        for at, ((step, way), fee) in enumerate(zip(plan, fees, strict=True))
    ]
    return [*before, *undone]


REVERSE = [("charge_payment", "void"), ("reserve_stock", "release")]


def test_a_saga_stands_where_its_events_say() -> None:
    stood = standing(ORDER, course(strained=True), now_us=50 * SECOND)
    assert stood.situation.done == ("reserve_stock", "charge_payment")
    assert stood.situation.facts == {
        "amount": 20.0,
        "reserve_stock.age_seconds": 48.0,
        "charge_payment.age_seconds": 40.0,
    }
    assert stood.conditions == {"reserve_stock": STRAINED, "charge_payment": "calm, closing"}, "voided for 5 s more"
    assert standing(ORDER, course(), now_us=20 * SECOND).conditions["charge_payment"] == "calm"
    assert standing(ORDER, course(last="timed_out"), now_us=0).situation.unsure == {"send_confirmation"}
    undone = [*course(), event("charge_payment", "compensated", 31)]
    assert standing(ORDER, undone, now_us=0).situation.done == ("reserve_stock",)


def test_the_past_is_read_as_it_stood_when_undoing_began() -> None:
    late = told(
        1, [("reserve_stock", "release"), ("charge_payment", "refund")], [0.1, 0.9], tries=3, planned_way="void"
    )
    late[-2] = replace(late[-2], attributes={"way": "release", "fee": 0.1, "by_hand": True, "propensity": 0.3})
    read = history(ORDER, [late])
    (past,) = read.past
    assert past.ruling.ways["charge_payment"] == ("void",), "twenty seconds after the charge"
    assert past.plan == (("reserve_stock", "release"), ("charge_payment", "void")), (
        "what was chosen, not what came of it"
    )
    rates = ORDER.rates
    assert [one.cost for one in past.undone] == pytest.approx(
        [0.1 + 0.1 * rates.per_second + rates.by_hand, 0.9 + 0.1 * rates.per_second + 2 * rates.per_retry]
    )
    assert (past.propensity, read.left_out) == (0.3, {})


def test_what_cannot_be_learned_from_is_counted() -> None:
    whole = told(1, REVERSE, [0.1, 0.1])
    wordless = [replace(one, attributes={}) for one in whole]
    words = [replace(one, attributes={**one.attributes, "fee": "free"}) for one in whole]
    read = history(ORDER, [whole, whole[:-1], whole[:4], wordless, words])
    assert len(read.past) == 1
    assert read.left_out == {
        "other steps were undone than were done": 1,
        "nothing was undone": 1,
        "the way is not told": 1,
        "fee, tries or duration are no numbers": 1,
    }
    strange = [replace(one, attributes={**one.attributes, "propensity": 7}) for one in whole]
    assert history(ORDER, [strange]).past[0].propensity is None


@pytest.fixture(scope="module")
def section() -> dict[str, Any]:
    """Where inventory is strained, a release fails often; else it is cheap."""
    random, sagas = np.random.default_rng(0), []
    for number in range(400):
        strained, expire = number % 2 == 0, bool(random.random() < 0.4)
        fee = 1.0 if expire else 4.0 if strained else 0.1
        plan = [("charge_payment", "void"), ("reserve_stock", "let_expire" if expire else "release")]
        sagas.append(told(number, plan, [0.05, fee + float(random.normal(0, 0.2))], strained=strained))
    found = learned(history(ORDER, sagas))
    assert found is not None
    return found


def test_the_section_has_the_form_of_the_policys_schema(section: dict[str, Any]) -> None:
    import jsonschema_rs

    assert "saga_policy" in ACTIONS
    validator = jsonschema_rs.validator_for(action_schema("saga_policy"))
    action = {"saga_type": "order", "steps": []}
    validator.validate({**action, "compensation": section})
    validator.validate(action)  # an old one stays valid
    assert not validator.is_valid({**action, "compensation": {**section, "more": 1}})
    assert section["gain"]["saving"] == pytest.approx(1.5, abs=0.2), "three saved in every other saga"
    assert section["past"] == 400
    assert learned(history(ORDER, [])) is None


def test_a_saga_takes_the_plan_of_its_situation_else_the_default(section: dict[str, Any]) -> None:
    def plan(events: list[SagaEvent], second: float = 31, known: dict[str, Any] | None = section) -> list[Any]:
        stood = standing(ORDER, events, now_us=round(second * SECOND))
        return [(one.step, one.way, one.decided_by) for one in planned(ORDER, known, stood)]

    void, release = ("charge_payment", "void"), ("reserve_stock", "release")
    assert plan(course()) == [(*void, "default"), (*release, "default")]
    assert plan(course(strained=True)) == [(*void, "model"), ("reserve_stock", "let_expire", "model")]
    assert plan(course(strained=True), known=None) == [(*void, "default"), (*release, "default")]
    # Past the capture nothing was seen, and the rule still decides the way.
    assert plan(course(strained=True), 80) == [("charge_payment", "refund", "default"), (*release, "default")]
    held = plan(course(strained=True, amount=9_000.0))
    assert held == [(*release, "default"), ("charge_payment", None, "rule")]


def test_a_plan_says_why_and_which_rule_bound_it(section: dict[str, Any]) -> None:
    first, second = planned(ORDER, section, standing(ORDER, course(strained=True), now_us=31 * SECOND))
    assert (first.participant, first.rule) == ("payment", "never refund while void is possible")
    assert "less than the default" in first.why
    assert second.rule is None
    stood = standing(ORDER, [*course()[:-2], event("charge_payment", "timed_out", 20)], now_us=31 * SECOND)
    perhaps, _ = planned(ORDER, section, stood)
    assert (perhaps.way, perhaps.decided_by) == ("void", "rule")
    assert perhaps.why == "charge_payment timed out, and may have been done"


def test_a_section_that_breaks_a_rule_is_not_followed(section: dict[str, Any]) -> None:
    entry = next(one for one in section["situations"] if one["decided_by"] == "model")
    for plan in ([{"step": "charge_payment", "way": "refund"}, entry["plan"][1]], entry["plan"][:1]):
        forged = {"situations": [{**entry, "plan": plan}]}
        found = planned(ORDER, forged, standing(ORDER, course(strained=True), now_us=31 * SECOND))
        assert [(one.step, one.way) for one in found] == REVERSE
        assert found[0].why == "reverse order: the policy's plan is none that the rules allow"


def test_a_rare_situation_has_no_plan() -> None:
    few = learned(history(ORDER, [told(at, REVERSE, [0.1, 0.1]) for at in range(LEAST_SEEN - 1)]))
    assert few is not None
    assert few["situations"] == []
    assert few["gain"]["saving"] is None


def test_without_an_amount_a_person_decides_on_the_payment() -> None:
    found = planned(ORDER, None, standing(ORDER, course(amount=NAN), now_us=31 * SECOND))
    assert [(one.step, one.way, one.rule) for one in found] == [
        ("reserve_stock", "release", None),
        ("charge_payment", None, "amount is unknown"),
    ]
