"""A participant: a queue, its workers, and what faults do to them.

What belongs here: how a call is served. What does not: who calls (``saga``) and what the call means.

The model of service is a queue with measured durations, resampled: nothing in it is an equation that a predictor of
durations or failures uses. A caller that gives up does not stop the work: the worker stays busy, unless the caller has
said until when it waits (``expires``) and that moment passes while the call still queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from examples.shop.world.clock import Clock, Reply
from examples.shop.world.faults import Fault, Kind, Schedule


class Answer(Enum):
    """How a call ended, as its caller sees it."""

    OK = "ok"
    DECLINED = "declined"
    """The business says no: final, and nobody's fault."""
    ERROR = "error"
    REFUSED = "refused"
    """Nobody listens, or the queue is full."""
    EXPIRED = "expired"
    """Nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call; ``expires`` is the moment until which its caller waits, infinite where it does not say."""

    order: int
    undo: bool = False
    expires: float = float("inf")


@dataclass(slots=True)
class Work:
    """What a participant did."""

    calls: int = 0
    busy: float = 0.0
    """Seconds of workers."""
    refused: int = 0
    expired: int = 0


class Participant:
    """Serves calls by ``workers`` at a time, first come first served, at most ``room`` waiting."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        schedule: Schedule,
        *,
        workers: int,
        room: int,
        duration: Callable[[float, float], float],
        uniform: Callable[[], float],
        declines: Callable[[int], bool] = lambda order: False,
        reap: float = 30.0,
    ) -> None:
        """``duration(moment, slow)`` draws seconds of work, slowed down by a factor; ``uniform()`` a number in [0, 1).

        ``reap`` is after how many seconds a worker that hangs is replaced.
        """
        self.name = name
        self.schedule = schedule
        self.workers = workers
        self.room = room
        self.work = Work()
        self._clock = clock
        self._duration = duration
        self._uniform = uniform
        self._declines = declines
        self._reap = reap
        self._free = workers
        self._waiting: deque[tuple[Request, Reply[Any]]] = deque()

    async def call(self, request: Request) -> Answer:
        """Return how the call ended. It may never return: the caller sets the limit."""
        self.work.calls += 1
        now = self._clock.now()
        if any(fault.kind is Kind.CRASH and self._uniform() < fault.share for fault in self.schedule.at(now)):
            self.work.refused += 1
            await self._clock.sleep(0.002)
            return Answer.REFUSED
        if self._free == 0 and len(self._waiting) >= self.room:
            self.work.refused += 1
            await self._clock.sleep(0.002)
            return Answer.REFUSED
        reply: Reply[Answer] = self._clock.reply()
        if self._free:
            self._free -= 1
            self._clock.spawn(self._serve(request, reply))
        else:
            self._waiting.append((request, reply))
        return await reply.taken()

    async def _serve(self, request: Request, reply: Reply[Answer]) -> None:
        """Serve one call, then those that wait, with one worker."""
        clock = self._clock
        while True:
            began = clock.now()
            faults = self.schedule.at(began)
            answer, seconds, after = self._course(request, faults, began)
            await clock.sleep(seconds)
            self.work.busy += seconds
            if answer is not None and self._crashed(began, clock.now()):
                answer = Answer.ERROR
            if answer is not None:
                if after:
                    clock.spawn(self._later(after, answer, reply))
                else:
                    reply.leave(answer)
            now = clock.now()
            while self._waiting:
                request, reply = self._waiting.popleft()
                if request.expires > now:
                    break
                self.work.expired += 1
                reply.leave(Answer.EXPIRED)
            else:
                self._free += 1
                return

    def _course(self, request: Request, faults: tuple[Fault, ...], now: float) -> tuple[Answer | None, float, float]:
        """Return how a call goes: its answer (None: never), seconds of work, seconds on the network after it."""
        slow = 1.0
        delay = 1.0
        for fault in faults:
            if fault.kind is Kind.SLOW:
                slow *= fault.factor
            elif fault.kind is Kind.DELAY:
                delay *= fault.factor
        seconds = self._duration(now, slow)
        for fault in faults:
            if fault.kind is Kind.HANG and self._uniform() < fault.share:
                return None, min(self._reap, max(fault.end - now, seconds)), 0.0
            if fault.kind is Kind.ERRORS and self._uniform() < fault.share:
                return Answer.ERROR, seconds * (0.2 + 0.8 * self._uniform()), 0.0
        declined = not request.undo and self._declines(request.order)
        return (Answer.DECLINED if declined else Answer.OK), seconds, seconds * (delay - 1.0)

    def _crashed(self, began: float, ended: float) -> bool:
        """Return whether a crash that began meanwhile has taken the call with it."""
        return any(
            fault.kind is Kind.CRASH and began < fault.start and self._uniform() < fault.share
            for fault in self.schedule.at(ended)
        )

    async def _later(self, seconds: float, answer: Answer, reply: Reply[Answer]) -> None:
        await self._clock.sleep(seconds)
        reply.leave(answer)
