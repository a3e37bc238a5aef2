"""Routing: what becomes of one record. Bytes in, and exactly one of :class:`Routed` or :class:`Refused` out.

What belongs here: the pure decision. What does not: clients, clocks, counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from events.catalogue import MAX_EVENT_BYTES
from events.codec import record_key, strip_framing
from events.fields import apply_rules
from events.validation import InvalidEvent, Reason, check

Headers = Sequence[tuple[str, bytes | None]]

_SPACED_COLONS: Final = (b" :", b"\n:", b"\t:", b"\r:")


@dataclass(frozen=True, slots=True)
class Routed:
    """An accepted event: the record to write. ``rewritten`` says that the value is not what came."""

    type: str
    topic: str
    key: bytes
    value: bytes
    rewritten: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that was not accepted, and why; no value of the event stands in ``detail``."""

    reason: str
    detail: str
    schema_path: str = ""
    instance_path: str = ""


def route(
    value: bytes | None, key: bytes | None, headers: Headers | None, received: datetime, hash_key: bytes
) -> Routed | Refused:
    """Return what becomes of a record.

    ``received`` is when the broker took it (UTC), ``hash_key`` the key of the keyed hash. Any bytes have an answer; an
    exception here is a defect of ours.
    """
    value = value or b""
    overhead = sum(len(name) + len(content or b"") for name, content in headers) if headers else 0
    size = len(value) + len(key or b"") + overhead
    if size > MAX_EVENT_BYTES:
        return _too_large(size)
    try:
        document, compiled = check(value, received)
    except InvalidEvent as refusal:
        return Refused(refusal.reason.value, refusal.detail, refusal.schema_path, refusal.instance_path)
    data = document["data"]
    changed = bool(compiled.rules) and apply_rules(compiled.rules, data, hash_key)
    output = strip_framing(value)
    if changed or is_ambiguous(output, document):
        try:
            output = orjson.dumps(document)
        except orjson.JSONEncodeError:
            return Refused(Reason.MALFORMED.value, "nested too deeply to be written again")
        changed = True
    routed_key = record_key(compiled.event_type.key, document["subject"], data)
    # Once more: a field that is rewritten, or a key made of the data, may have grown beyond the limit.
    if (size := len(output) + len(routed_key) + overhead) > MAX_EVENT_BYTES:
        return _too_large(size)
    return Routed(compiled.event_type.name, compiled.event_type.topic, routed_key, output, changed)


def is_ambiguous(value: bytes, document: dict[str, Any]) -> bool:
    """Return whether ``value`` may name a key twice within one object.

    Parsers differ in which of the two they believe, so what was validated and hashed here need not be what a reader
    sees. Each key in the text ends in a quote and a colon. With no space between them (looked for first), their number
    is never less than that of the keys, and equals the number of parsed ones only where no key was overwritten. It may
    be more where a string holds such a pair: then the event is needlessly written anew, which changes nothing in it.
    """
    for spaced in _SPACED_COLONS:
        if spaced in value:
            return True
    return value.count(b'":') != _count_keys(document)


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
