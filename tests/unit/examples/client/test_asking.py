"""Asking: bounded, with an answer whatever the service does, and marked where it is not the service's own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from examples.client.advice import SAFE, Advice, Nonsense, PlannedUndo, parse
from examples.client.asking import HttpAdviser, Question
from examples.client.breaker import Breaker
from examples.client.reporting import Happened
from tests.unit.examples.client.world import NOON

STEP = {
    "step": "charge",
    "participant": "payment",
    "timeout_ms": 850.0,
    "attempts_left": 2,
    "retry_ratio": 0.2,
    "retry_window_seconds": 30.0,
    "backoff_ms": 120.0,
    "default": False,
}
ANSWER: dict[str, Any] = {"action": "go_on", "because": "fine", "decision_id": "d-1", "steps": [STEP]}


class Service(ThreadingHTTPServer):
    """A service that answers what a test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.wait = 200, json.dumps(ANSWER).encode(), 0.0
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, question, dict(self.headers)))
        time.sleep(self.server.wait)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def event(status: str, **more: Any) -> Happened:
    return Happened(NOON, "charge", "payment", 1, status, **more)


def question(*statuses: str) -> Question:
    return Question("order", "o 1/ü", NOON, [event(status) for status in statuses], 20.0, {"payment": 3.0}, "00-a-b-01")


def asking(adviser: HttpAdviser, *questions: Question, pause: float = 0.0) -> list[Advice]:
    async def all_of_them() -> list[Advice]:
        said = []
        for number, one in enumerate(questions):
            said.append(await adviser.ask(one, number * pause))
        await adviser.aclose()
        return said

    return asyncio.run(all_of_them())


def test_a_question_and_its_answer(service: Service) -> None:
    adviser = HttpAdviser(service.url, "a token", seconds=5)
    (said,) = asking(adviser, question("started", "failed"))
    assert (said.action, said.source, said.decision_id, said.problem) == ("go_on", "service", "d-1", "")
    policy = said.step("charge", "payment")
    assert (policy.timeout, policy.backoff, policy.attempts) == (0.85, 0.12, 3), "what is left, and the one that failed"
    assert said.step("other", "other") == SAFE
    path, told, headers = service.asked[0]
    assert path == "/v1/sagas/order/advice"
    assert headers["Authorization"] == "Bearer a token"
    assert told["saga_id"] == "o 1/ü"
    assert told["load"] == {"payment": 3.0}
    assert told["events"][1] == {
        "at": NOON.isoformat(),
        "step": "charge",
        "participant": "payment",
        "attempt": 1,
        "status": "failed",
    }


def test_a_service_that_is_slow_costs_its_limit_and_no_more(service: Service) -> None:
    service.wait = 2.0
    adviser = HttpAdviser(service.url, "a token", breaker=Breaker(failures=2, seconds=100, most_seconds=100))
    began = time.perf_counter()
    said = asking(adviser, *[question()] * 6)
    assert time.perf_counter() - began < service.wait
    assert {(one.source, one.problem) for one in said} == {("defaults", "TimeoutError")}
    assert adviser.figures["asked"] == 2, "then it is left alone"
    assert adviser.figures["not asked"] == 4


def test_what_was_told_last_stands_in_for_its_time(service: Service) -> None:
    adviser = HttpAdviser(service.url, "a token", seconds=5, cache_seconds=25, breaker=Breaker(failures=1, seconds=1))
    asking(adviser, question())
    service.status = 503
    later = asking(adviser, *[question("failed")] * 3, pause=20.0)
    assert [one.source for one in later] == ["cached", "cached", "defaults"]
    assert later[0].step("charge", "payment").timeout == 0.85
    assert later[0].decision_id == "d-1"
    assert later[2].step("charge", "payment") == SAFE
    assert "503" in later[0].problem


def test_a_policy_is_remembered_for_steps_that_an_answer_leaves_out(service: Service) -> None:
    adviser = HttpAdviser(service.url, "a token", seconds=5)
    asking(adviser, question())
    service.body = json.dumps({**ANSWER, "steps": []}).encode()
    asking(adviser, question("completed"))
    service.body = b"nothing"
    (kept,) = asking(adviser, question())
    assert kept.step("charge", "payment").timeout == 0.85


