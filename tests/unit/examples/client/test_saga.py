"""The life of a saga: what is done, tried again, given up, undone, and what is reported of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from examples.client import (
    Attempt,
    Client,
    CompensationAdvised,
    CompensationFailed,
    Declined,
    FallBackAdvised,
    Held,
    Permanent,
    Saga,
    Step,
    StepFailed,
)
from examples.client.advice import Advice, PlannedUndo
from examples.client.reporting import Reports
from examples.client.sinks import ListSink
from tests.unit.examples.client.world import NOON, POLICY, Says, World


def run(saga: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(saga)


def test_a_saga_without_trouble_is_reported_step_by_step() -> None:
    world = World()

    async def order() -> str:
        async with world.client.saga("order", "o-1", amount=20.0, currency="EUR", deadline_seconds=60) as saga:
            await saga.step("reserve", "inventory", world.call())
            saga.outcome = "confirmed"
            paid: str = await saga.step("charge", "payment", world.call("receipt"))
            return paid

    assert run(order()) == "receipt"
    events = world.events()
    assert [event.id for event in events] == [
        "o-1/started",
        "o-1/reserve@inventory/1/scheduled",
        "o-1/reserve@inventory/1/started",
        "o-1/reserve@inventory/1/completed",
        "o-1/charge@payment/1/scheduled",
        "o-1/charge@payment/1/started",
        "o-1/charge@payment/1/completed",
        "o-1/ended",
    ]
    assert {event.source for event in events} == {"/tests/orders"}
    assert events[0].data == {"saga_type": "order", "amount": 20.0, "currency": "EUR"}
    assert events[1].data["attributes"] == {"advice": "service", "decision_id": "decision-1"}
    assert events[2].data["load"] == 1
    assert events[3].data["duration_ms"] == pytest.approx(10.0)
    assert events[-1].data == {"saga_type": "order", "outcome": "confirmed"}
    traces = {(event.traceparent or "").split("-")[1] for event in events}
    assert len(traces) == 1, "one trace a saga"
    assert len({event.traceparent for event in events}) == len(events), "a span each"
    asked = world.adviser.questions
    assert [len(question.events) for question in asked] == [0, 3]
    assert asked[0].amount == 20.0
    assert asked[0].started_at == NOON


def test_an_attempt_carries_key_deadline_and_trace() -> None:
    world = World()
    call = world.call(OSError(), "done")
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

    async def order() -> None:
        async with world.client.saga("order", "o-1", deadline_seconds=0.5, traceparent=parent) as saga:
            await saga.step("charge", "payment", call)

    run(order())
    first, second = call.attempts
    assert (first.number, second.number) == (1, 2)
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == "o-1/charge@payment"
    assert float(first.headers["isthmus-deadline-ms"]) == 500, "less than the time-out, since the saga has no more"
    assert float(second.headers["isthmus-deadline-ms"]) < 500
    assert first.headers["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert first.headers["traceparent"].endswith("-00"), "the caller's sampling holds"
    assert first.headers["traceparent"] != second.headers["traceparent"]


def test_a_step_is_tried_again_while_attempts_are_left() -> None:
    world = World()
    call = world.call(OSError("card 4711"), OSError(), "done")

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("charge", "payment", call)

    run(order())
    assert world.course() == [
        "started",
        *("charge 1 scheduled", "charge 1 started", "charge 1 failed", "charge 1 retried"),
        *("charge 2 scheduled", "charge 2 started", "charge 2 failed", "charge 2 retried"),
        *("charge 3 scheduled", "charge 3 started", "charge 3 completed"),
        "completed",
    ]
    assert all(b"4711" not in one.value for one in world.sink.reports), "a message may hold anything"


def test_what_takes_too_long_is_given_up_and_undone_although_it_may_not_have_been_done() -> None:
    world = World()
    undo = world.call()

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("charge", "payment", world.call(seconds=5.0), compensate=undo)

    with pytest.raises(StepFailed) as failed:
        run(order())
    assert (failed.value.because, failed.value.attempts) == ("attempts", 3)
    assert isinstance(failed.value.__cause__, TimeoutError)
    (attempt,) = undo.attempts
    assert (attempt.undoes, attempt.key) == ("o-1/charge@payment", "o-1/charge@payment/undo")
    course = world.course()
    assert course.count("charge 1 timed_out") == 1
    assert course[-2:] == ["charge 1 compensated", "aborted"]
    ended = world.events()[-1]
    assert ended.data == {
        "saga_type": "order",
        "reason": "technical",
        "detail": "charge failed 3 times: attempts",
    }


def test_a_refusal_of_the_business_is_not_tried_again_and_the_rest_is_undone_backwards() -> None:
    world = World()
    undone: list[str] = []

    def undo(name: str) -> Any:
        async def call(attempt: Attempt) -> None:
            undone.append(name)

        return call

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("reserve", "inventory", world.call(), compensate=undo("reserve"))
            await saga.step("pack", "inventory", world.call(), compensate=undo("pack"))
            await saga.step("charge", "payment", world.call(Declined("CardDeclined")), compensate=undo("charge"))

    with pytest.raises(Declined, match="CardDeclined"):
        run(order())
    assert undone == ["pack", "reserve"], "who declined has done nothing"
    ended = world.events()[-1]
    assert ended.data == {"saga_type": "order", "reason": "business", "detail": "CardDeclined"}


def test_the_advised_plan_of_undoing_wins_and_is_asked_for_anew() -> None:
    plan = [PlannedUndo("a", "any", "void"), PlannedUndo("d", "any", None), PlannedUndo("c", "any", "refund")]
    world = World(Says(compensation=plan))
    undone: list[tuple[str, str | None]] = []

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            for name in "abcd":

                async def undo(attempt: Attempt) -> None:
                    undone.append((attempt.step, attempt.way))

                await saga.step(name, "any", world.call(), compensate=undo)
            raise KeyError("the orchestrator's own defect")

    with pytest.raises(CompensationFailed, match="d") as failed:
        run(order())
    assert failed.value.steps == ("d",), "that one is a person's to decide"
    assert isinstance(failed.value.__context__, KeyError)
    assert undone == [("a", "void"), ("c", "refund"), ("b", None)]
    assert [question.giving_up for question in world.adviser.questions] == [False] * 4 + [True] * 4
    assert [question.events[-1].status for question in world.adviser.questions[-4:]] == [
        "completed",
        *["compensated"] * 3,
    ]
    events = world.events()
    assert events[-3].data["attributes"] == {"tries": 1, "way": "void"}


def test_a_compensation_is_tried_again_and_what_cannot_be_undone_is_named() -> None:
    world = World(undo_attempts=3)
    hard, impossible = world.call(OSError(), OSError(), "done"), world.call(*[OSError()] * 3)

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("reserve", "inventory", world.call(), compensate=hard)
            await saga.step("charge", "payment", world.call(), compensate=impossible)
            raise Declined("changed their mind")

    with pytest.raises(CompensationFailed, match="charge") as failed:
        run(order())
    assert failed.value.steps == ("charge",)
    assert len(hard.attempts) == len(impossible.attempts) == 3, "the others are undone all the same"
    assert world.course()[-1] == "reserve 3 compensated", "the saga has not ended: a person has to look"


def test_what_is_permanent_is_not_tried_again() -> None:
    world = World()
    call = world.call(Permanent())

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("charge", "payment", call)

    with pytest.raises(StepFailed, match="permanent"):
        run(order())
    assert len(call.attempts) == 1


def test_retries_end_with_the_budget_of_the_participant() -> None:
    world = World(Says(policy=replace(POLICY, retry_ratio=0.1, attempts=5)), minimum_retries=1)
    calls, because = [], []

    async def orders() -> None:
        for number in range(40):
            call = world.call(*[OSError()] * 5)
            calls.append(call)
            try:
                async with world.client.saga("order", f"o-{number}") as saga:
                    await saga.step("charge", "payment", call)
            except StepFailed as failed:
                because.append(failed.because)

    run(orders())
    retries = sum(len(call.attempts) - 1 for call in calls)
    assert retries == 5, "a tenth of the requests, and one"
    assert set(because) == {"budget"}


def test_a_call_that_cannot_make_the_deadline_is_not_sent() -> None:
    world = World()
    late = world.call()

    async def orders() -> None:
        for number in range(5):
            async with world.client.saga("order", f"warm-{number}") as saga:
                await saga.step("charge", "payment", world.call(seconds=0.5))
        async with world.client.saga("order", "o-1", deadline_seconds=0.4) as saga:
            await saga.step("charge", "payment", late, compensate=late)

    with pytest.raises(StepFailed, match="deadline"):
        run(orders())
    assert not late.attempts, "neither sent, nor undone"
    failed = world.events()[-2]
    assert (failed.data["error"], failed.data["attributes"]) == ("DeadlineShed", {"sent": False})


def test_no_pause_outlives_the_deadline() -> None:
    world = World(Says(policy=replace(POLICY, backoff=100.0)))
    call = world.call(OSError())

    async def order() -> None:
        async with world.client.saga("order", "o-1", deadline_seconds=1.0) as saga:
            await saga.step("charge", "payment", call)

    with pytest.raises(StepFailed, match="deadline"):
        run(order())
    assert world.time.now() < 1.0


def test_hold_leaves_the_saga_where_it_is() -> None:
    world = World(Says("go_on", "hold"))
    undo = world.call()

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("reserve", "inventory", world.call(), compensate=undo)
            await saga.step("charge", "payment", world.call())

    with pytest.raises(Held) as held:
        run(order())
    assert (held.value.why, held.value.decision_id) == ("so the script says", "decision-1")
    assert not undo.attempts
    assert world.course()[-1] == "reserve 1 completed"


def test_a_person_who_is_asked_decides() -> None:
    asked = []

    async def person(saga: Saga, advice: Advice) -> Any:
        asked.append((saga.id, advice.because))
        return "go_on" if len(asked) == 1 else "compensate"

    world = World(Says("hold", "hold"), on_hold=person)

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step("reserve", "inventory", world.call())
            await saga.step("charge", "payment", world.call())

    with pytest.raises(CompensationAdvised):
        run(order())
    assert asked == [("o-1", "so the script says")] * 2
    assert world.course()[-1] == "aborted"


def test_an_advised_fallback_is_taken_once_and_the_saga_goes_on() -> None:
    world = World(Says("fall_back", "fall_back", "go_on", "fall_back"))
    charge, later = world.call(), world.call("invoice")

    async def order() -> Any:
        async with world.client.saga("order", "o-1") as saga:
            paid = await saga.step("charge", "payment", charge, fall_back=Step("invoice", "billing", later))
            await saga.step("confirm", "notification", world.call())
            await saga.step("archive", "archive", world.call())
            return paid

    assert run(order()) == "invoice"
    assert not charge.attempts
    assert world.course()[-1] == "completed"


def test_a_fallback_that_the_code_takes_by_itself() -> None:
    world = World(Says("fall_back", "fall_back"))

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            try:
                await saga.step("charge", "payment", world.call())
            except FallBackAdvised:
                await saga.step("invoice", "billing", world.call())

    run(order())
    assert world.course()[-2:] == ["invoice 1 completed", "completed"]


def test_code_that_goes_on_after_a_failed_step_may() -> None:
    world = World()

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            try:
                await saga.step("confirm", "notification", world.call(*[OSError()] * 3))
            except StepFailed:
                saga.outcome = "unconfirmed"
            await saga.step("ship", "shipping", world.call())

    run(order())
    assert world.course()[-1] == "completed"


def test_a_cancelled_saga_is_left_for_the_next_run() -> None:
    """Real time: the call is cancelled, too."""
    sink = ListSink()
    client = Client("/tests/orders", Reports(sink))
    cancelled = []

    async def hang(attempt: Attempt) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(attempt.step)
            raise

    async def order() -> None:
        async with client.saga("order", "o-1") as saga:
            await saga.step("charge", "payment", hang)

    async def stop() -> None:
        task = asyncio.create_task(order())
        while not any(one.id.endswith("started") and "charge" in one.id for one in sink.reports):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await client.aclose()

    run(stop())
    assert cancelled == ["charge"]
    assert sink.reports[-1].id == "o-1/charge@payment/1/started"
