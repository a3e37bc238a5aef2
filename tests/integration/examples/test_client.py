"""The client library against the real advice service, router and broker: what it reports stands on the bus."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from events.catalogue import DEAD_LETTER, SAGAS
from events.codec import Event, decode
from examples.client import Attempt, Client, Declined, Undelivered
from examples.client.asking import HttpAdviser
from examples.client.blocking import BlockingClient
from examples.client.reporting import Reports
from examples.client.sinks import HttpSink, KafkaSink
from resources.kafka import KafkaResource
from tests.conftest import ROOT, free_port, running
from tests.integration.router.bus import Reader, router

pytestmark = pytest.mark.embedded


@dataclass
class Stack:
    """A router, and an advice service without stores, which answers safe defaults."""

    bootstrap: str
    router: str
    advice: str
    advice_process: subprocess.Popen[str]
    home: Path

    def token(self, name: str) -> str:
        return (self.home / "secrets" / name).read_text()

    def events(self, source: str, count: int) -> list[Event]:
        """Return the events of ``source`` on the topic of sagas, once there are ``count`` different ones."""
        reader = Reader(self.bootstrap, (SAGAS, DEAD_LETTER))

        def ours() -> list[Event]:
            assert not [
                one for one in reader.records if one.topic == DEAD_LETTER and source.encode() in (one.value or b"")
            ]
            found = [decode(one.value) for one in reader.records if one.topic == SAGAS and one.value]
            return [event for event in found if event.source == source]

        reader.until(lambda _: len({event.id for event in ours()}) >= count)
        reader.close()
        return ours()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str) -> Iterator[Stack]:
    folder, port = tmp_path_factory.mktemp("client"), free_port()
    home = folder / ".isthmus"
    home.mkdir()
    KafkaResource(bootstrap=kafka_bootstrap).ensure_topics()
    env = {
        "ISTHMUS_HOME": str(home),
        "ISTHMUS_ORCHESTRATOR_PORT": str(port),
        "ISTHMUS_WAREHOUSE_URL": f"http://127.0.0.1:{free_port()}",
    }
    with ExitStack() as opened:
        routing = opened.enter_context(router(kafka_bootstrap, home))
        process = opened.enter_context(running("services.orchestrator", log=folder / "advice.log", env=env))
        yield Stack(kafka_bootstrap, routing.address, f"http://127.0.0.1:{port}", process, home)


async def _answer(attempt: Attempt) -> str:
    if attempt.step == "charge_payment" and attempt.saga_id.endswith("3"):
        raise Declined("CardDeclined")
    if attempt.step == "charge_payment" and attempt.number == 1 and attempt.saga_id.endswith("5"):
        raise ConnectionResetError
    return "done"


async def _order(client: Client, name: str) -> None:
    try:
        async with client.saga("order", name, amount=20.0, currency="EUR", deadline_seconds=60) as saga:
            await saga.step("reserve_stock", "inventory", _answer, compensate=_answer)
            await saga.step("charge_payment", "payment", _answer, compensate=_answer)
            saga.outcome = "confirmed"
    except Declined:
        return


def test_the_example_of_the_documentation_runs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "api" / "client.md").read_text()
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    monkeypatch.chdir(stack.home.parent)
    monkeypatch.setenv("ADVICE_URL", stack.advice)
    monkeypatch.setenv("EVENTS_URL", stack.router)
    exec(compile(example, "client.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "order-4711 is paid\norder-4712 is declined: CardDeclined\n"
    events = stack.events("/shop/orders", 17)
    ends = {event.subject: event.data for event in events if event.id.endswith("/ended")}
    assert ends["order-4711"]["outcome"] == "confirmed"
    assert ends["order-4712"]["reason"] == "business"


def test_sagas_go_on_while_the_advice_service_is_killed_and_every_event_arrives(stack: Stack) -> None:
    run = secrets.token_hex(4)
    source = f"/tests/{run}"
    adviser = HttpAdviser(stack.advice, stack.token("advice-token"), seconds=2.0)
    sink = HttpSink(stack.router, stack.token("ingest-token"))

    async def orders() -> int:
        client = Client(source, Reports(sink, batch=20, pause=0.01), adviser=adviser)
        async with client:
            await asyncio.gather(*(_order(client, f"{run}-{number}") for number in range(10)))
            assert adviser.figures["answered"] > 20
            os.kill(stack.advice_process.pid, signal.SIGKILL)
            stack.advice_process.wait()
            await asyncio.gather(*(_order(client, f"{run}-{number}") for number in range(10, 20)))
        return client.reports.delivered

    delivered = asyncio.run(orders())
    events = stack.events(source, delivered)
    assert len({event.id for event in events}) == delivered
    marks = [event.data["attributes"]["advice"] for event in events if event.data.get("status") == "scheduled"]
    assert {"service", "cached"} <= set(marks), "whose word an attempt rests on stands in its event"
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert (kinds.count("started"), kinds.count("completed"), kinds.count("aborted")) == (20, 18, 2)
    for number in range(20):
        course = [event.id.rpartition("/")[2] for event in events if event.subject == f"{run}-{number}"]
        tail = {
            3: ["failed", "compensated", "ended"],
            5: ["failed", "retried", "scheduled", "started", "completed", "ended"],
        }
        assert course[0] == "started", "in the order in which it happened"
        assert course[-len(tail.get(number % 10, ["completed", "ended"])) :] == tail.get(
            number % 10, ["completed", "ended"]
        )


def test_blocking_code_and_the_bus_itself(stack: Stack) -> None:
    run = secrets.token_hex(4)
    source = f"/tests/{run}"
    client = Client(source, Reports(KafkaSink(stack.bootstrap)))
    undone: list[str] = []

    def charge(attempt: Attempt) -> str:
        return f"{attempt.step} once"

    def refuse(attempt: Attempt) -> None:
        raise Declined("OutOfStock")

    def declined(blocking: BlockingClient, name: str) -> None:
        with blocking.saga("order", name) as saga:
            saga.step("charge_payment", "payment", charge, compensate=lambda attempt: undone.append(attempt.step))
            saga.step("reserve_stock", "inventory", refuse)

    with BlockingClient(client) as blocking:
        with blocking.saga("order", f"{run}-1", amount=5.0) as saga:
            assert saga.step("charge_payment", "payment", charge) == "charge_payment once"
        with pytest.raises(Declined, match="OutOfStock"):
            declined(blocking, f"{run}-2")
    assert undone == ["charge_payment"]
    events = stack.events(source, 14)
    assert [event.id.rpartition("/")[2] for event in events if event.subject == f"{run}-2"] == [
        *("started", "scheduled", "started", "completed", "scheduled", "started", "failed", "compensated", "ended")
    ]


def test_a_sink_that_cannot_reach_the_broker_keeps_the_events(tmp_path: Path) -> None:
    client = Client("/tests/away", Reports(KafkaSink(f"127.0.0.1:{free_port()}", seconds=0.5)))

    async def order() -> None:
        await _order(client, "o-1")
        await client.aclose(0.8)

    with pytest.raises(Undelivered) as left:
        asyncio.run(order())
    assert decode(left.value.events[0]).id == "o-1/started"