@pytest.mark.parametrize(
    ("statuses", "action"),
    [
        ((), "go_on"),
        (("started", "completed"), "go_on"),
        (("started", "failed"), "retry"),
        (("failed", "timed_out"), "compensate"),
        (("compensated", "started"), "compensate"),
    ],
)
def test_without_the_service_the_attempts_decide(statuses: tuple[str, ...], action: str) -> None:
    adviser = HttpAdviser("http://127.0.0.1:9", "a token", seconds=5)
    (said,) = asking(adviser, question(*statuses))
    assert (said.action, said.source) == (action, "defaults")
    assert said.problem == "ConnectError"


def test_it_is_asked_again_when_it_answers_again(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    adviser = HttpAdviser(service.url, "a token", seconds=5, breaker=Breaker(failures=2, seconds=5, most_seconds=40))
    service.status = 500
    asking(adviser, *[question()] * 4, pause=0.1)
    service.status = 200
    said = asking(adviser, *[question()] * 4, pause=2.0)
    assert [one.source for one in said] == ["defaults", "defaults", "defaults", "service"]
    lines = [record.message for record in caplog.records if "advice service" in record.message]
    assert len(lines) == 2, "what changed is logged, not each question"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action": "explode"}, "action"),
        ({"action": ["go_on"]}, "action"),
        ({"steps": None}, "steps"),
        ({"steps": ["x"]}, "steps[0]"),
        ({"steps": [{**STEP, "step": 1}]}, "no step"),
        ({"steps": [{**STEP, "timeout_ms": -5}]}, "timeout_ms: not within"),
        ({"steps": [{**STEP, "timeout_ms": 1e12}]}, "timeout_ms: not within"),
        ({"steps": [{**STEP, "timeout_ms": float("nan")}]}, "timeout_ms: not a number"),
        ({"steps": [{**STEP, "timeout_ms": True}]}, "timeout_ms: not a number"),
        ({"steps": [{**STEP, "attempts_left": "many"}]}, "attempts_left: not a number"),
        ({"steps": [{**STEP, "retry_ratio": 1000}]}, "retry_ratio"),
        ({"steps": [{**STEP, "backoff_ms": None}]}, "backoff_ms"),
        ({"compensation": "all"}, "compensation"),
        ({"compensation": [{}]}, "compensation"),
        ({"compensation": ["charge"]}, "compensation"),
        ({"compensation": [{"step": "a", "participant": "b", "way": 3}]}, "compensation"),
    ],
)
def test_nonsense_is_not_obeyed(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Nonsense) as nonsense:
        parse({**ANSWER, **change}, {})
    assert said in str(nonsense.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff", b"{}", b"[" * 100_000])
def test_answers_that_are_none_are_replaced(service: Service, body: bytes) -> None:
    service.body = body
    (said,) = asking(HttpAdviser(service.url, "a token", seconds=5), question())
    assert (said.source, said.action) == ("defaults", "go_on")
    assert said.problem


def test_a_breaker_lets_one_question_through_and_waits_longer_each_time() -> None:
    breaker = Breaker(failures=2, seconds=1.0, most_seconds=3.0)
    for now in (0.0, 0.1):
        assert breaker.may_ask(now)
        breaker.failed(now)
    assert not breaker.may_ask(1.0)
    breaker.failed(1.0)  # one that was under way when it opened
    assert breaker.may_ask(1.2)
    assert not breaker.may_ask(1.2), "one at a time"
    breaker.failed(1.3)
    assert not breaker.may_ask(3.2)
    assert breaker.may_ask(3.4)
    breaker.failed(3.4)
    assert not breaker.may_ask(6.3)
    assert breaker.may_ask(6.5), "no pause is longer than 3 s"
    breaker.answered()
    assert not breaker.is_open
    assert breaker.may_ask(6.5)
    with pytest.raises(ValueError, match="needed"):
        Breaker(failures=0)


def test_the_plan_of_undoing_is_read_where_it_is_told() -> None:
    told = {"step": "charge", "participant": "payment", "way": "void", "decided_by": "rule", "why": "", "rule": None}
    plan = parse({**ANSWER, "compensation": [told, {**told, "step": "ship", "way": None}]}, {}).compensation
    assert plan == (PlannedUndo("charge", "payment", "void"), PlannedUndo("ship", "payment", None))
    assert parse(ANSWER, {}).compensation == ()
