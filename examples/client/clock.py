"""Time and durability as a saga needs them: two protocols, and the ones of a plain process.

What belongs here: what a saga may assume of time, and of what outlives its process. What does not: virtual time
(``examples.shop.world``) and durable orchestrators (:mod:`examples.client.dbos`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """Time; seconds, from a beginning of the clock's own."""

    def now(self) -> float:
        """Return the time."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        """Return what ``task`` returns; after ``seconds`` it is given up and ``TimeoutError`` raised."""


class Durability(Protocol):
    """What outlives the process."""

    async def step(self, name: str, function: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return what ``function`` returns, and keep it: where the saga is run again it is not called again.

        Names are those of the saga's steps, in an order that is the same each time. What is kept can be pickled.
        """


class RealClock:
    """Real time, in asyncio."""

    def now(self) -> float:
        """Return the monotonic time, seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)

    async def within(self, seconds: float, task: Coroutine[Any, Any, T]) -> T:
        """Return what ``task`` returns, or cancel it after ``seconds`` and raise ``TimeoutError``."""
        async with asyncio.timeout(seconds):
            return await task


class Volatile:
    """No durability: a saga whose process dies is gone."""

    async def step(self, name: str, function: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return what ``function`` returns."""
        return await function()
