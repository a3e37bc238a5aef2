"""Dead letters: what the router writes for a record that it cannot accept, so that nothing of it is lost.

What belongs here: the form of a dead letter and its way back. What does not: why a record is refused
(:mod:`services.router.routing`) and sending it.

A dead letter has the original key, the original bytes and the original headers, then the headers ``isthmus-*`` of
this module; where a name repeats, the last one is ours. A record above :data:`PART_BYTES` (only compression brings such
a one past the broker) is cut into parts of that size, in order, each with ``isthmus-part: n/of``. Where even key and
headers are that large, the parts hold the whole record as one JSON object, and say so in ``isthmus-packed``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from events.compiled import Headers
from services.router.routing import Refused

PREFIX: Final = "isthmus-"
PART_BYTES: Final = 8_000_000
"""Most bytes of value, and most of key and headers, in one dead letter; the topic takes twice that."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record was read, and what it was: key, value and headers as they came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def dead_letters(source: Source, refused: Refused, at: datetime, part_bytes: int = PART_BYTES) -> Iterator[DeadLetter]:
    """Yield the dead letter of a record, or its parts in order; ``at`` is when it was refused (UTC)."""
    ours = {
        "reason": refused.reason,
        "detail": refused.detail,
        "schema-path": refused.schema_path,
        "instance-path": refused.instance_path,
        "source-topic": source.topic,
        "source-partition": str(source.partition),
        "source-offset": str(source.offset),
        "refused-at": at.isoformat(timespec="milliseconds"),
    }
    key, value, headers = source.key, source.value, list(source.headers)
    if len(key or b"") + sum(len(name.encode()) + len(content or b"") for name, content in headers) > part_bytes:
        key, value, headers = None, _packed(source), []
        ours["packed"] = "json"
    parts = range(0, len(value or b""), part_bytes) or range(1)
    for number, start in enumerate(parts, start=1):
        marks = {**ours, "part": f"{number}/{len(parts)}"} if len(parts) > 1 else ours
        content = None if value is None else value[start : start + part_bytes]
        yield DeadLetter(key, content, [*headers, *((PREFIX + name, text.encode()) for name, text in marks.items())])


def original(parts: list[DeadLetter]) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Return key, value and headers of the record that these dead letters (all parts of one, in order) hold."""
    first = parts[0]
    value = None if first.value is None else b"".join(part.value or b"" for part in parts)
    names = [name for name, _ in first.headers]
    # Ours come last and begin with the reason: what stands before is the producer's, even where it looks like ours.
    begin = len(names) - 1 - names[::-1].index(PREFIX + "reason")
    if PREFIX + "packed" in names[begin:]:
        packed = orjson.loads(value or b"")
        return (
            _bytes(packed["key"]),
            _bytes(packed["value"]),
            [(name, _bytes(content)) for name, content in packed["headers"]],
        )
    return first.key, value, first.headers[:begin]


def _packed(source: Source) -> bytes:
    return orjson.dumps(
        {
            "key": _base64(source.key),
            "value": _base64(source.value),
            "headers": [(name, _base64(content)) for name, content in source.headers],
        }
    )


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
