"""The world with faults: time, participants, sagas; the same seed gives the same course."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from examples.shop.world.clock import VirtualClock
from examples.shop.world.durability import InMemory
from examples.shop.world.faults import Fault, Kind, Schedule, kind_of
from examples.shop.world.participants import Answer, Participant, Request
from examples.shop.world.policy import Coming, GiveUp, Send, Wait
from examples.shop.world.run import World, run

PLAN = ("inventory", "payment", "notification")


class Patient:
    """Calls at once, again after a second, up to ``attempts`` times."""

    def __init__(self, timeout: float = 5.0, attempts: int = 3, *, tells: bool = True) -> None:
        self.timeout, self.attempts, self.tells = timeout, attempts, tells
        self.outcomes: list[str] = []

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        if coming.attempts >= self.attempts:
            return GiveUp("attempts")
        return Wait(1.0) if coming.attempts and not coming.asked else Send(self.timeout, self.tells)

    def sent(self, coming: Coming, now: float) -> int:
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> tuple[int, ...]:
        self.outcomes.append(outcome)
        return ()


def a_world(*faults: Fault, **changes: object) -> World:
    durations = np.random.default_rng(5).lognormal(-2.0, 0.4, 500)
    base = World(
        plan=PLAN,
        durations=dict.fromkeys(PLAN, durations),
        slow_durations={},
        workers=dict.fromkeys(PLAN, 3),
        rate=5.0,
        horizon=120.0,
        patience=60.0,
        faults=faults,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_virtual_time_jumps_and_keeps_order() -> None:
    clock, said = VirtualClock(), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        said.append((name, clock.now()))

    for name, seconds in (("late", 3600.0), ("first", 1.0), ("second", 1.0)):
        clock.spawn(sleeper(name, seconds))
    clock.run()
    assert said == [("first", 1.0), ("second", 1.0), ("late", 3600.0)]


def test_a_limit_closes_the_task_and_raises() -> None:
    clock, said = VirtualClock(), list[object]()

    async def slow() -> str:
        try:
            await clock.sleep(10.0)
        finally:
            said.append("closed")
        return "never"

    async def quick() -> str:
        await clock.sleep(1.0)
        return "done"

    async def failing() -> str:
        await clock.sleep(1.0)
        raise ValueError("told")

    async def caller() -> None:
        said.append(await clock.within(5.0, quick()))
        with pytest.raises(ValueError, match="told"):
            await clock.within(5.0, failing())
        with pytest.raises(TimeoutError):
            await clock.within(5.0, slow())
        said.append(clock.now())

    clock.spawn(caller())
    clock.run()
    assert said == ["done", "closed", 7.0]


def test_a_step_that_has_ended_is_not_run_again() -> None:
    durability, runs = InMemory(), []

    async def step() -> int:
        runs.append(1)
        return 42

    async def twice() -> tuple[int, int]:
        return await durability.step("charge", step), await durability.step("charge", step)

    assert asyncio.run(twice()) == (42, 42)
    assert runs == [1]


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("network_delay", Kind.DELAY),
        ("cpu_contention", Kind.SLOW),
        ("Latency", Kind.SLOW),
        ("brown-out", Kind.SLOW),
        ("exception", Kind.ERRORS),
        ("return", Kind.ERRORS),
        ("hang", Kind.HANG),
        ("crash", Kind.CRASH),
    ],
)
def test_words_of_a_schedule(word: str, kind: Kind) -> None:
    assert kind_of(word) is kind


def test_an_unknown_word_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'sunspots'"):
        kind_of("sunspots")


def test_what_is_in_force_at_a_moment() -> None:
    slow, hang = Fault("a", Kind.SLOW, 10, 30, 4.0), Fault("a", Kind.HANG, 20, 40, 0.5)
    schedule = Schedule([hang, slow])
    assert [schedule.at(moment) for moment in (5, 10, 25, 30, 40)] == [(), (slow,), (slow, hang), (hang,), ()]
    assert slow.factor == 4.0
    assert Fault("a", Kind.SLOW, 0, 1, 0.5).factor == 5.5
    assert Fault("a", Kind.ERRORS, 0, 1, 40.0).share == 0.4


def test_equal_seeds_give_equal_courses() -> None:
    fault = Fault("payment", Kind.SLOW, 20, 60, 6.0)
    one, two = (run(a_world(fault), Patient(), seed=3) for _ in range(2))
    assert one.ends == two.ends
    assert run(a_world(fault), Patient(), seed=4).ends != one.ends


def test_orders_and_declines_do_not_depend_on_the_policy() -> None:
    one = run(a_world(), Patient(), seed=3)
    two = run(a_world(), Patient(timeout=0.2, attempts=9), seed=3)
    assert [end.began for end in one.ends] == [end.began for end in two.ends]
    declined = {end.order for end in one.ends if end.reason == "declined"}
    assert declined
    assert declined >= {end.order for end in two.ends if end.reason == "declined"}


@pytest.mark.parametrize(
    ("kind", "severity", "outcome"),
    [
        (Kind.CRASH, 1.0, "refused"),
        (Kind.ERRORS, 1.0, "error"),
        (Kind.HANG, 1.0, "timed_out"),
        (Kind.SLOW, 200.0, "timed_out"),
        (Kind.DELAY, 200.0, "timed_out"),
    ],
)
def test_what_a_fault_does_to_calls(kind: Kind, severity: float, outcome: str) -> None:
    policy = Patient(attempts=1)
    ends = run(a_world(Fault("payment", kind, 0, 1000, severity)), policy, seed=1).ends
    assert outcome in policy.outcomes
    assert all(end.reason in ("attempts", "declined") for end in ends)
    assert all(end.step == 1 for end in ends)


def test_what_was_done_is_undone() -> None:
    ends = run(a_world(Fault("notification", Kind.CRASH, 0, 1000, 1.0)), Patient(), seed=1).ends
    failed = [end for end in ends if end.reason == "attempts"]
    assert failed
    assert all(end.compensations == 2 and end.stuck == 0 for end in failed)


def test_work_for_a_caller_that_has_gone_is_not_begun() -> None:
    def expired(*, tells: bool) -> tuple[int, int]:
        clock = VirtualClock()
        one = Participant(
            "payment",
            clock,
            Schedule([]),
            workers=1,
            room=100,
            duration=lambda moment, factor: 1.0,
            uniform=lambda: 0.5,
        )

        async def call() -> None:
            with pytest.raises(TimeoutError):
                await clock.within(0.5, one.call(Request(1, expires=0.5 if tells else float("inf"))))

        for _ in range(5):
            clock.spawn(call())
        clock.run()
        return one.work.expired, round(one.work.busy)

    assert expired(tells=True) == (4, 1)
    assert expired(tells=False) == (0, 5)


def test_a_full_queue_refuses() -> None:
    clock, answers = VirtualClock(), []
    one = Participant(
        "payment", clock, Schedule([]), workers=1, room=2, duration=lambda moment, factor: 1.0, uniform=lambda: 0.5
    )

    async def call() -> None:
        answers.append(await one.call(Request(1)))

    for _ in range(4):
        clock.spawn(call())
    clock.run()
    assert sorted(answer.value for answer in answers) == ["ok", "ok", "ok", "refused"]
    assert Answer.REFUSED in answers


def test_drift_brings_in_later_durations() -> None:
    later = {"payment": np.full(300, 2.0)}
    ends = run(a_world(later_durations=later, workers=dict.fromkeys(PLAN, 30)), Patient(timeout=30.0), seed=2).ends
    took = np.array([end.ended - end.began for end in ends if not end.reason])
    assert took[: len(took) // 4].mean() < took[-len(took) // 4 :].mean() - 0.5
