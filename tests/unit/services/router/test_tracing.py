"""Tracing: which events get a span, what it says and never says, and that a bad collector costs spans only."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.router import tracing as module
from services.router.routing import Headers, Refused, Routed
from services.router.tracing import Context, Tracing, context_of

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
SECRET = "secret-of-the-event"


@dataclass(frozen=True)
class Message:
    def topic(self) -> str:
        return "isthmus.ingress"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 17


class Error:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


class Failing(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError(f"a text with {SECRET}")


class Stuck(SpanExporter):
    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.release.wait(60)
        return SpanExportResult.SUCCESS


def routed(traceparent: str | None = None, copies: tuple[str, ...] = ()) -> Routed:
    return Routed(
        "isthmus.saga.step", "isthmus.sagas", SECRET.encode(), SECRET.encode(), False, copies, traceparent=traceparent
    )


def trace(tracing: Tracing, headers: Headers | None, traceparent: str | None = None) -> Headers | None:
    """Return the headers that an event goes on with."""
    traced = tracing.routed(Message(), headers, routed(traceparent), time.time_ns())
    if traced is None:
        return headers
    carried = traced.carried(headers)
    traced.until(lambda error, written: None, 1)(None, None)
    return carried


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SAMPLED, Context(int(TRACE_ID, 16), int(SPAN_ID, 16), 1)),
        (UNSAMPLED, Context(int(TRACE_ID, 16), int(SPAN_ID, 16), 0)),
        (f"01-{TRACE_ID}-{SPAN_ID}-03-of the future", Context(int(TRACE_ID, 16), int(SPAN_ID, 16), 3)),
        (f"00-{TRACE_ID}-{SPAN_ID}-01-", None),
        (f"01-{TRACE_ID}-{SPAN_ID}-01x", None),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", None),
        (f"00-{'0' * 32}-{SPAN_ID}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (SAMPLED.upper(), None),
        (SAMPLED[:-1], None),
        (SAMPLED + "\n", None),
        ("", None),
    ],
)
def test_a_context_is_what_the_standard_says(value: str, expected: Context | None) -> None:
    assert context_of(value.encode()) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["traceparent", "other"]), st.none() | st.binary(max_size=80))))
def test_no_header_is_fatal(headers: list[tuple[str, bytes | None]]) -> None:
    tracing = Tracing(InMemorySpanExporter(), Counter(), per_second=1)
    assert trace(tracing, headers) == headers
    tracing.refused(Message(), headers, Refused("empty", ""), 1)
    tracing.close(seconds=60)


@pytest.mark.parametrize(
    ("headers", "attribute"),
    [
        (None, None),
        ([], UNSAMPLED),
        ([("traceparent", UNSAMPLED.encode())], SAMPLED),  # the header decides
        ([("traceparent", b"00-1")], SAMPLED),
        ([("traceparent", None)], SAMPLED),
        ([("traceparent", SAMPLED.encode()), ("traceparent", SAMPLED.encode())], None),
        (None, f"ff-{TRACE_ID}-{SPAN_ID}-01"),
    ],
)
def test_what_is_not_sampled_goes_on_as_it_came(headers: Headers | None, attribute: str | None) -> None:
    spans, counts = InMemorySpanExporter(), Counter[str]()
    tracing = Tracing(spans, counts, per_second=10)
    assert trace(tracing, headers, attribute) is headers
    tracing.close()
    assert not spans.get_finished_spans()
    assert not counts.total()


@pytest.mark.parametrize("by_header", [True, False])
def test_a_span_continues_the_trace_and_is_the_next_ones_parent(by_header: bool) -> None:
    spans, counts = InMemorySpanExporter(), Counter[str]()
    tracing = Tracing(spans, counts, per_second=10)
    others = [("a", SECRET.encode()), ("tracestate", b"vendor=1"), ("a", None)]
    own = [("traceparent", SAMPLED.encode())] if by_header else []
    carried = trace(tracing, [*own, *others], None if by_header else SAMPLED)
    tracing.close()
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert span.parent.is_remote
    assert span.kind is SpanKind.CONSUMER
    next_one = ("traceparent", f"00-{TRACE_ID}-{span.context.span_id:016x}-01".encode())
    assert carried == ([next_one, *others] if by_header else [*others, next_one])
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "route",
        "messaging.operation.type": "process",
        "messaging.destination.name": "isthmus.ingress",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 17,
        "messaging.consumer.group.name": "isthmus-router",
        "cloudevents.event_type": "isthmus.saga.step",
        "isthmus.route.topic": "isthmus.sagas",
        "isthmus.route.rewritten": False,
    }
    assert SECRET not in span.to_json()
    assert counts == {"exported": 1, "failed": 0, "dropped": 0, "limited": 0}


def test_a_span_ends_with_the_last_copy_and_says_what_the_broker_refused() -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(spans, Counter(), per_second=10)
    traced = tracing.routed(Message(), None, routed(SAMPLED, ("copy",)), time.time_ns())
    assert traced is not None
    told: list[str] = []
    delivered = traced.until(lambda error, written: told.append(error.name() if error else ""), 2)
    delivered(None, None)
    delivered(Error("MSG_SIZE_TOO_LARGE"), None)
    tracing.close()
    (span,) = spans.get_finished_spans()
    assert told == ["", "MSG_SIZE_TOO_LARGE"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "refused-by-broker")
    assert (span.attributes or {})["error.type"] == "MSG_SIZE_TOO_LARGE"


def test_a_dead_letter_has_a_span_with_its_reason_alone() -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(spans, Counter(), per_second=10)
    headers: Headers = [("traceparent", SAMPLED.encode())]
    tracing.refused(Message(), headers, Refused("invalid-data", f"at {SECRET}", SECRET, SECRET), time.time_ns())
    tracing.refused(Message(), None, Refused("empty", ""), time.time_ns())
    tracing.close()
    (span,) = spans.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "invalid-data")
    assert SECRET not in span.to_json()


def test_no_more_than_so_many_in_a_second() -> None:
    spans, counts, now = InMemorySpanExporter(), Counter[str](), [0.0]
    tracing = Tracing(spans, counts, per_second=3, clock=lambda: now[0])
    headers: Headers = [("traceparent", SAMPLED.encode())]
    changed = [trace(tracing, headers) is not headers for _ in range(5)]
    now[0] = 1.0
    changed += [trace(tracing, headers) is not headers for _ in range(4)]
    tracing.close()
    assert changed == [True] * 3 + [False] * 2 + [True] * 3 + [False]
    assert (counts["limited"], counts["exported"]) == (3, 6)


def test_what_a_collector_does_not_take_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    stuck, counts = Stuck(), Counter[str]()
    tracing = Tracing(stuck, counts, per_second=1000)
    assert trace(tracing, None, SAMPLED) is not None
    assert stuck.entered.wait(30)
    late = tracing.routed(Message(), None, routed(SAMPLED), time.time_ns())
    assert late is not None
    passed = [trace(tracing, None, SAMPLED) for _ in range(15)]
    assert [headers is not None for headers in passed] == [True] * 10 + [False] * 5
    late.until(lambda error, written: None, 1)(None, None)
    assert counts["dropped"] == 6
    stuck.release.set()
    tracing.close(seconds=30)
    assert counts["exported"] == 11


def test_a_collector_that_fails_is_one_line_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counter[str]()
    tracing = Tracing(Failing(), counts, per_second=10_000, clock=lambda: 1.0)
    with caplog.at_level(logging.INFO):
        for _ in range(1500):
            trace(tracing, None, SAMPLED)
        tracing.close(seconds=30)
    assert counts["failed"] == 1500
    assert len([record for record in caplog.records if "did not take" in record.getMessage()]) == 1
    assert SECRET not in caplog.text


def test_a_stuck_collector_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    stuck, counts = Stuck(), Counter[str]()
    tracing = Tracing(stuck, counts, per_second=10)
    trace(tracing, None, SAMPLED)
    assert stuck.entered.wait(30)
    tracing.close(seconds=0.1)
    assert "1 spans were not taken" in caplog.text
    stuck.release.set()


def test_without_tracing_opentelemetry_is_not_imported() -> None:
    program = "import sys, services.router.__main__; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
