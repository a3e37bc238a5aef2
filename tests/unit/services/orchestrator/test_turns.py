"""Turns for attempts: by HTTP, with tickets, from what is seen of participants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ml.steering.turns import Turn
from services.orchestrator import steering
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.standing import InForce, Keeper, Standing
from services.orchestrator.steering import UNKNOWN, Coming, TooManyParticipants, Turns
from services.orchestrator.web import application

TOKEN = "a token of the tests"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def standing(timeout_ms: float) -> Standing:
    action = {"steps": [{"step": "charge", "participant": "payment", "timeout_ms": timeout_ms}]}
    return Standing({"order": InForce("d-1", action, datetime.now(UTC) + timedelta(hours=1))})


def asks(turns: Turns, participant: str = "payment", saga: str = "o-1", **more: Any) -> Turn:
    given: dict[str, Any] = {"left": 60.0, "attempts": 0, "asked": 0, "then": ()} | more
    return turns.ask(Coming(participant, saga, **given))


def test_the_policy_says_what_is_usual_and_a_new_one_is_heard() -> None:
    known = [standing(2_000.0)]
    turns = Turns(lambda: known[0], clock=Clock(), seed=1)
    assert asks(turns).seconds == pytest.approx(2.0)
    assert asks(turns, "mailer").seconds == pytest.approx(UNKNOWN)
    known[0] = standing(4_000.0)
    assert asks(turns).seconds == pytest.approx(4.0)


def test_an_outage_is_seen_across_sagas_and_its_end_too() -> None:
    clock = Clock()
    turns = Turns(lambda: standing(1_000.0), clock=clock, seed=1)
    for number in range(300):
        turn = asks(turns, saga=f"o-{number}")
        if turn.ticket is not None:
            turns.tell("payment", turn.ticket, "refused")
        clock.now += 0.05
    held = asks(turns, saga="another")
    assert (held.move, held.ticket) == ("wait", None)
    assert 0 < held.seconds < 10
    for _ in range(40):
        clock.now += 1.5
        turn = asks(turns, saga="probe")
        if turn.ticket is not None:
            turns.tell("payment", turn.ticket, "ok")
    assert asks(turns, saga="another", asked=1).move == "send"


def test_a_ticket_counts_once_and_a_lost_one_is_counted_off() -> None:
    clock = Clock()
    turns = Turns(lambda: standing(1_000.0), clock=clock, seed=1)
    ticket = asks(turns).ticket
    assert ticket is not None
    for _ in range(2):
        turns.tell("payment", ticket, "ok")
    turns.tell("nobody", 1, "ok")
    turns.tell("payment", 12_345, "timed_out")
    assert flying(turns) == 0
    asks(turns)
    assert flying(turns) == 1
    clock.now += 100.0
    asks(turns, saga="o-2")
    assert flying(turns) == 1


def flying(turns: Turns) -> float:
    metrics = {one.name: one for one in turns.collect()}
    return next(
        sample.value
        for sample in metrics["isthmus_orchestrator_participant_in_flight"].samples
        if sample.labels == {"participant": "payment"}
    )


def test_participants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "MOST_PARTICIPANTS", 2)
    turns = Turns(Standing, clock=Clock())
    asks(turns, "one", then=["two"])
    with pytest.raises(TooManyParticipants, match="2 participants"):
        asks(turns, "three")


def post(body: Mapping[str, Any], token: str = TOKEN) -> list[httpx.Response]:
    return asyncio.run(_post(body, token))


async def _post(body: Mapping[str, Any], token: str) -> list[httpx.Response]:
    nothing: Any = None  # nothing is read
    app = application(Keeper(nothing, nothing, nothing), {"tests": TOKEN}, Live(), Past(nothing))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://advice") as client:
        headers = {"Authorization": f"Bearer {token}"}
        first = await client.post("/v1/attempts", json=body, headers=headers)
        ticket = first.json().get("ticket") if first.status_code == 200 else None
        ended = [{"participant": "payment", "ticket": ticket or 1, "outcome": "ok"}]
        told = await client.post("/v1/attempts", json={"saga_id": "o-1", "ended": ended}, headers=headers)
        return [first, told]


def test_by_http() -> None:
    first, told = post({"saga_id": "o-1", "participant": "payment", "left_ms": 9_000, "then": ["mailer"]})
    assert first.status_code == 200
    answer = first.json()
    assert (answer["move"], answer["ticket"], answer["ms"]) == ("send", 1, 5_000.0)
    assert answer["because"]
    assert (told.status_code, told.content) == (204, b"")


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        ({"saga_id": "o-1", "participant": "payment"}, "another", 401),
        ({"participant": "payment"}, TOKEN, 422),
        ({"saga_id": "o-1", "participant": "payment", "left_ms": -1}, TOKEN, 422),
        ({"saga_id": "o-1", "ended": [{"participant": "p", "ticket": 1, "outcome": "fine"}]}, TOKEN, 422),
    ],
)
def test_refusals(body: Mapping[str, Any], token: str, status: int) -> None:
    assert post(body, token)[0].status_code == status


class Desk:
    """Sagas that ask one process, each as a task."""

    def __init__(self, limit: float = 1.0) -> None:
        self.turns = Turns(lambda: standing(1_000.0), seed=1)
        asks(self.turns, saga="the first")
        self.turns._steering.health["payment"].limit = limit
        self.gone: set[str] = set()

    async def ask(self, saga: str, *, left: float = 60.0, hold: float = 30.0) -> steering.Turn | None:
        async def is_gone() -> bool:
            return saga in self.gone

        return await self.turns.ask_and_wait(Coming("payment", saga, left), hold=hold, is_gone=is_gone)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_who_is_held_is_called_when_a_place_is_free_the_one_with_the_least_time_first() -> None:
    async def course() -> None:
        desk = Desk()
        patient = asyncio.create_task(desk.ask("patient", left=50.0))
        urgent = asyncio.create_task(desk.ask("urgent", left=40.0))
        await wait_until(lambda: desk.turns.held == 2)
        desk.turns.tell("payment", 1, "error")  # it frees a place, and lets in no more than before
        # Both have pauses that are longer than this takes: it is the call that wakes one of them.
        turn = await asyncio.wait_for(urgent, 1)
        assert turn is not None
        assert turn.move == "send"
        assert not patient.done()
        assert turn.ticket is not None
        desk.turns.tell("payment", turn.ticket, "ok")
        other = await asyncio.wait_for(patient, 1)
        assert other is not None
        assert (other.move, desk.turns.held) == ("send", 0)

    asyncio.run(course())


def test_a_hold_ends_with_wait_and_who_is_gone_takes_no_turn() -> None:
    async def course() -> None:
        desk = Desk()
        turn = await desk.ask("short", hold=0.05)
        assert turn is not None
        assert turn.move == "wait"
        desk.gone.add("gone")
        assert await desk.ask("gone", left=30.0) is None
        assert desk.turns._steering.waiting("payment") == 1  # the short one, until its deadline
        assert desk.turns.held == 0

    asyncio.run(course())


def test_holds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def course() -> None:
        desk = Desk()
        monkeypatch.setattr(steering, "MOST_HELD", 1)
        held = asyncio.create_task(desk.ask("held"))
        await wait_until(lambda: desk.turns.held == 1)
        turn = await desk.ask("too many")
        assert turn is not None
        assert turn.move == "wait"
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        assert desk.turns.held == 0

    asyncio.run(course())
