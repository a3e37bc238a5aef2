"""The codec: an event as CloudEvents 1.0 structured JSON, and back.

What belongs here: bytes to :class:`Event` and back, the key, Confluent's framing. What does not: whether an event is
acceptable (:mod:`events.validation`); decoding only asks for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import orjson

from events.catalogue import TYPES, KeyRule
from events.schemas import urn

_ATTRIBUTES: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "traceparent", "data"}
)


class MalformedEvent(ValueError):
    """The bytes are not an event at all: not JSON, not an object, or an attribute is missing or of another type."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was decoded. ``time`` is UTC; ``extensions`` holds further CloudEvents attributes."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: dict[str, Any]
    version: int
    traceparent: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)


def encode(
    type: str,
    data: Mapping[str, Any],
    *,
    subject: str | None = None,
    source: str,
    id: str | None = None,
    time: datetime | None = None,
    traceparent: str | None = None,
    version: int | None = None,
    extensions: Mapping[str, str | int | bool] | None = None,
) -> bytes:
    """Return the event as structured JSON.

    ``subject`` may be left out where the key is made of the data (``isthmus.data.change``); ``id`` defaults to a random
    UUID, ``time`` to now. Raises ValueError for a time without zone, a missing subject or an unknown type; the payload
    is not validated here (:func:`events.validation.validate` does).
    """
    if (event_type := TYPES.get(type)) is None:
        raise ValueError(f"unknown event type {type!r}")
    moment = time or datetime.now(UTC)
    if moment.tzinfo is None:
        raise ValueError("the time of an event needs a time zone")
    if subject is None:
        if event_type.key == "subject":
            raise ValueError(f"{type} needs a subject")
        subject = record_key(event_type.key, "", data).decode()
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": id or str(uuid4()),
        "source": source,
        "type": type,
        "subject": subject,
        "time": moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "datacontenttype": "application/json",
        "dataschema": urn(type, version or event_type.latest),
    }
    if traceparent is not None:
        document["traceparent"] = traceparent
    if extensions:
        document.update(extensions)
    document["data"] = data
    return orjson.dumps(document)


def decode(value: bytes) -> Event:
    """Return the event in ``value``; raises :class:`MalformedEvent`. It reads what :func:`encode` writes and more."""
    return event_of(parse(value))


def parse(value: bytes) -> dict[str, Any]:
    """Return the JSON object in ``value``, Confluent's framing stripped; raises :class:`MalformedEvent`."""
    try:
        document = orjson.loads(strip_framing(value))
    except orjson.JSONDecodeError as error:
        raise MalformedEvent(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedEvent(f"a JSON {_KINDS[document.__class__]} where an object was expected")
    return document


_KINDS: Final = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def strip_framing(value: bytes) -> bytes:
    """Return ``value`` without Confluent's magic byte and schema id (five bytes), where it starts with them."""
    return value[5:] if value[:1] == b"\0" else value


def event_of(document: Mapping[str, Any]) -> Event:
    """Return the event of a parsed document; raises :class:`MalformedEvent`."""
    try:
        version = document.get("dataschema")
        event = Event(
            id=_text(document["id"]),
            source=_text(document["source"]),
            type=_text(document["type"]),
            subject=_text(document["subject"]),
            time=parse_time(document["time"]),
            data=_object(document["data"]),
            version=_version(document["type"]) if version is None else int(version.rsplit(":", 1)[1]),
            traceparent=document.get("traceparent"),
            extensions={name: document[name] for name in document.keys() - _ATTRIBUTES},
        )
    except KeyError as missing:
        raise MalformedEvent(f"attribute {missing} is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise MalformedEvent(f"an attribute is not what it should be: {error}") from None
    return event


def parse_time(text: str) -> datetime:
    """Return the moment in UTC; raises ValueError where the text has no zone or is no RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def key_of(event: Event) -> bytes:
    """Return the record key of an event by the catalogue; raises KeyError for a type that is not in it."""
    return record_key(TYPES[event.type].key, event.subject, event.data)


def record_key(rule: KeyRule, subject: str, data: Mapping[str, Any]) -> bytes:
    """Return the key that ``rule`` makes: the subject in UTF-8, or ``store/table/key values``, each quoted."""
    return _KEYS[rule](subject, data)


def _row_key(_subject: str, data: Mapping[str, Any]) -> bytes:
    # Quoted, so that a slash in a value cannot make two rows one.
    values = (value if isinstance(value, str) else orjson.dumps(value).decode() for value in data["primary_key"])
    return "/".join(quote(part, safe="") for part in (data["store"], data["table"], *values)).encode()


_KEYS: Final[dict[KeyRule, Callable[[str, Mapping[str, Any]], bytes]]] = {
    "subject": lambda subject, _data: subject.encode(),
    "row": _row_key,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {value.__class__.__name__}")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"data must be an object, not {value.__class__.__name__}")
    return value


def _version(name: str) -> int:
    event_type = TYPES.get(name)
    return event_type.latest if event_type else 1
