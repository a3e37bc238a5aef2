"""Turns in the client: asked of the real application, obeyed, told, and done without where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from examples.client import Attempt, Client, StepFailed
from examples.client.attempt import Outcome
from examples.client.loops import Connections
from examples.client.reporting import Reports
from examples.client.sinks import ListSink
from examples.client.turns import Coming, HttpTurner, Turn, told
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.standing import Keeper
from services.orchestrator.web import application

TOKEN = "a token of the tests"
NOTHING: Any = None  # no store is read


def turner(token: str = TOKEN, **more: Any) -> HttpTurner:
    """A turner of an advice service that begins anew, in this process."""
    app = application(Keeper(NOTHING, NOTHING, NOTHING), {"tests": TOKEN}, Live(), Past(NOTHING))
    return over(httpx.ASGITransport(app), token, **more)


def over(transport: httpx.AsyncBaseTransport, token: str = TOKEN, **more: Any) -> HttpTurner:
    made = HttpTurner("http://advice", token, **more)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    made._http = Connections(transport=transport, headers=headers)
    return made


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> HttpTurner:
    return over(httpx.MockTransport(answer))


def client(turns: HttpTurner) -> Client:
    return Client("/tests/turns", Reports(ListSink()), turner=turns)


def coming(saga: str = "o-1", left: float = 30.0) -> Coming:
    return Coming(saga, "charge", "payment", left, 0, ("mailer",))


async def metric(turns: HttpTurner, name: str) -> float:
    text = (await turns._http.here().get("http://advice/metrics")).text
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_a_step_is_given_its_turn_and_its_end_is_told() -> None:
    seen: list[Attempt] = []

    async def charge(attempt: Attempt) -> str:
        seen.append(attempt)
        return "paid"

    async def course() -> None:
        turns = turner()
        async with client(turns) as made:
            async with made.saga("order", "o-1", deadline_seconds=60, route=["payment", "mailer"]) as saga:
                assert saga.after("payment") == ("mailer",)
                assert await saga.step("charge", "payment", charge) == "paid"
            await asyncio.sleep(0.05)
            assert await metric(turns, 'isthmus_orchestrator_turns_total{move="send"}') == 1
            assert await metric(turns, 'isthmus_orchestrator_participant_in_flight{participant="payment"}') == 0

    asyncio.run(course())
    assert seen[0].seconds == pytest.approx(5.0)  # of a participant that is not known, as the service says


def test_a_failing_participant_is_tried_beyond_the_attempts_of_the_defaults() -> None:
    calls = 0

    async def charge(_: Attempt) -> str:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ConnectionError
        return "paid"

    async def course() -> None:
        async with client(turner()) as made, made.saga("order", "o-1", deadline_seconds=60) as saga:
            assert await saga.step("charge", "payment", charge) == "paid"

    asyncio.run(course())
    assert calls == 4


def test_a_stop_ends_the_step_as_its_deadline_does() -> None:
    async def charge(_: Attempt) -> str:
        raise AssertionError("it is not sent")

    async def course() -> None:
        stop = {"move": "stop", "ms": 0, "because": "it cannot be in time any more", "ticket": None}
        made = client(answering(lambda _: httpx.Response(200, json=stop)))
        with pytest.raises(StepFailed) as failed:
            async with made, made.saga("order", "o-1", deadline_seconds=60) as saga:
                await saga.step("charge", "payment", charge)
        assert failed.value.because == "deadline"

    asyncio.run(course())


def test_a_saga_without_a_deadline_is_not_held() -> None:
    async def charge(_: Attempt) -> str:
        return "paid"

    async def course() -> None:
        def fail(_: httpx.Request) -> httpx.Response:
            raise AssertionError("nobody is asked")

        async with client(answering(fail)) as made, made.saga("order", "o-1") as saga:
            await saga.step("charge", "payment", charge)

    asyncio.run(course())


def answers(status: int = 200, **document: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, json=document)


def refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there")


@pytest.mark.parametrize(
    "answer",
    [
        refused,
        answers(500),
        answers(move="dance", ms=1.0),
        answers(move="send", ms=100.0),
        answers(move="send", ms=-1.0, ticket=1),
        answers(move="wait", ms="soon"),
        lambda _: httpx.Response(200, content=b"["),
    ],
)
def test_where_no_turn_is_given_nobody_decides(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    async def course() -> list[Turn | None]:
        turns = answering(answer)
        return [await turns.turn(coming(), now=0.0) for _ in range(7)]

    assert asyncio.run(course()) == [None] * 7


def test_ends_that_could_not_be_told_are_told_with_the_next_question() -> None:
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        if len(asked) == 1:
            raise httpx.ConnectError("nobody is there")
        return httpx.Response(200, json={"move": "send", "ms": 100.0, "because": "", "ticket": 2})

    async def course() -> None:
        turns = answering(answer)
        turns._told.append(told_of(1))
        assert await turns.turn(coming(), now=0.0) is None
        assert await turns.turn(coming(), now=0.0) == Turn("send", 0.1, "", 2)

    asyncio.run(course())
    assert b'"ticket":1' in asked[1]


def told_of(ticket: int) -> Any:
    from examples.client.turns import _Ended

    return _Ended("payment", ticket, "ok")


def status(code: int) -> Outcome:
    request = httpx.Request("POST", "http://payment")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(code, request=request))
    return Outcome("failed", 0.1, cause=error)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome("completed", 0.1), "ok"),
        (Outcome("declined", 0.1), "declined"),
        (Outcome("timed_out", 0.1), "timed_out"),
        (Outcome("failed", 0.1, cause=ValueError()), "error"),
        (Outcome("failed", 0.1, cause=httpx.ConnectError("")), "refused"),
        (status(503), "refused"),
        (status(500), "error"),
    ],
)
def test_how_an_attempt_ended_in_a_word(outcome: Outcome, word: str) -> None:
    assert told(outcome) == word
