"""Traces: a span for each sampled event, between the sender's span and the reader's.

What belongs here: finding an event's trace context, limits, what a span says, handing spans over for export. What does
not: choosing what is sampled (the sender did), and the journey of a record (:mod:`services.router.pump`).

A span never holds a key, a value, a subject or a header of an event. Opentelemetry is imported here and nowhere else,
and this module only where tracing is on.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from threading import Event, Thread
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from services.router.clients import GROUP, RECORD_ERRORS
from services.router.refusals import Windows
from services.router.routing import Headers, Refused, Routed

log = logging.getLogger("isthmus.router")

TRACEPARENT: Final = "traceparent"
MOST_WAITING: Final = 2048
"""Ended spans that wait for the collector; beyond, none is begun."""
OUTCOMES: Final = ("exported", "failed", "dropped", "limited")
"""Taken by the collector; not taken; too many waited for it; beyond the limit of a second."""
EXPORT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
_EVERY: Final = 1.0
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_FLAGS_AT: Final = 54
_SAMPLED: Final = frozenset((b"1", b"3", b"5", b"7", b"9", b"b", b"d", b"f"))
_PROPAGATED_FLAGS: Final = 0x03  # sampled, and that the trace's id is random; others are not defined
_REFUSED: Final = "refused-by-broker"


class Context(NamedTuple):
    """A W3C trace context: whose span comes next in which trace."""

    trace_id: int
    span_id: int
    flags: int


def context_of(value: bytes) -> Context | None:
    """Return what a ``traceparent`` says, or None where it is not valid."""
    found = _FORM.fullmatch(value)
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    context = Context(int(found[2], 16), int(found[3], 16), int(found[4], 16))
    return context if context.trace_id and context.span_id else None


class Traced:
    """The span of one event that is on its way to its topic."""

    __slots__ = ("_end", "_flags", "_pending", "_span")

    def __init__(self, span: Span, flags: int, end: Callable[[Span], None]) -> None:
        self._span = span
        self._flags = flags
        self._end = end
        self._pending = 0

    def carried(self, headers: Headers | None) -> Headers:
        """Return the headers with this span as the parent of what comes next; all others as they were."""
        own = self._span.get_span_context()
        value = f"00-{own.trace_id:032x}-{own.span_id:016x}-{self._flags & _PROPAGATED_FLAGS:02x}".encode()
        carried = [(name, value if name == TRACEPARENT else content) for name, content in headers or ()]
        if not any(name == TRACEPARENT for name, _ in carried):
            carried.append((TRACEPARENT, value))
        return carried

    def until(self, delivered: Callable[[Any, Any], None], records: int) -> Callable[[Any, Any], None]:
        """Return ``delivered`` such that the span ends once it has been called for all ``records``."""
        self._pending = records
        return partial(self._delivered, delivered)

    def _delivered(self, delivered: Callable[[Any, Any], None], error: Any, written: Any) -> None:
        delivered(error, written)
        if error is not None:
            name = error.name()
            self._span.set_attribute("error.type", name)
            self._span.set_status(Status(StatusCode.ERROR, _REFUSED if name in RECORD_ERRORS else name))
        self._pending -= 1
        if not self._pending:
            self._end(self._span)


class Tracing:
    """Begins and ends spans. For the loop's thread; exporting has its own."""

    def __init__(
        self,
        exporter: SpanExporter,
        counts: Counter[str],
        *,
        per_second: int,
        instance: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``counts`` gets the spans by outcome; at most ``per_second`` are begun within a second of ``clock``."""
        counts.update(dict.fromkeys(OUTCOMES, 0))
        self._counts = counts
        self._per_second = per_second
        self._clock = clock
        self._left = 0
        self._window_ends = float("-inf")
        self._ended = 0
        self._export = _Counted(exporter, counts, Windows(clock))
        self._processor = BatchSpanProcessor(
            self._export,
            max_queue_size=2 * MOST_WAITING,  # never full: the bound is ours, which is asked before a span is begun
            schedule_delay_millis=1000,
            max_export_batch_size=min(512, MOST_WAITING),
        )
        resource = Resource.create(
            {
                "service.name": "isthmus-router",
                "service.version": version("isthmus"),
                "service.instance.id": instance or str(uuid4()),
            }
        )
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("isthmus.router")

    def routed(self, message: Any, headers: Headers | None, routed: Routed, taken: int) -> Traced | None:
        """Begin the span of an accepted event, where it is sampled and there is room.

        ``taken`` is when its record was consumed, nanoseconds since 1970.
        """
        value = _header(headers) if headers else None
        if value is None:
            if routed.traceparent is None:
                return None
            value = routed.traceparent.encode()
        parent = self._parent(value)
        if parent is None:
            return None
        span = self._begin(message, parent, taken)
        span.set_attribute("cloudevents.event_type", routed.type)
        span.set_attribute("isthmus.route.topic", routed.topic)
        if routed.copies:
            span.set_attribute("isthmus.route.copies", routed.copies)
        span.set_attribute("isthmus.route.rewritten", routed.rewritten)
        return Traced(span, parent.flags, self._end)

    def refused(self, message: Any, headers: Headers | None, refused: Refused, taken: int) -> None:
        """Make the span of a record that became a dead letter; it ends as the dead letter is handed to the client."""
        parent = self._parent(_header(headers) or b"") if headers else None
        if parent is None:
            return
        span = self._begin(message, parent, taken)
        span.set_attribute("error.type", refused.reason)
        span.set_status(Status(StatusCode.ERROR, refused.reason))
        self._end(span)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Give the collector what waits, within ``seconds``; the rest is lost, which a line in the log says."""
        self._export.closing.set()
        # The processor's own patience is half a minute.
        ending = Thread(target=self._processor.shutdown, name="tracing-close", daemon=True)
        ending.start()
        ending.join(seconds)
        if lost := self._ended - self._counts["exported"] - self._counts["failed"]:
            log.warning("%d spans were not taken by the collector before the end", lost)

    def _parent(self, value: bytes) -> Context | None:
        """Return the context that a span is to be begun in; None: no span.

        What is not sampled, nearly every event, costs a look at one byte; what is beyond the limits is not parsed.
        """
        if value[_FLAGS_AT : _FLAGS_AT + 1] not in _SAMPLED or not self._room():
            return None
        if (context := context_of(value)) is not None:
            self._left -= 1
        return context

    def _room(self) -> bool:
        if self._ended - self._export.given >= MOST_WAITING:
            self._counts["dropped"] += 1
            return False
        now = self._clock()
        if now >= self._window_ends:
            self._window_ends, self._left = now + _EVERY, self._per_second
        if not self._left:
            self._counts["limited"] += 1
            return False
        return True

    def _begin(self, message: Any, parent: Context, taken: int) -> Span:
        context = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))
        topic = message.topic()
        return self._tracer.start_span(
            f"route {topic}",
            set_span_in_context(NonRecordingSpan(context)),
            SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "route",
                "messaging.operation.type": "process",
                "messaging.destination.name": topic,
                "messaging.destination.partition.id": str(message.partition()),
                "messaging.kafka.offset": message.offset(),
                "messaging.consumer.group.name": GROUP,
            },
            start_time=taken,
        )

    def _end(self, span: Span) -> None:
        # Spans of records that waited long for the broker end all at once.
        if self._ended - self._export.given >= MOST_WAITING:
            self._counts["dropped"] += 1
            return
        self._ended += 1
        span.end()


