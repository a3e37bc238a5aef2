"""Routing: what becomes of one record. Bytes in, and exactly one of :class:`Routed` or :class:`Refused` out.

What belongs here: the pure decision. What does not: clients, clocks, counters.
"""

from __future__ import annotations

from datetime import datetime
from time import perf_counter
from typing import Any, Final, NamedTuple

import orjson

from events.catalogue import MAX_EVENT_BYTES
from events.codec import record_key, strip_framing
from events.compiled import CATALOGUE, Headers, Schemas
from events.fields import apply_rules
from events.validation import InvalidEvent, Reason, check, upcast
from services.router.table import RoutingTable

__all__ = ["Headers", "Refused", "Routed", "is_ambiguous", "route"]

_SPACED_COLONS: Final = (b" :", b"\n:", b"\t:", b"\r:")
_CATALOGUE_ALONE: Final = RoutingTable()


class Routed(NamedTuple):
    """An accepted event: the record to write. ``rewritten`` says that the value is not what came."""

    type: str
    topic: str
    key: bytes
    value: bytes
    rewritten: bool
    copies: tuple[str, ...] = ()
    """Topics that get the same record besides."""
    traceparent: str | None = None
    """The event's own trace context."""


class Refused(NamedTuple):
    """A record that was not accepted, and why; no value of the event stands in ``detail``."""

    reason: str
    detail: str
    schema_path: str = ""
    instance_path: str = ""


def route(
    value: bytes | None,
    key: bytes | None,
    headers: Headers | None,
    received: datetime,
    hash_key: bytes,
    *,
    schemas: Schemas = CATALOGUE,
    table: RoutingTable = _CATALOGUE_ALONE,
    marks: list[float] | None = None,
) -> Routed | Refused:
    """Return what becomes of a record.

    ``received`` is when the broker took it (UTC), ``hash_key`` the key of the keyed hash. ``marks``, where given, gets
    the time (``perf_counter``) at which the event was parsed and valid. Any bytes have an answer, save that ``schemas``
    may raise :class:`~events.validation.SchemaUnavailable`: then the record must wait. Another exception here is a
    defect of ours.
    """
    value = value or b""
    overhead = sum(len(name) + len(content or b"") for name, content in headers) if headers else 0
    size = len(value) + len(key or b"") + overhead
    if size > MAX_EVENT_BYTES:
        return _too_large(size)
    try:
        document, compiled = check(value, received, schemas, headers)
        changed = compiled.newer is not None
        if changed:
            compiled = upcast(document, compiled)
    except InvalidEvent as refusal:
        return Refused(refusal.reason.value, refusal.detail, refusal.schema_path, refusal.instance_path)
    if marks is not None:
        marks.append(perf_counter())
    name, topic = compiled.name, compiled.topic
    data = document["data"]
    copies: tuple[str, ...] = ()
    output = strip_framing(value)
    # Conditions see the event as it came: what a field rule takes away may still choose where the event goes.
    if (special := table.of(name)) is not None:
        topic, copies = special.topics(document, topic)
        changed |= special.enrich(document)
    if topic is None:
        return Refused(Reason.NO_ROUTE.value, "neither its schema nor the routing table names a topic for this type")
    if compiled.rules:
        changed |= apply_rules(compiled.rules, data, hash_key)
    if changed or is_ambiguous(output, document):
        try:
            output = orjson.dumps(document)
        except orjson.JSONEncodeError:
            return Refused(Reason.MALFORMED.value, "nested too deeply to be written again")
        changed = True
    routed_key = record_key(compiled.key, document["subject"], data)
    # Once more: a field that is rewritten, or a key made of the data, may have grown beyond the limit.
    if (size := len(output) + len(routed_key) + overhead) > MAX_EVENT_BYTES:
        return _too_large(size)
    return Routed(name, topic, routed_key, output, changed, copies, document.get("traceparent"))


def is_ambiguous(value: bytes, document: dict[str, Any]) -> bool:
    """Return whether ``value`` may name a key twice within one object.

    Parsers differ in which of the two they believe, so what was validated and hashed here need not be what a reader
    sees. A text that is what writing the parsed event gives has no such key, and nearly every text is, to the byte or
    but for its spaces. Where it is not: each key in the text ends in a quote and a colon, and so does each key in what
    is written anew. A string can hold that pair only with a backslash, so without one (and without a space before a
    colon) both numbers are those of the keys, and equal only where no key was overwritten. Otherwise the keys are
    counted one by one; then a string that holds the pair makes the event be written anew, which changes nothing in it.
    """
    try:
        written = orjson.dumps(document)
    except orjson.JSONEncodeError:  # nested more deeply than it writes
        written = b""
    if written == value:
        return False
    for spaced in _SPACED_COLONS:
        if spaced in value:
            return True
    exact = b"\\" in value or not written
    return value.count(b'":') != (_count_keys(document) if exact else written.count(b'":'))


def _count_keys(document: dict[str, Any]) -> int:
    count = 0
    pending: list[Any] = [document]
    while pending:
        node = pending.pop()
        if node.__class__ is dict:
            count += len(node)
            node = node.values()
        for child in node:
            # Scalars are nearly all of an event, so they are passed over here rather than put on the list.
            if child.__class__ is dict or child.__class__ is list:
                pending.append(child)  # noqa: PERF401 (a comprehension costs more than the few children it finds)
    return count


def _too_large(size: int) -> Refused:
    return Refused(
        Reason.TOO_LARGE.value, f"{size:,} bytes of key, value and headers; at most {MAX_EVENT_BYTES:,} are routed"
    )
