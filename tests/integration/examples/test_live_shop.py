"""The shop in real time: real processes and stores, faults, a kill of the orchestrator; then the books are checked."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

from examples.shop.live.stock import ITEMS, STOCK
from tests.conftest import ROOT
from tests.integration.examples.ingestion import Ingestion, ingestion

pytestmark = pytest.mark.services
ORDERS = 24
ORDER = {"order": "o-1", "item": 1, "count": 2, "amount": 20.0}


class Shop:
    """The shop as a process, life after life, with the same stores."""

    def __init__(self, folder: Path, events: Ingestion) -> None:
        self.events = events
        self.run = secrets.token_hex(4)
        database = f"shop_{self.run}"
        server = os.environ["ISTHMUS_TEST_POSTGRES"]
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        self.postgres = f"{server.rpartition('/')[0]}/{database}"
        self.redis_url = f"{os.environ['ISTHMUS_TEST_REDIS'].rpartition('/')[0]}/9"
        self.redis = Redis.from_url(self.redis_url, decode_responses=True)
        self.redis.flushdb()
        self.home = folder / "home"
        (self.home / "secrets").mkdir(parents=True)
        for name in ("advice-token", "ingest-token"):
            (self.home / "secrets" / name).write_text("a token of the tests")
        self.log = folder / "log"
        self.process: subprocess.Popen[str]
        self.urls: dict[str, str] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "examples.shop.live", "--run", self.run, "--orders", str(ORDERS)]
        command += ["--rate", "8", "--pace", "100", "--events", self.events.url, "--advice", "http://127.0.0.1:9"]
        env = {
            **os.environ,
            "SHOP_POSTGRES": self.postgres,
            "SHOP_REDIS": self.redis_url,
            "SHOP_MONGO": f"{os.environ['ISTHMUS_TEST_MONGO'].rstrip('/')}/{f'shop_{self.run}'}",
            "ISTHMUS_HOME": str(self.home),
        }
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), self.log.read_text()
        self.urls = json.loads(line.partition(" ")[2])

    def post(
        self, participant: str, path: str, body: Any, *, token: str = "shop-token", **headers: str
    ) -> httpx.Response:
        secret = (self.home / "secrets" / token).read_text()
        method = "PUT" if path.endswith("faults") else "POST"
        told = {"Authorization": f"Bearer {secret}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return httpx.request(method, self.urls[participant] + path, json=body, headers=told, timeout=30)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ingestion() as events:
        made = Shop(tmp_path, events)
        made.start()
        yield made
        made.process.kill()
        made.process.wait()
        if made.process.stdout is not None:
            made.process.stdout.close()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


def test_the_books_are_right_after_faults_and_a_kill(shop: Shop) -> None:
    # The doors.
    assert shop.post("payment", "/v1/do", ORDER, token="shop-admin-token", Idempotency_Key="k").status_code == 401
    assert shop.post("payment", "/admin/faults", [], token="shop-token").status_code == 401
    assert shop.post("payment", "/v1/do", {**ORDER, "amount": -1}, Idempotency_Key="k").status_code == 422

    # What is repeated takes effect once, and what was undone does not take effect any more.
    for _ in range(3):
        assert shop.post("payment", "/v1/do", ORDER, Idempotency_Key="once").status_code == 200
        assert shop.post("inventory", "/v1/do", ORDER, Idempotency_Key="once").status_code == 200
    assert shop.rows("SELECT state FROM shop_charges WHERE key = 'once'") == [("charged",)]
    assert shop.redis.get("shop:reserved:once") == "2"
    for participant, said in (("payment", "Voided"), ("inventory", "Released")):
        assert shop.post(participant, "/v1/undo", ORDER, Idempotency_Key="late").status_code == 200
        refused = shop.post(participant, "/v1/do", ORDER, Idempotency_Key="late")
        assert (refused.status_code, refused.json()["detail"]) == (409, said)
        assert shop.post(participant, "/v1/undo", ORDER, Idempotency_Key="once").status_code == 200
    assert shop.rows("SELECT state FROM shop_charges WHERE key = 'once'") == [("voided",)]
    assert shop.post("notification", "/v1/do", ORDER, Idempotency_Key="x", isthmus_deadline_ms="0").status_code in (
        200,
        504,
    )

    # Faults, a participant that dies, and the orchestrator's own end while orders are under way.
    trouble = {"kind": "errors", "severity": 0.3, "seconds": 1.0}
    admin = "shop-admin-token"
    assert shop.post("payment", "/admin/faults", [trouble], token=admin).json() == {"faults": 1}
    with pytest.raises(httpx.TransportError):
        shop.post("inventory", "/admin/exit", {}, token=admin)
    until(lambda: sum(event["id"].endswith("/ended") for event in shop.events.lives[0]) >= 5)
    os.kill(shop.process.pid, signal.SIGKILL)
    shop.process.wait()
    until(lambda: not any(_listens(url) for url in shop.urls.values()))  # nobody is left behind

    shop.start()
    said, _ = shop.process.communicate(timeout=120)
    ends: dict[str, int] = json.loads(said)
    assert sum(ends.values()) == ORDERS, shop.log.read_text()
    assert ends.get("confirmed", 0) >= ORDERS / 2

    told = {event["id"]: event for event in shop.events.lives[0]}
    subjects = {event["subject"] for event in told.values()}
    assert len(subjects) == ORDERS
    states = dict(shop.rows("SELECT order_id, state FROM shop_charges WHERE order_id LIKE 'order-%'"))
    charged = shop.rows("SELECT count(*) FROM shop_charges WHERE state = 'charged'")[0][0]
    held = 0
    for subject in subjects:
        completed = told[f"{subject}/ended"]["type"] == "isthmus.saga.completed"
        assert (states.get(subject) == "charged") == completed, "charged once where it completed, and else not at all"
        kept = shop.redis.get(f"shop:reserved:{subject}/reserve_stock@inventory")
        assert (kept not in (None, "released")) == completed
        held += int(str(kept)) if completed else 0
    assert charged == sum(told[f"{subject}/ended"]["type"].endswith("completed") for subject in subjects)
    left = sum(int(str(shop.redis.get(f"shop:stock:{item}"))) for item in range(ITEMS))
    assert left == ITEMS * STOCK - held


def _listens(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=2)
    except httpx.TransportError:
        return False
    return True
