"""``python -m examples.shop.live``: the shop in real time, against a running platform.

It starts the participants, places orders at a steady rate, and prints what came of them. Needs PostgreSQL, Redis and a
MongoDB server (``SHOP_POSTGRES``, ``SHOP_REDIS``, ``SHOP_MONGO``), and the platform (``isthmus up``), whose tokens it
reads from ``ISTHMUS_HOME``. It ends after ``--orders`` and leaves no process behind; orders that a crash of it
interrupted go on at its next start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from dbos import DBOS

from examples.client import Client, Declined, SagaError
from examples.client.dbos import DbosDurability
from examples.client.turns import NoTurner
from examples.shop.live.orders import PLAN, Shop
from examples.shop.live.processes import Participants
from examples.shop.live.stock import ITEMS


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.shop.live", description=__doc__)
    parser.add_argument("--orders", type=int, default=100, help="how many are placed")
    parser.add_argument("--rate", type=float, default=2.0, help="orders a second")
    parser.add_argument(
        "--pace", type=float, default=10.0, help="how many times as fast as the simulated shop it works"
    )
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds that an order has")
    parser.add_argument("--run", default=secrets.token_hex(3), help="part of the orders' ids: the same run goes on")
    parser.add_argument("--events", default="http://127.0.0.1:8090", help="the router")
    parser.add_argument("--advice", default="http://127.0.0.1:8091", help="the advice service")
    parser.add_argument(
        "--no-turns", action="store_true", help="sagas see no other's attempts: advice and budget alone"
    )
    parser.add_argument("--serve", action="store_true", help="print the admin doors and keep placing orders")
    given = parser.parse_args()
    if missing := [name for name in ("SHOP_POSTGRES", "SHOP_REDIS", "SHOP_MONGO") if not os.environ.get(name)]:
        parser.error(f"set {', '.join(missing)} to the address of each store")
    return given


def _secret(name: str) -> str:
    """Return a token of this installation; the shop's own is made at first use, readable by its owner alone."""
    path = Path(os.environ.get("ISTHMUS_HOME", ".isthmus")) / "secrets" / name
    if not path.exists() and name.startswith("shop-"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    if not path.exists():
        sys.exit(f"There is no token at {path}: start the platform with `isthmus up` first.")
    return path.read_text().strip()


async def _trade(given: argparse.Namespace, shop: Shop) -> Counter[str]:
    """Place the orders, and return how many came to what."""
    chance = random.Random(given.run)  # noqa: S311 (the orders of a run are the same each time)
    ends: Counter[str] = Counter()
    running: list[asyncio.Task[None]] = []

    async def watched(handle: Any) -> None:
        try:
            ends[await handle.get_result(polling_interval_sec=0.2)] += 1
        except Declined as no:
            ends[f"declined: {no.reason}"] += 1
        except SagaError as error:
            ends[type(error).__name__] += 1

    number = 0
    while given.serve or number < given.orders:
        order = {
            "order": f"order-{given.run}-{number}",
            "item": chance.randrange(ITEMS),
            "count": chance.randint(1, 3),
            "amount": round(chance.lognormvariate(4.0, 1.0), 2),
        }
        running.append(asyncio.create_task(watched(await shop.start(order))))
        number += 1
        await asyncio.sleep(chance.expovariate(given.rate))
    await asyncio.gather(*running)
    return ends


async def _run(given: argparse.Namespace, participants: Participants, token: str) -> Counter[str]:
    client = Client.connect(
        "/shop/live",
        advice=(given.advice, _secret("advice-token")),
        events=(given.events, _secret("ingest-token")),
        durability=DbosDurability(),
    )
    if given.no_turns:
        client.turner = NoTurner()
    shop = Shop(client, participants.urls, token, deadline_seconds=given.deadline)
    DBOS(
        config={
            "name": "shop",
            "system_database_url": os.environ["SHOP_POSTGRES"],
            "application_version": "1",  # a changed program takes up what an older one left
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    try:
        return await _trade(given, shop)
    finally:
        await client.aclose()
        DBOS.destroy()


def main() -> int:
    """Trade; return the exit code."""
    given = _settings()
    token, admin = _secret("shop-token"), _secret("shop-admin-token")
    env = {"SHOP_TOKEN": token, "SHOP_ADMIN_TOKEN": admin, "SHOP_PACE": str(given.pace)}
    with Participants(tuple(participant for _, participant in PLAN), env) as participants:
        print("ready", json.dumps(participants.urls), flush=True)
        try:
            ends = asyncio.run(_run(given, participants, token))
        except KeyboardInterrupt:
            return 130
    print(json.dumps(dict(sorted(ends.items()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