class _Counted(SpanExporter):
    """Counts what becomes of spans, and says of a collector that fails one line a while."""

    def __init__(self, exporter: SpanExporter, counts: Counter[str], windows: Windows) -> None:
        self._exporter = exporter
        self._counts = counts
        self._windows = windows
        self.given = 0
        """Spans that have left the queue."""
        self.closing = Event()
        self._failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; called by the processor's thread alone."""
        self.given += len(spans)
        result = SpanExportResult.FAILURE
        # At the end a collector that does not answer is tried once, not once a batch.
        if not (self.closing.is_set() and self._failed):
            try:
                result = self._exporter.export(spans)
            except Exception as error:  # noqa: BLE001 (whatever it is, it costs spans only; its text may hold an address)
                log.error("exporting spans failed with %s", type(error).__name__)
        self._failed = result is not SpanExportResult.SUCCESS
        self._counts["failed" if self._failed else "exported"] += len(spans)
        if self._failed and (silent := self._windows.enter("collector")) is not None:
            log.warning("the collector did not take %d spans; %d more such failures before", len(spans), silent)
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()


def exporter(endpoint: str, headers: Mapping[str, str]) -> SpanExporter:
    """Return the exporter to an OTLP/HTTP collector; ``headers`` go with each request.

    An address without a path is completed with that of traces. Without ``headers``, those of the variables
    ``OTEL_EXPORTER_OTLP_*`` hold, as do the certificates that they name.
    """
    # The library writes a line for each attempt, with the address in it; ours are fewer, and without.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    parts = urlsplit(endpoint)
    if parts.path in ("", "/"):
        endpoint = urlunsplit(parts._replace(path="/v1/traces"))
    return OTLPSpanExporter(endpoint, headers=dict(headers) or None, timeout=EXPORT_SECONDS)


def _header(headers: Headers) -> bytes | None:
    """Return the header with the trace context: None without one, empty where there are several, and so none holds."""
    given = [content or b"" for name, content in headers if name == TRACEPARENT]
    if not given:
        return None
    return given[0] if len(given) == 1 else b""
