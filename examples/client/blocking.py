"""The client for code without an event loop: the same sagas, with plain functions as calls.

What belongs here: the way from blocking code to the client's own loop, and back for each call. What does not: any rule
of a saga.

    with BlockingClient(client) as blocking, blocking.saga("order", "order-4711") as saga:
        saga.step("charge_payment", "payment", charge, compensate=void)

A call runs in a thread of its own. One that is given up runs on there: its answer reaches nobody. Give it
``attempt.seconds`` as its own time-out too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from examples.client.attempt import Attempt, Call
from examples.client.client import Client
from examples.client.saga import Saga, Step

BlockingCall = Callable[[Attempt], Any]


def _in_thread(call: BlockingCall) -> Call:
    async def called(attempt: Attempt) -> Any:
        return await to_thread.run_sync(call, attempt, abandon_on_cancel=True)

    return called


class BlockingSaga:
    """One saga, as a context manager; see :class:`examples.client.saga.Saga`."""

    def __init__(self, portal: BlockingPortal, saga: Saga) -> None:
        self.saga = saga
        self._portal = portal
        self._context: AbstractContextManager[Saga] | None = None

    def __enter__(self) -> BlockingSaga:
        self._context = self._portal.wrap_async_context_manager(self.saga)
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._context is not None
        self._context.__exit__(kind, error, trace)

    def step(
        self,
        name: str,
        participant: str,
        call: BlockingCall,
        *,
        compensate: BlockingCall | None = None,
        fall_back: tuple[str, str, BlockingCall] | None = None,
    ) -> Any:
        """Do a step; ``fall_back`` is the name, participant and call of what is done instead."""
        undo = None if compensate is None else _in_thread(compensate)
        other = None if fall_back is None else Step(fall_back[0], fall_back[1], _in_thread(fall_back[2]))

        async def done() -> Any:
            return await self.saga.step(name, participant, _in_thread(call), compensate=undo, fall_back=other)

        return self._portal.call(done)


class BlockingClient:
    """A client behind a loop in a thread of its own; many threads may use it at once."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._running = start_blocking_portal()
        self._portal: BlockingPortal

    def __enter__(self) -> BlockingClient:
        self._portal = self._running.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._portal.call(self.client.aclose)
        finally:
            self._running.__exit__(kind, error, trace)

    def saga(self, saga_type: str, saga_id: str, **more: Any) -> BlockingSaga:
        """Return a saga, to be entered; ``more`` as for :meth:`Client.saga`."""
        return BlockingSaga(self._portal, self.client.saga(saga_type, saga_id, **more))
