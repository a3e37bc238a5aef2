"""The parts of the stream and of the Redis keys that need no server: memory, figures, what is told, names of keys."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from events.codec import encode
from events.validation import validate
from ml.sagas.spec import SagaEvent
from resources.registry import ModelVersion
from services.orchestrator.judging import Judge, Notice
from services.orchestrator.participants import LONGEST, Participants
from services.orchestrator.running import MOST_EVENTS, NO_BEGINNING, USUAL_EVENTS, Running
from services.orchestrator.standing import Champion, InForce, Standing
from services.orchestrator.wire import Told, told
from tests.integration.orchestrator.world import ACTION, model

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PLACE = ("isthmus.sagas", 0)
POLICY = InForce("decision-1", ACTION, NOON + timedelta(hours=1))
CHAMPION = Champion(ModelVersion("saga_failure.order.technical", 3, "run"), model())


def happened(
    number: int, status: str = "", *, kind: str = "step", saga: str = "s-1", seconds: float | None = None, **more: Any
) -> Told:
    """The event ``number`` of a saga, as many seconds after noon."""
    us = round((NOON.timestamp() + (number if seconds is None else seconds)) * 1e6)
    if kind != "step":
        return Told("order", "/t", f"{saga}/{number}", SagaEvent(saga, kind, us))
    fields: dict[str, Any] = {"step": "charge", "participant": "payment", "attempt": 1, **more}
    return Told("order", "/t", f"{saga}/{number}", SagaEvent(saga, kind, us, status=status, **fields))


def running(most: int = 100) -> tuple[Running, Participants]:
    participants = Participants()
    return Running(most, participants), participants


# Memory


def test_a_saga_is_kept_in_the_order_of_time_from_its_beginning_to_its_end() -> None:
    sagas, _ = running()
    for one in (happened(1, "started"), happened(0, kind="started"), happened(3, "failed"), happened(2, "scheduled")):
        saga = sagas.take(one, PLACE)
    assert saga is not None
    assert [(one.kind, one.status) for one in saga.events] == [
        ("started", ""),
        ("step", "started"),
        ("step", "scheduled"),
        ("step", "failed"),
    ]
    assert saga.missing == "", "its beginning came, late"
    assert sagas.take(happened(4, kind="completed"), PLACE) is None
    assert len(sagas) == 0
    assert sagas.take(happened(3, "failed"), PLACE) is None, "what comes again after the end begins no saga"
    assert sagas.take(happened(5, kind="started"), PLACE) is not None, "but a new beginning does"


def test_an_event_that_comes_again_is_not_counted_twice() -> None:
    sagas, _ = running()
    assert sagas.take(happened(1, "failed"), PLACE) is not None
    assert sagas.take(happened(1, "failed"), PLACE) is None
    assert sagas.repeated == 1


def test_a_saga_without_its_beginning_says_so() -> None:
    sagas, _ = running()
    saga = sagas.take(happened(1, "failed"), PLACE)
    assert saga is not None
    assert saga.missing == NO_BEGINNING


def test_memory_is_bounded_in_sagas_in_events_of_one_and_in_events_of_all() -> None:
    sagas, participants = running(most=10)
    for number in range(11):
        sagas.take(happened(0, "started", saga=f"s-{number}"), PLACE)
    assert (len(sagas), sagas.forgotten) == (10, 1)
    assert sagas.get(("order", "s-0")) is None, "the one that was silent for longest"
    assert participants.in_flight() == {"payment": 10.0}, "its attempt is not waited for"

    long = running(most=1_000)[0]
    long.take(happened(0, kind="started"), PLACE)
    for number in range(MOST_EVENTS + 5):
        saga = long.take(happened(number + 1, "retried"), PLACE)
    assert saga is not None
    assert len(saga.events) == MOST_EVENTS
    assert saga.events[0].kind == "started"
    assert saga.missing

    many = running(most=10)[0]
    for number in range(10):
        for at in range(2 * USUAL_EVENTS):
            many.take(happened(at, "retried", saga=f"s-{number}"), PLACE)
    assert many.forgotten == 5
    assert len(many) == 5


def test_a_saga_takes_the_room_that_the_documentation_says() -> None:
    step = {"saga_type": "order", "participant": "payment", "worker": "w-1", "load": 3.5, "duration_ms": 41.7}

    def values(saga: int) -> list[bytes]:
        statuses = ("started", "failed", "retried", "scheduled", "completed")
        return [
            encode(
                "isthmus.saga.step",
                {**step, "step": f"step-{at // 5}", "attempt": at + 1, "status": statuses[at % 5]},
                subject=f"order-{saga:08d}",
                source="/shop/payment",
                id=f"order-{saga:08d}/{at}",
            )
            for at in range(USUAL_EVENTS)
        ]

    sagas, written = running(most=1_000)[0], [values(saga) for saga in range(200)]
    tracemalloc.start()
    try:
        for value in (one for values in written for one in values):
            read = told(value)
            assert read is not None
            sagas.take(read, PLACE)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(sagas) < 15_000


def test_sagas_of_a_partition_that_goes_are_forgotten() -> None:
    sagas, participants = running()
    sagas.take(happened(1, "started"), PLACE)
    sagas.take(happened(1, "started", saga="s-2"), ("isthmus.sagas", 1))
    sagas.forget([PLACE])
    assert len(sagas) == 1
    assert participants.in_flight() == {"payment": 1.0}


# Participants


def test_participants_are_counted_while_they_tell_that_attempts_start() -> None:
    known = Participants()
    assert known.in_flight(0) == {}
    for number in range(3):
        known.started("payment", number, float(number))
    known.ended(0, 2.0)
    known.ended(1, 3.0)
    known.ended("never began", 3.0)
    assert known.in_flight() == known.in_flight(70.0) == {"payment": 1.0}
    assert known.in_flight(3.0 + LONGEST) == {}, "nobody tells any more: a count would prove nothing"


def test_an_attempt_whose_end_was_lost_is_not_under_way_for_ever() -> None:
    known = Participants()
    known.started("payment", "lost", 0.0)
    known.started("payment", "young", LONGEST)
    assert known.in_flight(LONGEST + 1) == {"payment": 1.0}
    known.ended("lost", LONGEST + 1)
    known.dropped("young")
    assert known.in_flight(LONGEST + 1) == {"payment": 0.0}


# What is told


class World:
    """A judge over sagas, and what stands."""

    def __init__(self, *, policy: InForce | None = POLICY, champion: bool = False) -> None:
        self.standing = Standing({"order": policy} if policy else {}, {"order": (CHAMPION,)} if champion else {})
        self.sagas, _ = running()
        self.judge = Judge(self.sagas, lambda: self.standing, clock=lambda: NOON)

    def hears(self, event: Told, *, live: bool = True) -> Notice | None:
        saga = self.sagas.take(event, PLACE)
        return self.judge.heard(event, saga, live=live) if saga is not None else None

    def in_turn(self) -> list[dict[str, Any]]:
        return [told_of(one) for one in self.judge.in_turn(60)]


def told_of(notice: Notice | None) -> dict[str, Any]:
    """The data of a notice, which keeps its schema."""
    assert notice is not None
    event = validate(notice.value, received=NOON)
    assert notice.key == event.subject.encode()
    assert event.data["trigger"] == notice.trigger
    return event.data


@pytest.mark.parametrize("status", ["failed", "timed_out"])
def test_a_failed_step_is_answered_at_once_and_always(status: str) -> None:
    world = World()
    assert world.hears(happened(0, kind="started")) is None
    assert world.hears(happened(1, "started")) is None
    said = told_of(world.hears(happened(2, status)))
    assert (said["trigger"], said["action"], said["decision_id"]) == ("failed_step", "retry", "decision-1")
    assert said["defaults"] == ["model: no champion"]
    assert said["event"] | {"at": ""} == {
        "source": "/t",
        "id": "s-1/2",
        "at": "",
        "step": "charge",
        "participant": "payment",
        "attempt": 1,
        "status": status,
    }
    left = [one["attempts_left"] for one in said["steps"] if one["step"] == "charge"]
    again = told_of(world.hears(happened(3, status, attempt=2)))
    assert [one["attempts_left"] for one in again["steps"] if one["step"] == "charge"] == [left[0] - 1]
    assert world.in_turn() == []


def test_when_no_attempt_is_left_the_plan_of_what_is_undone_is_told_too() -> None:
    world = World()
    world.hears(happened(0, kind="started"))
    world.hears(happened(1, "completed", step="reserve", participant="inventory"))
    for number in (2, 3):
        assert told_of(world.hears(happened(number, "failed", attempt=number)))["compensation"] == []
    said = told_of(world.hears(happened(4, "failed", attempt=4)))
    assert said["action"] == "compensate"
    assert [one["step"] for one in said["compensation"]] == ["reserve"]


def test_what_is_read_back_is_not_told_again_but_counts() -> None:
    world = World()
    assert world.hears(happened(0, kind="started"), live=False) is None
    assert world.hears(happened(1, "failed"), live=False) is None
    said = told_of(world.hears(happened(2, "failed", attempt=2)))
    assert [one["attempts_left"] for one in said["steps"] if one["step"] == "charge"] == [1]
    assert said["defaults"] == ["model: no champion"]


def test_an_advice_on_a_part_of_a_saga_says_so() -> None:
    said = told_of(World().hears(happened(1, "failed")))
    assert f"saga: {NO_BEGINNING}" in said["defaults"]


def test_a_new_policy_is_told_to_every_running_saga_once() -> None:
    world = World(policy=None)
    world.hears(happened(0, kind="started"))
    world.hears(happened(0, kind="started", saga="s-2"))
    world.hears(happened(1, kind="completed", saga="s-2"))
    assert world.in_turn() == []
    world.standing = replace(world.standing, policies={"order": POLICY})
    (said,) = world.in_turn()
    assert (said["trigger"], said["decision_id"], said["action"]) == ("policy", "decision-1", "go_on")
    world.standing = replace(world.standing, problems={"registry": "Gone"})
    assert world.in_turn() == [], "the same policy is no news"


def test_an_alarm_is_told_when_it_begins_and_when_it_ends_and_not_in_between() -> None:
    world = World(champion=True)
    world.hears(happened(0, kind="started"))
    world.hears(happened(1, "completed", step="reserve", participant="inventory"))
    assert world.in_turn() == []
    said = told_of(world.hears(happened(2, "timed_out")))
    assert (said["trigger"], said["action"], said["risk"]["alarm"]) == ("failed_step", "hold", True)
    world.hears(happened(3, "retried"))
    assert [one["trigger"] for one in world.in_turn()] in ([], ["alarm_over"])

    late = World(champion=True)
    for event in (happened(0, kind="started"), happened(1, "completed", step="reserve", participant="inventory")):
        late.hears(event, live=False)
    late.hears(happened(2, "timed_out"), live=False)
    (said,) = late.in_turn()
    assert said["trigger"] == "alarm", "what was read back may never have been told"
    assert late.in_turn() == []


def test_the_same_failure_under_the_same_policy_is_the_same_event() -> None:
    notices = [World().hears(happened(1, "failed")) for _ in range(2)]
    ids = {orjson.loads(one.value)["id"] for one in notices if one}
    other = World(policy=replace(POLICY, decision_id="decision-2")).hears(happened(1, "failed"))
    assert len(ids) == 1
    assert other is not None
    assert orjson.loads(other.value)["id"] not in ids


# The wire


def test_what_the_router_lets_through_is_read() -> None:
    step = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 2, "status": "failed"}
    read = told(encode("isthmus.saga.step", {**step, "load": 3}, subject="s-1", source="/t", id="1", time=NOON))
    assert read is not None
    assert (read.saga_type, read.id, read.event.load, read.event.attempt) == ("order", "1", 3.0, 2)
    assert read.event.us == round(NOON.timestamp() * 1e6)
    assert told(encode("isthmus.component.health", {}, subject="c", source="/t")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"status": "exploded"},
        {"status": ["failed"]},
        {"step": None},
        {"attempt": "x"},
        {"load": "much"},
        {"load": True},
    ],
)
def test_what_it_would_not_let_through_is_an_error(change: dict[str, Any]) -> None:
    step = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 2, "status": "failed"}
    value = encode("isthmus.saga.step", {**step, **change}, subject="s-1", source="/t")
    with pytest.raises((ValueError, TypeError)):
        told(value)
    with pytest.raises(ValueError, match="JSON"):
        told(None)
