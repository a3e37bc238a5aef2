"""``python -m examples.shop.live.participant NAME PORT``: one participant as a process, on loopback.

What belongs here: its HTTP side (calls, undoing, the admin's faults) in front of the world's queue and its store. What
does not: the store's rules (``stores``) and what a fault does (``examples.shop.world``).

Settings come from the environment: ``SHOP_POSTGRES``, ``SHOP_REDIS``, ``SHOP_MONGO`` (URLs), ``SHOP_TOKEN`` and
``SHOP_ADMIN_TOKEN``, and ``SHOP_PACE``: by which factor the work is shorter than that of the simulated shop. It ends
when its standard input does.
"""

from __future__ import annotations

import hmac
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from examples.client.deadline import HEADER, Deadline
from examples.shop.live.clock import AsyncClock
from examples.shop.live.stores import Store
from examples.shop.model import SERVICES, Service
from examples.shop.world.faults import Fault, Kind, Schedule
from examples.shop.world.participants import Answer, Participant, Request

QUEUE_PER_WORKER: Final = 20
MOST_SECONDS: Final = 60.0
"""When a call is given up that hangs."""
_STATUS: Final = {Answer.ERROR: 500, Answer.REFUSED: 503, Answer.EXPIRED: 504}
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=500)]
Told = Annotated[str | None, Header(alias=HEADER)]


class Order(BaseModel):
    """What each participant is told of an order."""

    model_config = ConfigDict(extra="forbid")

    order: str = Field(min_length=1, max_length=200)
    item: int = Field(ge=0)
    count: int = Field(ge=1, le=100)
    amount: float = Field(gt=0, le=100_000, allow_inf_nan=False)


class Trouble(BaseModel):
    """A fault to come; ``starts_in`` and ``seconds`` from now."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    severity: float = Field(gt=0, le=1_000, allow_inf_nan=False)
    starts_in: float = Field(default=0.0, ge=0, le=86_400)
    seconds: float = Field(gt=0, le=86_400)


def served(service: Service, clock: AsyncClock, *, pace: float, chance: random.Random) -> Participant:
    """Return the world's participant for a service of the simulated shop, in real time."""
    return Participant(
        service.name,
        clock,
        Schedule([]),
        workers=service.workers,
        room=QUEUE_PER_WORKER * service.workers,
        duration=lambda _, slow: chance.lognormvariate(0.0, service.spread) * service.median_s * slow / pace,
        uniform=chance.random,
    )


def application(participant: Participant, store: Store, clock: AsyncClock, tokens: tuple[str, str]) -> FastAPI:
    """Return the ASGI application; ``tokens`` are those of callers and of the admin."""

    @asynccontextmanager
    async def opened(_: FastAPI) -> AsyncIterator[None]:
        await store.open()
        yield

    def knows(token: str) -> Callable[[str], None]:
        def check(authorization: Annotated[str, Header()] = "") -> None:
            if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
                raise HTTPException(401, "Send a token that is known as Authorization: Bearer.")

        return check

    async def answered(effect: Callable[[], Awaitable[Any]], deadline: str | None, *, undo: bool) -> Any:
        expires = Deadline.from_header(deadline, clock.now()).at
        try:
            answer = await clock.within(MOST_SECONDS, participant.call(Request(0, undo, expires)))
        except TimeoutError:
            answer = Answer.ERROR
        if answer is not Answer.OK:
            raise HTTPException(_STATUS[answer], answer.value)
        return await effect()

    caller, admin = Depends(knows(tokens[0])), Depends(knows(tokens[1]))
    app = FastAPI(title=f"Shop: {participant.name}", docs_url=None, redoc_url=None, lifespan=opened)

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/v1/do", dependencies=[caller])
    async def do(order: Order, key: Key, deadline: Told = None) -> dict[str, str]:
        if declined := await answered(partial(store.do, key, order.model_dump()), deadline, undo=False):
            raise HTTPException(409, declined)
        return {"done": key}

    @app.post("/v1/undo", dependencies=[caller])
    async def undo(order: Order, key: Key, deadline: Told = None) -> dict[str, str]:
        await answered(partial(store.undo, key, order.model_dump()), deadline, undo=True)
        return {"undone": key}

    @app.put("/admin/faults", dependencies=[admin])
    async def faults(troubles: list[Trouble]) -> dict[str, int]:
        """Replace the faults of this participant."""
        now = clock.now()
        participant.schedule = Schedule(
            [
                Fault(participant.name, one.kind, now + one.starts_in, now + one.starts_in + one.seconds, one.severity)
                for one in troubles
            ]
        )
        return {"faults": len(troubles)}

    @app.post("/admin/exit", dependencies=[admin])
    async def leave() -> None:
        """End the process as a crash does: at once, and without an answer."""
        os._exit(70)

    return app


def store_of(name: str) -> Store:
    """Return a participant's store, by the environment."""
    # Each participant loads the clients of its own store alone.
    if name == "inventory":
        from examples.shop.live.stock import Stock

        return Stock(os.environ["SHOP_REDIS"], os.environ["SHOP_MONGO"])
    from examples.shop.live.tables import Charges, Messages

    return Charges(os.environ["SHOP_POSTGRES"]) if name == "payment" else Messages(os.environ["SHOP_POSTGRES"])


def end_with_parent() -> None:
    """End when standard input does: whoever started us is gone, be it by a kill."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main() -> int:
    """Serve until a signal; return the exit code."""
    name, port = sys.argv[1], int(sys.argv[2])
    end_with_parent()
    clock = AsyncClock()
    chance = random.Random()  # noqa: S311 (durations, no secret)
    service = next(one for one in SERVICES if one.name == name)
    participant = served(service, clock, pace=float(os.environ.get("SHOP_PACE", "10")), chance=chance)
    tokens = (os.environ["SHOP_TOKEN"], os.environ["SHOP_ADMIN_TOKEN"])
    app = application(participant, store_of(name), clock, tokens)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
