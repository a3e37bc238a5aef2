"""The order saga: its steps one after the other, under a policy; what was done is undone where it fails.

What belongs here: the course of one saga. What does not: when to call, for how long, how often (``policy``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from examples.shop.world.clock import Clock, Reply
from examples.shop.world.durability import Durability
from examples.shop.world.participants import Answer, Participant, Request
from examples.shop.world.policy import Coming, GiveUp, Policy, Wait

UNDO_TIMEOUT = 30.0
UNDO_PAUSE = 10.0
UNDO_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class End:
    """How a saga ended. ``reason`` is ``""`` where it completed, ``declined`` for the business's own no, else why."""

    order: int
    began: float
    ended: float
    reason: str
    step: int
    """The step at which it ended."""
    attempts: int
    asks: int
    """How often the policy was asked."""
    compensations: int
    stuck: int
    """Steps that could not be undone: a person must look."""


class OrderSaga:
    """Runs orders through ``plan``, one participant a step."""

    def __init__(
        self,
        clock: Clock,
        participants: Mapping[str, Participant],
        plan: Sequence[str],
        policy: Policy,
        *,
        patience: float,
    ) -> None:
        """``patience``: seconds within which an order must be through."""
        self._clock = clock
        self._participants = participants
        self._plan = tuple(plan)
        self._policy = policy
        self._patience = patience
        self._held: dict[tuple[str, int], Reply[None]] = {}

    async def run(self, order: int, durability: Durability) -> End:
        """Run one order to its end."""
        began = self._clock.now()
        deadline = began + self._patience
        attempts = asks = 0
        for step, name in enumerate(self._plan):

            async def attempt(step: int = step, name: str = name) -> tuple[str, int, int]:
                return await self._step(order, step, name, deadline)

            reason, tried, asked = await durability.step(name, attempt)
            attempts, asks = attempts + tried, asks + asked
            if reason:
                undone, stuck = await self._undo(order, step, durability)
                return End(order, began, self._clock.now(), reason, step, attempts, asks, undone, stuck)
        return End(order, began, self._clock.now(), "", len(self._plan), attempts, asks, 0, 0)

    async def _step(self, order: int, step: int, name: str, deadline: float) -> tuple[str, int, int]:
        """Return why a step failed (``""``: it did not), how often it was tried, and how often the policy was asked."""
        clock, policy, participant = self._clock, self._policy, self._participants[name]
        attempts, asked, asks, last, is_held = 0, 0, 0, None, False
        while True:
            now = clock.now()
            if now >= deadline:
                return "deadline", attempts, asks
            coming = Coming(order, step, name, attempts, asked, deadline, last)
            decision = policy.decide(coming, now)
            asks += not is_held
            is_held = isinstance(decision, Wait) and decision.held
            if isinstance(decision, Wait):
                asked += 1
                seconds = min(max(decision.seconds, 0.001), deadline - now)
                await (self._hold(name, order, seconds) if is_held else clock.sleep(seconds))
                continue
            if isinstance(decision, GiveUp):
                return decision.reason, attempts, asks
            attempts, asked = attempts + 1, 0
            limit = min(decision.timeout, deadline - now)
            ticket = policy.sent(coming, now)
            request = Request(order, expires=now + limit if decision.tells else float("inf"))
            answer: Answer | None = None
            try:
                answer = await clock.within(limit, participant.call(request))
                last = answer.value
            except TimeoutError:
                last = "timed_out"
            for called in policy.ended(coming, ticket, clock.now(), last):
                if (held := self._held.get((name, called))) is not None:
                    held.leave(None)
            if answer is Answer.OK:
                return "", attempts, asks
            if answer is Answer.DECLINED:
                return "declined", attempts, asks

    async def _hold(self, name: str, order: int, seconds: float) -> None:
        """Return when the order is called, or after ``seconds``."""
        called = self._held[name, order] = self._clock.reply()
        try:
            with suppress(TimeoutError):
                await self._clock.within(seconds, called.taken())
        finally:
            del self._held[name, order]

    async def _undo(self, order: int, failed: int, durability: Durability) -> tuple[int, int]:
        """Undo the steps before ``failed``, the last one first; return how many were, and how many could not be.

        The same for every policy: what they differ in is how many sagas come to this.
        """
        undone = stuck = 0
        for step in range(failed - 1, -1, -1):
            participant = self._participants[self._plan[step]]

            async def undo(participant: Participant = participant) -> bool:
                for attempt in range(UNDO_ATTEMPTS):
                    try:
                        request = Request(order, undo=True, expires=self._clock.now() + UNDO_TIMEOUT)
                        if await self._clock.within(UNDO_TIMEOUT, participant.call(request)) is Answer.OK:
                            return True
                    except TimeoutError:
                        pass
                    await self._clock.sleep(UNDO_PAUSE * (1 + attempt))
                return False

            if await durability.step(f"undo {step}", undo):
                undone += 1
            else:
                stuck += 1
        return undone, stuck
