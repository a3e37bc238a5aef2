"""The gate: who comes in, who is told to come again, and that a crowd is answered as one alone would be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from resources.registry import ModelVersion
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.standing import Champion, InForce, Keeper, Standing
from services.orchestrator.web import application
from tests.integration.orchestrator.world import ACTION, model, question

PATH = "/v1/sagas/order/advice"
TOKEN = {"Authorization": "Bearer a token of the tests"}


class Nothing:
    """Stores that are never asked."""


@pytest.fixture(scope="module")
def standing() -> Standing:
    champion = Champion(ModelVersion("saga_failure.order.technical", 1, "run"), model())
    return Standing(
        {"order": InForce("decision-1", ACTION, datetime.now(UTC) + timedelta(hours=1))}, {"order": (champion,)}
    )


def service(standing: Standing, most_waiting: int) -> FastAPI:
    nothing: Any = Nothing()
    keeper = Keeper(nothing, nothing, nothing)
    keeper.standing = standing
    return application(keeper, {"tests": "a token of the tests"}, Live(), Past(nothing), most_waiting=most_waiting)


def asked(app: FastAPI, ask: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def with_client() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=TOKEN) as client:
            return await ask(client)

    return asyncio.run(with_client())


def questions(count: int) -> list[dict[str, Any]]:
    """Sagas of one to seven steps, each with another course."""
    shapes = [
        ("reserve", "inventory", "completed"),
        ("charge", "payment", "timed_out"),
        ("charge", "payment", "failed"),
    ]
    return [
        {**question(*(shapes[(number // 3**at) % 3] for at in range(1 + number % 7))), "saga_id": f"s-{number}"}
        for number in range(count)
    ]


def test_a_crowd_is_answered_as_one_alone(standing: Standing) -> None:
    app = service(standing, 200)

    async def both(client: httpx.AsyncClient) -> tuple[list[bytes], list[bytes]]:
        alone = [(await client.post(PATH, json=one)).content for one in questions(120)]
        crowd = await asyncio.gather(*(client.post(PATH, json=one) for one in questions(120)))
        return alone, [answer.content for answer in crowd]

    alone, crowd = asked(app, both)
    assert crowd == alone
    assert len({*alone}) == 120


def test_more_than_may_wait_are_told_to_come_again_and_no_one_is_answered_wrongly(standing: Standing) -> None:
    app = service(standing, 8)

    async def all_at_once(client: httpx.AsyncClient) -> tuple[list[httpx.Response], str]:
        answers = await asyncio.gather(*(client.post(PATH, json=one) for one in questions(60)))
        return list(answers), (await client.get("/metrics")).text

    answers, metrics = asked(app, all_at_once)
    by_status: Mapping[int, list[httpx.Response]] = {
        status: [one for one in answers if one.status_code == status] for status in (200, 503)
    }
    assert len(by_status[200]) == 8
    assert len(by_status[503]) == 52
    assert {one.headers["Retry-After"] for one in by_status[503]} == {"1"}
    for number, one in enumerate(answers):
        if one.status_code == 200:
            assert one.json()["saga_id"] == f"s-{number}"
            assert one.json()["defaults"] == []
    assert 'isthmus_orchestrator_refused_total{status="503"} 52.0' in metrics
    assert "isthmus_orchestrator_waiting 0.0" in metrics


def test_who_has_no_token_takes_no_place(standing: Standing) -> None:
    app = service(standing, 4)

    async def crowd(client: httpx.AsyncClient) -> list[int]:
        strangers = [client.post(PATH, json=question(), headers={"Authorization": "Bearer no"}) for _ in range(50)]
        known = [client.post(PATH, json=question()) for _ in range(4)]
        return [answer.status_code for answer in await asyncio.gather(*strangers, *known)]

    assert asked(app, crowd) == [401] * 50 + [200] * 4


def test_those_who_look_after_it_do_not_wait(standing: Standing) -> None:
    app = service(standing, 1)

    async def crowd(client: httpx.AsyncClient) -> list[int]:
        asks = [client.post(PATH, json=question()) for _ in range(5)]
        return [answer.status_code for answer in await asyncio.gather(*asks, client.get("/health"))]

    assert asked(app, crowd) == [200, 503, 503, 503, 503, 200]


def test_one_who_gave_up_waiting_holds_up_no_one(standing: Standing) -> None:
    app = service(standing, 10)

    async def crowd(client: httpx.AsyncClient) -> int:
        waiting = [asyncio.ensure_future(client.post(PATH, json=question())) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        first, _, third = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(first, httpx.Response)
        assert isinstance(third, httpx.Response)
        return first.status_code + third.status_code

    assert asked(app, crowd) == 400
