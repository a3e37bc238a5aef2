"""Real time behind the world's protocol: the same participants and sagas run on asyncio.

What belongs here: the clock and its replies. What does not: anything that knows what time is spent on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class AsyncReply(Generic[T]):
    """A result to come; the first one that is left counts."""

    def __init__(self) -> None:
        self._future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def leave(self, result: T) -> None:
        """Leave the result; a second one is ignored, and so is one that nobody waits for any more."""
        if not self._future.done():
            self._future.set_result(result)

    async def taken(self) -> T:
        """Return the result, once it is there."""
        return await self._future


class AsyncClock:
    """Seconds since the clock was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Return the time."""
        return time.monotonic() - self._began

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)

    def spawn(self, task: Coroutine[Any, Any, Any]) -> None:
        """Run ``task`` beside the caller."""
        # The loop itself holds tasks weakly only.
        running = asyncio.get_running_loop().create_task(task)
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        """Return what ``task`` returns; after ``seconds`` it is given up and ``TimeoutError`` raised."""
        async with asyncio.timeout(seconds):
            return await task

    def reply(self) -> AsyncReply[Any]:
        """Return a place for a result."""
        return AsyncReply()
