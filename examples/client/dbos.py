"""Sagas that outlive their process, with DBOS (https://docs.dbos.dev): a saga is a workflow, its parts are steps of it.

What belongs here: the client's durability by DBOS, and sagas as workflows. What does not: what a saga does, and where
DBOS keeps its state (SQLite or PostgreSQL: its own configuration).

    sagas = DbosSagas(client)

    @sagas.saga("order", deadline_seconds=60)
    async def order(saga: Saga, amount: float) -> str:
        await saga.step("charge_payment", "payment", charge, compensate=void)
        return "paid"

    DBOS(config=…); DBOS.launch()   # sagas that a crash interrupted go on here
    await sagas.run(order, "order-4711", 20.0)

A saga's code must do the same steps in the same order when it is run again, and reach the outside by steps alone. A
step that was under way in a crash is called again with the same idempotency key; one that had ended is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from dbos import DBOS, SetWorkflowID, WorkflowHandleAsync

from examples.client.client import Client
from examples.client.saga import Saga

P = ParamSpec("P")
T = TypeVar("T")
SagaFunction = Callable[Concatenate[Saga, P], Awaitable[T]]
Workflow = Callable[P, Awaitable[T]]


class DbosDurability:
    """Each part of a saga is a step of the workflow that it runs in; what it came to is in DBOS's store."""

    async def step(self, name: str, function: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return what ``function`` returns, or returned in a life before this one."""

        async def called() -> dict[str, Any]:
            return await function()

        return await DBOS.run_step_async({"name": name}, called)


class DbosSagas:
    """Makes workflows of functions; the workflow's id is the saga's.

    ``client`` must have its durability from :class:`DbosDurability`; the functions are declared before DBOS launches.
    """

    def __init__(self, client: Client) -> None:
        if not isinstance(client.durability, DbosDurability):
            raise TypeError("make the client with durability=DbosDurability(), else a crash loses its sagas")
        self.client = client

    def saga(self, saga_type: str, **options: Any) -> Callable[[SagaFunction[P, T]], Workflow[P, T]]:
        """Make a function of an open saga a workflow; ``options`` are those of :meth:`Client.saga`.

        What the function raises ends the saga as in ``async with``, and the workflow with an error. The workflow ends
        when its events are delivered, and not before: a crash in between would lose them.
        """

        def decorated(function: SagaFunction[P, T]) -> Workflow[P, T]:
            @wraps(function)
            async def workflow(*args: P.args, **kwargs: P.kwargs) -> T:
                saga_id = DBOS.workflow_id
                assert saga_id is not None, "within a workflow"
                try:
                    async with self.client.saga(saga_type, saga_id, **options) as saga:
                        return await function(saga, *args, **kwargs)
                finally:
                    # A workflow that has ended is not run again: what it reported must be there before.
                    await self.client.settled()

            return DBOS.workflow(name=f"saga.{saga_type}")(workflow)

        return decorated

    async def start(
        self, workflow: Workflow[P, T], saga_id: str, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[T]:
        """Start a saga and return its handle; one of that id that was started before is not started again."""
        with SetWorkflowID(saga_id):
            return await DBOS.start_workflow_async(workflow, *args, **kwargs)  # type: ignore[arg-type]

    async def run(self, workflow: Workflow[P, T], saga_id: str, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a saga and return what its function returns, or raise what ended it."""
        handle = await self.start(workflow, saga_id, *args, **kwargs)
        return await handle.get_result()
