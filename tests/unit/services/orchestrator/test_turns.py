"""Turns for attempts: by HTTP, with tickets, from what is seen of participants."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.orchestrator import steering
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.standing import InForce, Keeper, Standing
from services.orchestrator.steering import UNKNOWN, TooManyParticipants, Turns
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


def asks(turns: Turns, participant: str = "payment", saga: str = "o-1", **more: Any) -> steering.Turn:
    given: dict[str, Any] = {"left": 60.0, "attempts": 0, "asked": 0, "then": ()} | more
    return turns.ask(participant, saga, **given)


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
