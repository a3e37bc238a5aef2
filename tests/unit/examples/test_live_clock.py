"""The world's own saga and participants in real time: what they come to is what they come to in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from examples.shop.live.clock import AsyncClock
from examples.shop.world.clock import VirtualClock
from examples.shop.world.durability import InMemory
from examples.shop.world.faults import Fault, Kind, Schedule
from examples.shop.world.participants import Participant
from examples.shop.world.policy import Coming, GiveUp, Send, Wait
from examples.shop.world.saga import End, OrderSaga

PLAN = ("inventory", "payment", "notification")


class ThreeTimes:
    """Tries three times, 50 ms each."""

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        return Send(0.05) if coming.attempts < 3 else GiveUp("attempts")

    def sent(self, coming: Coming, now: float) -> int:
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> tuple[int, ...]:
        return ()


def saga(clock: Any) -> OrderSaga:
    """Order 3 is declined; the notification hangs from the start."""
    participants = {
        name: Participant(
            name,
            clock,
            Schedule([Fault(name, Kind.HANG, -1.0, 60.0, 1.0)] if name == "notification" else []),
            workers=8,
            room=8,
            duration=lambda moment, slow: 0.001 * slow,
            uniform=lambda: 0.5,
            declines=(lambda order: order == 3) if name == "payment" else (lambda order: False),
            reap=0.2,
        )
        for name in PLAN
    }
    return OrderSaga(clock, participants, PLAN, ThreeTimes(), patience=10.0)


def facts(end: End) -> tuple[str, int, int, int, int]:
    return end.reason, end.step, end.attempts, end.compensations, end.stuck


@pytest.mark.parametrize("order", [1, 3])
def test_the_same_saga_in_both_times(order: int) -> None:
    virtual = VirtualClock()
    told: list[End] = []

    async def run() -> None:
        told.append(await saga(virtual).run(order, InMemory()))

    virtual.spawn(run())
    virtual.run()

    async def real() -> End:
        return await saga(AsyncClock()).run(order, InMemory())

    ended = asyncio.run(real())
    assert facts(ended) == facts(told[0])
    assert facts(ended) == (("attempts", 2, 5, 2, 0) if order == 1 else ("declined", 1, 2, 1, 0))


def test_a_second_result_is_ignored_and_who_gave_up_gets_none() -> None:
    async def real() -> None:
        clock = AsyncClock()
        reply = clock.reply()
        reply.leave(1)
        reply.leave(2)
        assert await reply.taken() == 1
        late = clock.reply()
        with pytest.raises(TimeoutError):
            await clock.within(0.001, late.taken())
        late.leave(3)
        assert clock.now() > 0

    asyncio.run(real())
