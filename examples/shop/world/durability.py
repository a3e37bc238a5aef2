"""What a saga has done, kept so that it is not done twice: a protocol, and memory for experiments.

What belongs here: results of steps by name. What does not: what a step does. In real time the protocol stands before a
durable workflow engine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Durability(Protocol):
    """Runs a step at most once to its end: a second time its result is read."""

    async def step(self, name: str, task: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of ``task``, from before where the step has ended before."""


class InMemory:
    """Results of one saga's steps, as long as the process lives."""

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}

    async def step(self, name: str, task: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of ``task``, from before where the step has ended before."""
        if name not in self._results:
            self._results[name] = await task()
        result: T = self._results[name]
        return result
