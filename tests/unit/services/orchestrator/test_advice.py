"""Advice: what is said of a saga, and what is said instead where policy or model is missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml.sagas.spec import SagaEvent
from resources.registry import ModelVersion
from services.orchestrator.advice import ANY, SAFE_TIMEOUT_MS, Advice, advise
from services.orchestrator.standing import Champion, InForce, Standing
from tests.integration.orchestrator.world import ACTION, RETRY, entry, model, saga

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
POLICY = InForce("decision-1", ACTION, NOW + timedelta(hours=1))
CHAMPION = Champion(ModelVersion("saga_failure.order.technical", 3, "run"), model())


def standing(*, policy: InForce | None = POLICY, champion: Champion | None = CHAMPION, **problems: str) -> Standing:
    return Standing({"order": policy} if policy else {}, {"order": (champion,)} if champion else {}, problems)


def ask(events: list[SagaEvent], stands: Standing | None = None, **more: Any) -> Advice:
    return advise("order", "s-1", events, stands or standing(), now=NOW, **more)


def with_fallback() -> Standing:
    return standing(policy=replace(POLICY, action={**ACTION, "fallback": "pay_later"}))


def test_a_saga_without_trouble_goes_on_under_its_policy() -> None:
    said = ask(saga(1, charge="scheduled")[:2])
    assert (said.action, said.decision_id, said.defaults, said.stale) == ("go_on", "decision-1", (), False)
    assert said.risk is not None
    assert said.risk.probability < 0.5
    charge, other = said.steps
    assert (charge.step, charge.timeout_ms, charge.attempts_left, charge.default) == ("charge", 850.0, 3, False)
    assert (other.step, other.default) == (ANY, True), "a step that no policy knows has a default"


def test_the_risk_names_the_event_that_moved_it() -> None:
    said = ask(saga(1, charge="timed_out"))
    assert said.risk is not None
    assert said.risk.probability == pytest.approx(0.8, abs=0.1)
    assert said.risk.alarm
    (reason,) = said.risk.reasons
    assert (reason.position, reason.step, reason.status) == (2, "charge", "timed_out")
    assert said.risk.base + reason.moved == pytest.approx(said.risk.probability)
    assert said.risk.probability == pytest.approx(model().of_prefix(saga(1, charge="timed_out")))


@pytest.mark.parametrize(("load", "timeout"), [(10.0, 1000.0), (0.0, 500.0), (1000.0, 3000.0), (float("nan"), 850.0)])
def test_the_time_out_follows_the_load_within_its_bounds(load: float, timeout: float) -> None:
    said = ask(saga(1, charge="scheduled")[:2], load={"payment": load, "inventory": 5.0})
    assert said.steps[0].timeout_ms == timeout


def test_a_failed_step_is_tried_again_while_attempts_are_left_and_the_risk_allows_it() -> None:
    calm = standing(champion=None)
    events = saga(1, charge="failed")
    assert ask(events, calm).action == "retry"
    assert ask(events, calm).steps[0].attempts_left == RETRY["max_attempts"] - 1
    worn = [*events, *(replace(events[-1], us=events[-1].us + more, attempt=more + 1) for more in (1, 2))]
    assert ask(worn, calm).steps[0].attempts_left == 0
    assert ask(worn, calm).action == "compensate"


def test_with_an_alarm_the_fallback_is_taken_or_a_person_asked() -> None:
    events = saga(1, charge="timed_out")
    assert ask(events).action == "hold"
    assert ask(events, with_fallback()).action == "fall_back"
    assert "person" in ask(events).because


def test_a_compensation_that_has_begun_is_brought_to_its_end() -> None:
    events = saga(1, charge="timed_out")
    begun = [*events, replace(events[1], us=events[-1].us + 1, status="compensated")]
    said = ask(begun, with_fallback())
    assert said.action == "compensate"
    assert said.defaults == ("model: this saga's fate is sealed",)


def test_without_anything_there_are_safe_defaults_and_the_reason() -> None:
    said = ask(saga(1, charge="failed"), Standing({}, {}, {"warehouse": "WarehouseUnavailable", "registry": "OSError"}))
    assert said.action == "retry"
    assert said.decision_id is None
    (only,) = said.steps
    assert (only.step, only.timeout_ms, only.default) == (ANY, SAFE_TIMEOUT_MS, True)
    assert said.defaults == (
        "policy: the warehouse does not answer (WarehouseUnavailable)",
        "model: the registry does not answer (OSError)",
    )


def test_a_policy_whose_validity_has_ended_stays_and_is_marked() -> None:
    said = ask([], standing(policy=replace(POLICY, valid_to=NOW)))
    assert said.stale
    assert said.decision_id == "decision-1"
    assert said.defaults == ("model: it tells nothing before the first step",)


class Broken:
    def predict_proba(self, x: Any) -> Any:
        raise RuntimeError("customer 4711")


@pytest.mark.parametrize(
    ("champion", "said"),
    [
        (replace(CHAMPION, model=replace(model(), form=1)), "model: the champion has an old form, train it anew"),
        (replace(CHAMPION, model=replace(model(), estimator=Broken())), "model: it failed (RuntimeError)"),
    ],
)
def test_a_model_that_cannot_speak_costs_its_part_alone(champion: Champion, said: str) -> None:
    answer = ask(saga(1, charge="completed"), standing(champion=champion))
    assert answer.risk is None
    assert answer.defaults == (said,)
    assert answer.decision_id == "decision-1"


def test_a_saga_that_is_longer_than_the_model_knows() -> None:
    events = [replace(saga(1, charge="started")[1], us=at) for at in range(1, 60)]
    assert ask(events).defaults == ("model: it knows sagas of up to 40 steps",)


def test_steps_that_completed_are_not_advised_on() -> None:
    more = standing(policy=replace(POLICY, action={**ACTION, "steps": [*ACTION["steps"], entry("ship", "shipping")]}))
    assert [one.step for one in ask(saga(1, charge="completed"), more).steps] == ["ship", ANY]


def test_what_is_to_be_undone_is_told_where_it_is_undone_or_held() -> None:
    events = saga(1, charge="timed_out")
    held = ask(events)
    assert held.action == "hold"
    # The steps of this saga are none that are declared for orders.
    assert [(one.step, one.way, one.rule) for one in held.compensation] == [
        ("charge", None, "nothing is declared for charge"),
        ("reserve", None, "nothing is declared for reserve"),
    ]
    assert ask(events, with_fallback()).compensation == ()
    begun = [*events, replace(events[1], us=events[-1].us + 1, step="charge", status="compensated")]
    other = advise("loan", "s-1", begun, Standing(), now=NOW)
    assert other.action == "compensate"
    assert [(one.step, one.way, one.why) for one in other.compensation] == [
        ("reserve", "compensate", "reverse order: the policy has no plans")
    ]


def test_an_orchestrator_that_gives_up_by_itself_is_told_how() -> None:
    """A business that declines ends a saga while attempts are left."""
    events = saga(1, charge="failed")
    assert ask(events, standing(champion=None)).compensation == ()
    said = ask(events, standing(champion=None), giving_up=True)
    assert said.action == "compensate"
    assert said.compensation
