"""Traces of a router process: from the incoming event's context to the outgoing one's, by way of a collector."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from events.catalogue import DEAD_LETTER, INGRESS, SAGAS
from events.codec import encode
from services.router.dead_letter import DeadLetter, original
from tests.conftest import free_port
from tests.integration.router.bus import STEP, Reader, Record, Router, producer, router

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = SAMPLED[:-1] + "0"
TOKEN = "token-of-the-tests-0001"
CANARY = "canary-of-the-collector"


class Collector:
    """An OTLP/HTTP receiver that keeps the spans it is sent, or keeps everybody waiting."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.open = Event()
        self.open.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.open.wait(60)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.bodies.append(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[Collector]:
        Thread(target=self._server.serve_forever, daemon=True).start()
        yield self
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def until(self, count: int) -> list[Span]:
        wait(lambda: len(self.spans) >= count)
        return self.spans


def wait(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector().serving() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(bootstrap: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    settings = {
        "otlp_endpoint": collector.url,
        "otlp_headers": json.dumps({"X-Scope": CANARY}),
        "ingest_tokens": json.dumps({"shop": TOKEN}),
    }
    with router(bootstrap, tmp_path_factory.mktemp("tracing"), **settings) as running:
        yield running


@pytest.fixture
def reader(bootstrap: str) -> Iterator[Reader]:
    reader = Reader(bootstrap, (INGRESS, SAGAS, DEAD_LETTER))
    yield reader
    reader.close()


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in span.attributes}


def event(subject: str, **more: Any) -> bytes:
    return encode("isthmus.saga.step", STEP, subject=subject, source="/tracing", id=subject, **more)


def on(reader: Reader, subject: str, topic: str) -> Record:
    """Return the record of a subject on a topic, once it has come."""
    reader.until(lambda records: any((each.topic, each.key) == (topic, subject.encode()) for each in records))
    (found,) = [each for each in reader.records if (each.topic, each.key) == (topic, subject.encode())]
    return found


def span_of(collector: Collector, record: Record) -> Span:
    """Return the span of an ingress record."""

    def found() -> list[Span]:
        at = {"messaging.destination.partition.id": str(record.partition), "messaging.kafka.offset": record.offset}
        return [span for span in list(collector.spans) if at.items() <= attributes(span).items()]

    wait(lambda: bool(found()))
    (span,) = found()
    return span


def test_the_next_reader_continues_the_senders_trace(bootstrap: str, service: Router, collector: Collector) -> None:
    reader, to, prefix = Reader(bootstrap, (INGRESS, SAGAS, DEAD_LETTER)), producer(bootstrap), f"t-{time.time_ns()}"
    header, attribute, plain, unsampled, bad = (f"{prefix}-{n}" for n in range(5))
    state = ("tracestate", b"vendor=1")
    value = event(attribute, traceparent=SAMPLED)
    to.produce(INGRESS, event(header), header, headers=[state, ("traceparent", SAMPLED.encode())])
    to.produce(INGRESS, value, attribute)
    to.produce(INGRESS, event(plain), plain)
    to.produce(INGRESS, event(unsampled), unsampled, headers=[("traceparent", UNSAMPLED.encode())])
    to.produce(INGRESS, event(bad)[:-1], bad, headers=[("traceparent", SAMPLED.encode())])
    to.flush(10)

    by_header, by_attribute = (span_of(collector, on(reader, subject, INGRESS)) for subject in (header, attribute))
    for span in (by_header, by_attribute):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
        assert (span.name, span.kind) == ("route isthmus.ingress", Span.SPAN_KIND_CONSUMER)
        assert span.start_time_unix_nano < span.end_time_unix_nano
    outgoing = ("traceparent", f"00-{TRACE_ID}-{by_header.span_id.hex()}-01".encode())
    assert on(reader, header, SAGAS).headers == [state, outgoing]
    written = on(reader, attribute, SAGAS)
    assert written.headers == [("traceparent", f"00-{TRACE_ID}-{by_attribute.span_id.hex()}-01".encode())]
    assert written.value == value
    assert on(reader, plain, SAGAS).headers == []
    assert on(reader, unsampled, SAGAS).headers == [("traceparent", UNSAMPLED.encode())]

    letter, refusal = on(reader, bad, DEAD_LETTER), span_of(collector, on(reader, bad, INGRESS))
    assert (refusal.status.code, refusal.status.message) == (Status.STATUS_CODE_ERROR, "malformed-json")
    assert original([DeadLetter(letter.key, letter.value, letter.headers)])[2] == [("traceparent", SAMPLED.encode())]
    reader.close()

    assert not any(prefix.encode() in body for body in collector.bodies), "a key, a subject or a value in a span"
    assert {headers["x-scope"] for headers in collector.headers} == {CANARY}
    wait(lambda: 'spans_total{outcome="exported"} 3' in service.get("/metrics"))
    assert CANARY not in service.log.read_text()


def test_a_request_by_http_is_the_spans_parent(service: Router, collector: Collector, reader: Reader) -> None:
    subject = f"h-{time.time_ns()}"
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/cloudevents+json",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }
    assert httpx.post(f"{service.address}/v1/events", content=event(subject), headers=headers).status_code == 202
    span = span_of(collector, on(reader, subject, INGRESS))
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    expected = ("traceparent", f"00-{'a' * 32}-{span.span_id.hex()}-01".encode())
    assert on(reader, subject, SAGAS).headers == [expected]


@pytest.mark.parametrize("down", ["refuses", "keeps waiting"])
def test_a_collector_that_is_down_costs_spans_alone(bootstrap: str, tmp_path: Path, down: str) -> None:
    reader, to, prefix = Reader(bootstrap, (SAGAS,)), producer(bootstrap), f"d-{time.time_ns()}".encode()
    with Collector().serving() as collector:
        collector.open.clear()
        address = f"127.0.0.1:{free_port()}" if down == "refuses" else collector.url.removeprefix("http://")
        secret = f"http://user:{CANARY}@{address}"
        with router(bootstrap, tmp_path, otlp_endpoint=secret, traces_per_second="100000") as service:
            for number in range(3000):
                subject = f"{prefix.decode()}-{number}"
                to.produce(INGRESS, event(subject), subject, headers=[("traceparent", SAMPLED.encode())])
            to.flush(30)
            reader.until(lambda records: sum((each.key or b"").startswith(prefix) for each in records) >= 3000)
            wait(lambda: service.metric("spans_total") > 0)
            os.kill(service.process.pid, signal.SIGTERM)
            assert service.process.wait(20) == 0
        log = service.log.read_text()
    reader.close()
    assert CANARY not in log
    assert "collector" in log
    assert log.count("\n") < 40, "a flood of lines"
