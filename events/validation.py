"""Validation: whether an event can be accepted, and if not, why.

What belongs here: the check of one event, and the limits on its time. What does not: how schemas are compiled and where
they come from (:mod:`events.compiled`), and where a refused event goes (``services/router``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from events.codec import Event, MalformedEvent, event_of, parse, parse_time
from events.compiled import CATALOGUE, Compiled, Headers, Schemas
from events.refusals import ENVELOPE_URN, MAX_DETAIL, InvalidEvent, Reason, SchemaUnavailable
from events.upcast import UpcastFailed, apply_steps

__all__ = [
    "EARLIEST",
    "MAX_AHEAD",
    "ORIGINAL_DATASCHEMA",
    "Compiled",
    "InvalidEvent",
    "Reason",
    "SchemaUnavailable",
    "check",
    "upcast",
    "validate",
]

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""An event before this comes from a clock that was never set."""
MAX_AHEAD: Final = timedelta(hours=1)
"""How far an event may lie ahead of the time it was received."""
ORIGINAL_DATASCHEMA: Final = "originaldataschema"
"""Extension attribute of an upcast event: the ``dataschema`` of the version that it was sent in."""


def validate(event_bytes: bytes, *, received: datetime | None = None) -> Event:
    """Return the event in ``event_bytes``; raises :class:`InvalidEvent`. ``received`` (default now) bounds its time.

    The event is as it was sent, in its own version.
    """
    document, compiled = check(event_bytes, received or datetime.now(UTC))
    document.setdefault("dataschema", compiled.dataschema)
    return event_of(document)


def check(
    event_bytes: bytes, received: datetime, schemas: Schemas = CATALOGUE, headers: Headers | None = None
) -> tuple[dict[str, Any], Compiled]:
    """Return the parsed event and what it was checked by; raises :class:`InvalidEvent`.

    ``received`` is when the broker took it (UTC): an event may not lie more than :data:`MAX_AHEAD` ahead of it.
    ``schemas`` may look at the record's ``headers``, and may raise :class:`SchemaUnavailable`.
    """
    if not event_bytes:
        raise InvalidEvent(Reason.EMPTY, "the record has no value")
    try:
        document = parse(event_bytes)
    except MalformedEvent as error:
        raise InvalidEvent(Reason.MALFORMED, str(error)[:MAX_DETAIL]) from None
    compiled = schemas.compiled(document, event_bytes, headers)
    if not compiled.validator.is_valid(document):
        compiled = _older(compiled, document)
    try:
        moment = parse_time(document["time"])
    except (ValueError, OverflowError):
        # The format takes what no calendar holds, such as a leap second.
        raise InvalidEvent(
            Reason.ENVELOPE,
            "time is not a moment that can be computed with",
            schema_path=f"{ENVELOPE_URN}#/properties/time/format",
            instance_path="/time",
        ) from None
    if moment < EARLIEST:
        raise InvalidEvent(
            Reason.TIME_TOO_OLD, "time is before 1990: a clock that was never set", instance_path="/time"
        )
    if moment - received > MAX_AHEAD:
        raise InvalidEvent(
            Reason.TIME_AHEAD, "time lies more than an hour after the broker received it", instance_path="/time"
        )
    return document, compiled


def upcast(document: dict[str, Any], compiled: Compiled) -> Compiled:
    """Bring a checked event to the latest version of its type, in place; return what that is compiled to.

    Its ``dataschema`` names the new version, :data:`ORIGINAL_DATASCHEMA` the old one. Raises :class:`InvalidEvent`
    where the outcome is not valid: a defect of the upcast, not of the event.
    """
    original = compiled.dataschema
    try:
        while compiled.newer is not None:
            apply_steps(compiled.steps, document["data"])
            compiled = compiled.newer
    except UpcastFailed as error:
        raise InvalidEvent(Reason.UPCAST, str(error), schema_path=original, instance_path="/data") from None
    document["dataschema"] = compiled.dataschema
    document[ORIGINAL_DATASCHEMA] = original
    if not compiled.validator.is_valid(document):
        broken = compiled.explain(document)
        raise InvalidEvent(
            Reason.UPCAST, broken.detail, schema_path=broken.schema_path, instance_path=broken.instance_path
        )
    return compiled


def _older(compiled: Compiled, document: dict[str, Any]) -> Compiled:
    """Return an older version that accepts an event which does not say its version; else raises the refusal.

    Producers that leave ``dataschema`` out go on as they are when their type gets a new version.
    """
    if "dataschema" not in document:
        for older in compiled.older:
            if older.validator.is_valid(document):
                return older
    raise compiled.explain(document)
