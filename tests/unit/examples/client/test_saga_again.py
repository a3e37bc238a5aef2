"""Sagas beside each other, and those that run again after a crash: what is left is done, with the same events."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from examples.client import (
    Attempt,
    Backlog,
    Client,
    CompensationFailed,
    Declined,
    Held,
    StepFailed,
    Undelivered,
    step,
)
from examples.client.reporting import Happened, NotSent, Reports
from tests.unit.examples.client.world import NOON, World


def run(saga: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(saga)


class Away:
    """A sink that nothing reaches."""

    def send(self, batch: Any) -> list[Any]:
        raise NotSent("it is away")

    def close(self) -> None:
        pass


def test_a_new_saga_waits_for_room_while_a_running_one_gets_its_events_in() -> None:
    async def orders() -> int:
        client = Client("/tests/orders", Reports(Away(), limit=2, pause=0.01), backlog_seconds=0.05)
        done = 0

        async def call(attempt: Attempt) -> None:
            nonlocal done
            done += 1

        async with client.saga("order", "o-1") as saga:
            for number in range(5):
                await saga.step(f"step {number}", "any", call)
        with pytest.raises(Backlog, match="17 events"):
            async with client.saga("order", "o-2"):
                raise AssertionError("it must not begin")
        with pytest.raises(Undelivered) as left:
            await client.aclose(0.05)
        assert len(left.value.events) == 17, "handed back, not dropped"
        return done

    assert run(orders()) == 5


@step("charge", "payment")
async def charge(attempt: Attempt, amount: float, *, currency: str) -> str:
    return f"{attempt.key}: {amount} {currency}"


def test_a_decorated_step_finds_its_saga() -> None:
    world = World()

    async def order() -> str:
        async with world.client.saga("order", "o-1"):
            return await charge(20.0, currency="EUR")

    assert run(order()) == "o-1/charge@payment: 20.0 EUR"

    async def nowhere() -> None:
        await charge(20.0, currency="EUR")

    with pytest.raises(LookupError, match="no saga is open"):
        run(nowhere())


def test_sagas_side_by_side_do_not_mix() -> None:
    world = World()

    async def order(name: str) -> str:
        async with world.client.saga("order", name):
            await asyncio.sleep(0)
            return await charge(1.0, currency="EUR")

    async def both() -> list[str]:
        return list(await asyncio.gather(order("o-1"), order("o-2")))

    assert [said.partition("/")[0] for said in run(both())] == ["o-1", "o-2"]


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb"])
def test_names_that_no_event_may_have_are_refused_before_anything_is_done(name: str) -> None:
    world = World()
    call = world.call()

    async def order() -> None:
        async with world.client.saga("order", "o-1") as saga:
            await saga.step(name, "payment", call)

    with pytest.raises(ValueError, match="control characters"):
        run(order())
    assert not call.attempts
    with pytest.raises(ValueError, match="control characters"):
        world.client.saga("order", "")


class Remembers:
    """A durability in memory: what was done in a life before is not done again."""

    def __init__(self) -> None:
        self.done: dict[str, dict[str, Any]] = {}

    async def step(self, name: str, function: Any) -> dict[str, Any]:
        if name not in self.done:
            self.done[name] = await function()
        return self.done[name]


def test_a_saga_that_runs_again_does_what_is_left_and_reports_the_same_events() -> None:
    memory, done = Remembers(), []

    class Killed(BaseException):
        pass

    async def order(world: World, *, die: bool) -> None:
        async def call(attempt: Attempt) -> str:
            done.append(attempt.step)
            if die and attempt.step == "charge":
                raise Killed
            return attempt.step

        async with world.client.saga("order", "o-1") as saga:
            assert await saga.step("reserve", "inventory", call) == "reserve"
            assert await saga.step("charge", "payment", call) == "charge"

    first, second = World(durability=memory), World(durability=memory)
    second.time.at = 1_000.0
    with pytest.raises(Killed):
        run(order(first, die=True))
    run(order(second, die=False))
    assert done == ["reserve", "charge", "charge"]
    before, after = first.events(), second.events()
    assert [event.id for event in after[: len(before)]] == [event.id for event in before]
    assert after[:4] == before[:4], "what was completed is reported again, byte for byte"
    assert [len(question.events) for question in second.adviser.questions] == [3], "the adviser is told all of it"


def test_an_event_has_the_same_id_whoever_reports_it() -> None:
    one = Happened(NOON, "charge", "payment", 2, "failed")
    assert one.id("o-1") == replace(one, at=NOON.replace(hour=13), error="OSError").id("o-1")
    assert one.id("o-1") != replace(one, attempt=3).id("o-1")


def test_a_reason_is_one_that_an_event_takes() -> None:
    assert Declined("no\n" + "x" * 300).reason == "no " + "x" * 197
    assert Declined("").reason == "Declined"


@pytest.mark.parametrize(
    "error",
    [
        Declined("OutOfStock"),
        StepFailed("charge", "payment", 3, "budget"),
        Held("too risky", "d-1"),
        CompensationFailed(["charge"]),
        Undelivered([b"{}"]),
    ],
)
def test_what_ends_a_saga_can_be_kept(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_deadline_counts_from_the_begin_whatever_life_that_was_in() -> None:
    memory = Remembers()

    async def order(world: World) -> float:
        async with world.client.saga("order", "o-1", deadline_seconds=10.0) as saga:
            return saga.deadline.remaining(world.time.now())

    assert run(order(World(durability=memory))) == 10.0
    later = World(durability=memory)
    later.time.at = 4.0
    assert run(order(later)) == 6.0


def test_a_step_that_was_under_way_in_a_crash_is_undone_although_it_is_not_sent_again() -> None:
    memory = Remembers()
    undone: list[str] = []

    class Killed(BaseException):
        pass

    async def order(world: World, *, die: bool) -> None:
        async def call(attempt: Attempt) -> None:
            assert die, "the deadline has passed: it must not be sent"
            raise Killed

        async def undo(attempt: Attempt) -> None:
            undone.append(attempt.step)

        async with world.client.saga("order", "o-1", deadline_seconds=10.0) as saga:
            await saga.step("charge", "payment", call, compensate=undo)

    with pytest.raises(Killed):
        run(order(World(durability=memory), die=True))
    later = World(durability=memory)
    later.time.at = 60.0
    with pytest.raises(StepFailed, match="deadline"):
        run(order(later, die=False))
    assert undone == ["charge"]
