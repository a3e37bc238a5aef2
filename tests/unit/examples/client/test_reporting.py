"""The buffer and the sinks: at least once, in order, and nothing dropped in silence."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from examples.client import Undelivered
from examples.client.reporting import NotSent, Refused, Report, Reports, Trace
from examples.client.sinks import HttpSink


def reports(count: int, first: int = 0) -> list[Report]:
    return [Report(f"e-{n}", b"o-1", json.dumps({"id": f"e-{n}"}).encode()) for n in range(first, first + count)]


class Flaky:
    """A sink that takes every third batch, and refuses one event."""

    def __init__(self, error: Exception) -> None:
        self.taken: list[str] = []
        self.calls = 0
        self.error = error

    def send(self, batch: Sequence[Report]) -> list[Refused]:
        self.calls += 1
        if self.calls % 3:
            raise self.error
        self.taken += [one.id for one in batch]
        return [Refused(one, "no such type") for one in batch if one.id == "e-7"]

    def close(self) -> None:
        pass


class Away:
    """A sink that nothing reaches."""

    def send(self, batch: Sequence[Report]) -> list[Refused]:
        raise NotSent("ConnectError")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [NotSent("ConnectError"), RuntimeError("card 4711")])
def test_what_is_not_sent_is_sent_again_in_order(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    sink = Flaky(error)
    refused: list[Refused] = []
    buffer = Reports(sink, batch=4, pause=0.001, on_refused=refused.append)
    for one in reports(10):
        buffer.put(one)
    assert buffer.flush(20)
    buffer.close()
    assert sink.taken == [f"e-{n}" for n in range(10)]
    assert (buffer.delivered, buffer.refused, buffer.waiting) == (9, 1, 0)
    assert [one.report.id for one in refused] == ["e-7"]
    assert "e-7 was refused: no such type" in caplog.text
    assert "4711" not in caplog.text


def test_on_refused_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Refused) -> None:
        raise KeyError

    sink = Flaky(NotSent())
    sink.calls = 2
    buffer = Reports(sink, on_refused=broken)
    for one in reports(8):
        buffer.put(one)
    buffer.close()
    assert len(sink.taken) == 8
    assert "on_refused failed with KeyError" in caplog.text


def test_what_cannot_be_delivered_is_handed_back() -> None:
    buffer = Reports(Away(), limit=2, pause=0.001)
    for one in reports(3):
        buffer.put(one)
    assert buffer.is_full
    with pytest.raises(Undelivered) as left:
        buffer.close(0.05)
    assert [json.loads(value)["id"] for value in left.value.events] == ["e-0", "e-1", "e-2"]
    with pytest.raises(RuntimeError, match="closed"):
        buffer.put(reports(1)[0])


def test_a_process_that_forgets_to_close_is_told(caplog: pytest.LogCaptureFixture) -> None:
    buffer = Reports(Away(), pause=100)
    buffer.put(reports(1)[0])
    with caplog.at_level(logging.ERROR):
        buffer._at_exit(0.01)
    assert "1 events of sagas were not delivered" in caplog.text


class Router(ThreadingHTTPServer):
    """The router's answers, on script: (status, body, headers) each, then 202."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, Any]] = []
        self.batches: list[list[str]] = []
        self.headers: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Router
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.batches.append([one["id"] for one in json.loads(body)])
        self.server.headers.append(dict(self.headers))
        status, answer = self.server.script.pop(0) if self.server.script else (202, {})
        said = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def router() -> Iterator[Router]:
    server = Router()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sink(router: Router) -> HttpSink:
    return HttpSink(f"http://127.0.0.1:{router.server_address[1]}", "a token")


def error(index: Any, **more: Any) -> dict[str, Any]:
    return {"errors": [{"index": index, "reason": "invalid-data", "detail": "/data/step is missing", **more}]}


def test_a_batch_goes_in_one_request(router: Router) -> None:
    assert sink(router).send(reports(3)) == []
    assert router.batches == [["e-0", "e-1", "e-2"]]
    assert router.headers[0]["Content-Type"] == "application/cloudevents-batch+json"
    assert router.headers[0]["Authorization"] == "Bearer a token"


def test_what_the_router_refuses_is_left_out_and_named(router: Router) -> None:
    router.script = [(422, error(1))]
    (refused,) = sink(router).send(reports(3))
    assert (refused.report.id, refused.reason) == ("e-1", "invalid-data: /data/step is missing")
    assert router.batches[1] == ["e-0", "e-2"], "none of the first request was taken"


def test_a_batch_that_is_too_large_goes_in_parts(router: Router) -> None:
    router.script = [(413, {}), (202, {}), (413, {}), (202, {}), (413, {})]
    (refused,) = sink(router).send(reports(4))
    assert router.batches == [["e-0", "e-1", "e-2", "e-3"], ["e-0", "e-1"], ["e-2", "e-3"], ["e-2"], ["e-3"]]
    assert refused.report.id == "e-3"
    large = [Report(f"e-{n}", b"o-1", json.dumps({"id": f"e-{n}", "x": "x" * 400_000}).encode()) for n in range(3)]
    router.batches.clear()
    assert sink(router).send(large) == []
    assert router.batches == [["e-0", "e-1"], ["e-2"]]


@pytest.mark.parametrize("status", [401, 408, 500, 503, 504])
def test_all_else_is_sent_again(router: Router, status: int) -> None:
    router.script = [(status, {"accepted": ["e-0"]})]
    with pytest.raises(NotSent, match=str(status)):
        sink(router).send(reports(2))
    with pytest.raises(NotSent, match="ConnectError"):
        HttpSink("http://127.0.0.1:9", "a token").send(reports(1))


@pytest.mark.parametrize("body", [{}, {"errors": []}, error(9), error("x"), {"errors": [3]}])
def test_a_refusal_that_names_nothing_costs_no_event(router: Router, body: Any) -> None:
    router.script = [(422, body)]
    with pytest.raises(NotSent):
        sink(router).send(reports(2))


def test_a_trace_is_the_callers_or_the_sagas_own() -> None:
    own = Trace.of("o-1", None)
    assert own == Trace.of("o-1", "nonsense")
    assert own.parent("a") != own.parent("b")
    assert own.parent("a") == Trace.of("o-1", None).parent("a")
    assert Trace.of("o-1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").parent("a")[3:35] == (
        "4bf92f3577b34da6a3ce929d0e0e4736"
    )
