"""Over HTTP: an explanation beside the advice, root cause by its own route, and answers as they are described."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from resources.registry import ModelVersion
from services.orchestrator import description
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.ranking import Busy, Failed, Ranker, RootCauseAnswer, ranked
from services.orchestrator.standing import Champion, InForce, Keeper, Standing
from services.orchestrator.web import application
from tests.integration.orchestrator.world import ACTION, model, question
from tests.small_system import KINDS, Fault, traffic
from tests.unit.services.orchestrator.test_explanations import BURST, WRITE_UP, Tables, write

PATH, ROOT_CAUSE = "/v1/sagas/order/advice", "/v1/root-cause"
TOKEN = {"Authorization": "Bearer a token of the tests"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    nothing: Any = Tables()
    keeper = Keeper(nothing, nothing, nothing)
    champion = Champion(ModelVersion("saga_failure.order.technical", 1, "run"), model())
    policy = InForce("decision-1", ACTION, datetime.now(UTC) + timedelta(hours=1))
    keeper.standing = Standing({"order": policy}, {"order": (champion,)})
    past = Past(Tables(BURST), [write(tmp_path_factory.mktemp("runbooks"), card=WRITE_UP)], [])
    past.renew()
    return application(keeper, {"tests": "a token of the tests"}, Live(), past)


def asked(app: FastAPI, ask: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def with_client() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=TOKEN) as client:
            return await ask(client)

    return asyncio.run(with_client())


def advice(app: FastAPI, body: Any, saga_type: str = "order") -> dict[str, Any]:
    answer = asked(app, lambda client: client.post(f"/v1/sagas/{saga_type}/advice", json=body))
    assert answer.status_code == 200, answer.text
    description.Answer.model_validate_json(answer.content, strict=True)
    found: dict[str, Any] = answer.json()
    return found


def failing(error: str) -> dict[str, Any]:
    body = question(("reserve", "inventory", "completed"), ("charge", "payment", "failed"))
    body["events"][-1]["error"] = error
    return body


def test_a_failed_step_is_explained(app: FastAPI) -> None:
    found = advice(app, failing("card processor refuses connections, order 4711"))["explanation"]
    assert [one["participant"] for one in found["suspects"]] == ["payment"]
    assert found["past"]["runbook"]["found"][0]["id"] == "card"
    assert found["past"]["incidents"]["found"][0]["id"] == "saga_burst/burst-1"


def test_the_newest_event_decides_whatever_the_order_in_which_they_are_told(app: FastAPI) -> None:
    body = failing("card processor refuses connections")
    body["events"] = body["events"][::-1]
    assert advice(app, body)["explanation"]["past"]["runbook"]["found"][0]["id"] == "card"


def test_a_saga_without_trouble_needs_no_explanation(app: FastAPI) -> None:
    assert advice(app, question())["explanation"] is None
    assert advice(app, question(("reserve", "inventory", "completed")))["explanation"] is None


def test_an_alarm_is_explained_by_the_event_that_raised_it(app: FastAPI) -> None:
    body = question(("charge", "payment", "timed_out"), ("reserve", "inventory", "started"))
    said = advice(app, body)
    if said["risk"]["alarm"]:
        assert said["explanation"]["suspects"][0]["participant"] == "payment"
    else:
        assert said["explanation"] is None


def test_every_kind_of_answer_has_the_form_that_is_described(app: FastAPI) -> None:
    charge = ("charge", "payment")
    compensated = question((*charge, "completed"), (*charge, "compensated"))
    for body in (description.QUESTION, compensated, question((*charge, "timed_out")), question((*charge, "started"))):
        advice(app, body)
    assert advice(app, failing("x"), saga_type="unknown")["decision_id"] is None


def test_the_description_is_whole(app: FastAPI) -> None:
    told = asked(app, lambda client: client.get("/openapi.json")).json()
    forms = told["components"]["schemas"]
    for path, form in ((PATH.replace("order", "{saga_type}"), "Answer"), (ROOT_CAUSE, "RootCauseAnswer")):
        operation = told["paths"][path]["post"]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{form}")
        assert {"401", "411", "413", "422", "503"} <= operation["responses"].keys()
        assert operation["security"] == [{"HTTPBearer": []}]
        assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("uestion")
    assert forms["Question"]["examples"]

    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    assert {one.removeprefix("#/components/schemas/") for one in references(told)} <= forms.keys()
    assert all(each.get("description") for each in forms["Answer"]["properties"].values())


def seen(found: Any) -> dict[str, Any]:
    """What was observed, as JSON tells it."""
    logs = found.logs.drop(columns=[name for name in found.logs if name not in ("trace", "span", "service", "text")])
    return {
        "spans": found.spans.astype({"start_us": "int64", "end_us": "int64"}).to_dict("records"),
        "logs": logs.to_dict("records"),
        "metrics": [
            {
                "time_us": int(row["time_us"]),
                "service": row["service"],
                "values": {name: float(row[name]) for name in KINDS},
            }
            for row in found.metrics.to_dict("records")
        ],
    }


@pytest.fixture(scope="module")
def brownout() -> bytes:
    """A leaf takes forty milliseconds longer, beside twelve calm minutes."""
    window = traffic(Fault(own_ms={"stock": 40}), seed=1, start=100)
    return orjson.dumps({"window": seen(window), "reference": seen(traffic(seed=0, minutes=12)), "kinds": KINDS})


def test_root_cause_over_http(app: FastAPI, brownout: bytes) -> None:
    answer = asked(app, lambda client: client.post(ROOT_CAUSE, content=brownout, timeout=60))
    assert answer.status_code == 200, answer.text
    RootCauseAnswer.model_validate_json(answer.content)
    first, second = answer.json()["ranking"][:2]
    assert first["service"] == "stock"
    assert first["score"] > 2 * second["score"]
    assert first["evidence"][0]["words"]
    assert answer.json()["used"] == ["traces", "logs", "metrics"]


def test_root_cause_is_bounded_and_refuses_plainly(app: FastAPI) -> None:
    async def refusals(client: httpx.AsyncClient) -> list[int]:
        huge = {"Content-Length": "33554433"}
        return [
            (await client.post(ROOT_CAUSE, content=b"{}", headers=huge)).status_code,
            (await client.post(ROOT_CAUSE, content=b"{}", headers={"Authorization": "Bearer no"})).status_code,
        ]

    assert asked(app, refusals) == [413, 401]
    for body, place in (
        (b"{", ["body"]),
        (b'{"window": {}, "reference": {}}', ["body"]),
        (b'{"window": {"spans": [{"trace": "secret 4711"}]}, "reference": {}}', ["body", "window", "spans", 0, "span"]),
    ):
        status, answer = ranked(body)
        assert status == 422
        assert place in [one["at"] for one in orjson.loads(answer)["problems"]]
        assert b"4711" not in answer
    example = orjson.dumps(description.ROOT_CAUSE)
    assert ranked(example)[0] == 422, "the example has no reference"
    assert b"nothing to rank" in ranked(example)[1]


def test_one_ranking_at_a_time_and_none_for_ever(brownout: bytes, tmp_path: Path) -> None:
    async def two() -> list[Any]:
        ranker = Ranker(seconds=0.05)
        return list(await asyncio.gather(ranker.rank(brownout), ranker.rank(brownout), return_exceptions=True))

    first, second = asyncio.run(two())
    assert isinstance(first, Failed)
    assert isinstance(second, Busy)
