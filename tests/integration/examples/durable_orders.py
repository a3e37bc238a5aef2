"""``python -m tests.integration.examples.durable_orders STORE EVENTS_URL LOG [hang]``: one durable order, to be killed.

Each call of a participant appends a line to LOG: step, attempt, idempotency key. With ``hang`` the charge never
answers. Writes ``ready`` when the saga is under way, ``ended`` and its result at its end.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dbos import DBOS

from examples.client import Attempt, Client, Declined, Saga
from examples.client.dbos import DbosDurability, DbosSagas
from examples.client.reporting import Reports
from examples.client.sinks import HttpSink

STORE, EVENTS, LOG, *MORE = sys.argv[1:]

client = Client("/tests/durable", Reports(HttpSink(EVENTS, "a token of the tests")), durability=DbosDurability())
sagas = DbosSagas(client)


async def participant(attempt: Attempt) -> str:
    with Path(LOG).open("a") as log:
        log.write(f"{attempt.step} {attempt.number} {attempt.key}\n")
    if attempt.step == "charge" and "hang" in MORE:
        await asyncio.sleep(600)
    if attempt.step == "confirm":
        raise Declined("AddressUnknown")
    return f"{attempt.step} is done"


@sagas.saga("order", amount=20.0)
async def order(saga: Saga) -> str:
    reserved = await saga.step("reserve", "inventory", participant, compensate=participant)
    charged = await saga.step("charge", "payment", participant, compensate=participant)
    try:
        await saga.step("confirm", "notification", participant)
    except Declined:
        saga.outcome = "unconfirmed"
    return f"{reserved}, {charged}"


async def main() -> None:
    DBOS(
        config={
            "name": "orders",
            "system_database_url": STORE,
            "application_version": "1",
            "run_admin_server": False,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    handle = await sagas.start(order, "order-1")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.write(f"ended {await handle.get_result(polling_interval_sec=0.05)}\n")
    await client.aclose()
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
