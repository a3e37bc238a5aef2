"""Time as the saga and its participants see it: a protocol, and virtual time.

What belongs here: now, sleeping, tasks, waiting with a limit. What does not: what the time is spent on.

Virtual time runs thousands of sagas a second: a heap of moments and plain coroutines, no event loop. Moments that are
equal keep the order in which they were asked for, so that a run depends on its seeds alone.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
Task = Coroutine[Any, Any, Any]


class Clock(Protocol):
    """What a saga and a participant need of time; seconds, from a beginning of the clock's own."""

    def now(self) -> float:
        """Return the time."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""

    def spawn(self, task: Task) -> None:
        """Run ``task`` beside the caller; nobody waits for it."""

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        """Return what ``task`` returns; after ``seconds`` it is given up and ``TimeoutError`` raised."""

    def reply(self) -> Reply[Any]:
        """Return a place for a result that one task leaves and another waits for."""


class Reply(Protocol[T]):
    """A result to come; the first one that is left counts."""

    def leave(self, result: T) -> None:
        """Leave the result."""

    async def taken(self) -> T:
        """Return the result, once it is there."""


class VirtualReply(Generic[T]):
    """A result to come, in virtual time; one task waits for it."""

    __slots__ = ("_clock", "_left", "_result", "_waiter")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._left = False
        self._result: Any = None
        self._waiter: Task | None = None

    def leave(self, result: T) -> None:
        """Leave the result; a second one is ignored."""
        if self._left:
            return
        self._left, self._result = True, result
        if (waiter := self._waiter) is not None:
            self._waiter = None
            self._clock.resume(waiter)

    async def taken(self) -> T:
        """Return the result, once it is there."""
        if not self._left:
            await _Wish(self)
        result: T = self._result
        return result

    def wanted_by(self, waiter: Task | None) -> None:
        """Note who is to be woken; None where the waiter gave up."""
        self._waiter = waiter


class VirtualClock:
    """Virtual time: it jumps to the next moment at which something happens."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Any]] = []

    def now(self) -> float:
        """Return the time, seconds since the run's begin."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await _Wish(seconds)

    def spawn(self, task: Task) -> None:
        """Run ``task`` from now on, as far as its first wait at once."""
        self.resume(task)

    def spawn_at(self, moment: float, task: Task) -> None:
        """Run ``task`` from ``moment`` on."""
        heappush(self._heap, (moment, next(self._order), task))

    def reply(self) -> VirtualReply[Any]:
        """Return a place for a result."""
        return VirtualReply(self)

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        """Return what ``task`` returns, or raise what it raises; after ``seconds`` it is closed: ``TimeoutError``."""
        outcome: VirtualReply[tuple[bool, Any]] = VirtualReply(self)
        # A timer that fires after the outcome is there leaves nothing: a second result is ignored.
        heappush(self._heap, (self._now + seconds, next(self._order), outcome))
        told = _told(task, outcome)
        self.resume(told)
        done = await outcome.taken()
        if done is None:
            told.close()
            raise TimeoutError
        ok, value = done
        if not ok:
            raise value
        result: T = value
        return result

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that happens before ``until``."""
        heap = self._heap
        while heap and heap[0][0] < until:
            self._now, _, what = heappop(heap)
            if isinstance(what, VirtualReply):
                what.leave(None)
            else:
                self.resume(what)

    def resume(self, task: Task) -> None:
        """Run ``task`` up to its next wait; one that was closed meanwhile is not run."""
        if getattr(task, "cr_frame", task) is None:
            return
        try:
            wish = task.send(None)
        except StopIteration:
            return
        if isinstance(wish, VirtualReply):
            wish.wanted_by(task)
        else:
            heappush(self._heap, (self._now + wish, next(self._order), task))


async def _told(task: Task, outcome: VirtualReply[tuple[bool, Any]]) -> None:
    try:
        value = await task
    except Exception as error:  # noqa: BLE001 (it is raised where the task is waited for)
        outcome.leave((False, error))
    else:
        outcome.leave((True, value))


class _Wish:
    """What a task waits for: seconds, or a reply."""

    __slots__ = ("_what",)

    def __init__(self, what: float | VirtualReply[Any]) -> None:
        self._what = what

    def __await__(self) -> Generator[float | VirtualReply[Any], None, None]:
        yield self._what
