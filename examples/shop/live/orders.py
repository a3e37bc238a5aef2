"""The order saga against real participants: durable, by the advice, reported.

What belongs here: the steps of an order and how a participant is called. What does not: retries, time-outs, undoing
(``examples.client``), durability (DBOS).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from examples.client import Attempt, Client, Declined, Saga, StepFailed
from examples.client.attempt import Call
from examples.client.dbos import DbosSagas, Workflow
from examples.client.loops import Connections

PLAN = (("reserve_stock", "inventory"), ("charge_payment", "payment"), ("send_confirmation", "notification"))


class Shop:
    """Places orders. ``urls`` are those of the participants by name; ``token`` is the one that they know."""

    def __init__(self, client: Client, urls: Mapping[str, str], token: str, *, deadline_seconds: float) -> None:
        self._urls = urls
        self._http = Connections(headers={"Authorization": f"Bearer {token}"})
        self._sagas = DbosSagas(client)
        saga = self._sagas.saga(
            "order", deadline_seconds=deadline_seconds, route=[participant for _, participant in PLAN]
        )
        self._workflow: Workflow[[dict[str, Any]], str] = saga(self._order)

    async def start(self, order: dict[str, Any]) -> Any:
        """Start an order (``order``, ``item``, ``count``, ``amount``) and return its workflow's handle.

        An order that was placed before is not placed again.
        """
        return await self._sagas.start(self._workflow, order["order"], order)

    async def _order(self, saga: Saga, order: dict[str, Any]) -> str:
        """Reserve, charge, confirm. A parcel goes out without its mail, too."""
        (reserve, inventory), (charge, payment), (confirm, notification) = PLAN
        await saga.step(reserve, inventory, self._do(order), compensate=self._undo(order))
        await saga.step(charge, payment, self._do(order), compensate=self._undo(order))
        try:
            await saga.step(confirm, notification, self._do(order))
            saga.outcome = "confirmed"
        except StepFailed:
            saga.outcome = "unconfirmed"
        return saga.outcome

    def _do(self, order: dict[str, Any]) -> Call:
        async def call(attempt: Attempt) -> None:
            answer = await self._post(attempt, "do", order, attempt.headers)
            if answer.status_code == httpx.codes.CONFLICT:
                raise Declined(answer.json()["detail"])
            answer.raise_for_status()

        return call

    def _undo(self, order: dict[str, Any]) -> Call:
        async def call(attempt: Attempt) -> None:
            # What is undone is named by the key of the step itself.
            headers = {**attempt.headers, "Idempotency-Key": attempt.undoes or attempt.key}
            (await self._post(attempt, "undo", order, headers)).raise_for_status()

        return call

    async def _post(
        self, attempt: Attempt, what: str, order: dict[str, Any], headers: Mapping[str, str]
    ) -> httpx.Response:
        url = f"{self._urls[attempt.participant]}/v1/{what}"
        return await self._http.here().post(url, json=order, headers=headers, timeout=attempt.seconds)
