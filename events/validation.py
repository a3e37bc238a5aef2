"""Validation: whether an event can be accepted, and if not, why, in words for people and a code for machines.

What belongs here: compiled validators (jsonschema-rs, formats on), the limits on time, and the reasons of refusal. What
does not: where a refused event goes (``services/router``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs

from events.catalogue import ACTIONS, TYPES, EventType
from events.codec import Event, MalformedEvent, event_of, parse, parse_time
from events.fields import FieldRule, compile_rules
from events.schemas import Schema, action_schema, envelope, schema, urn

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""An event before this comes from a clock that was never set."""
MAX_AHEAD: Final = timedelta(hours=1)
"""How far an event may lie ahead of the time it was received."""

_ENVELOPE_URN: Final = "urn:isthmus:envelope"
_DATASCHEMA: Final = re.compile(r"urn:isthmus:([a-z0-9.]+):[1-9][0-9]{0,5}")
_MAX_DETAIL: Final = 500


class Reason(StrEnum):
    """Why an event is refused."""

    EMPTY = "empty"
    MALFORMED = "malformed-json"
    ENVELOPE = "invalid-envelope"
    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_VERSION = "unknown-version"
    DATA = "invalid-data"
    TIME_AHEAD = "time-in-future"
    TIME_TOO_OLD = "time-before-1990"
    TOO_LARGE = "too-large"


class InvalidEvent(ValueError):
    """An event that cannot be accepted.

    ``detail`` is a sentence without any value of the event; ``schema_path`` names the keyword that refused it, and
    ``instance_path`` the place in the event (both empty where no schema was reached).
    """

    def __init__(self, reason: Reason, detail: str, *, schema_path: str = "", instance_path: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.schema_path = schema_path
        self.instance_path = instance_path


@dataclass(frozen=True, slots=True)
class Compiled:
    """What is known of one version of a type: its catalogue entry, its validator, its field rules."""

    event_type: EventType
    version: int
    validator: jsonschema_rs.Validator
    rules: tuple[FieldRule, ...]


def validate(event_bytes: bytes, *, received: datetime | None = None) -> Event:
    """Return the event in ``event_bytes``; raises :class:`InvalidEvent`. ``received`` (default now) bounds its time."""
    document, _ = check(event_bytes, received or datetime.now(UTC))
    return event_of(document)


def check(event_bytes: bytes, received: datetime) -> tuple[dict[str, Any], Compiled]:
    """Return the parsed event and what is known of its type; raises :class:`InvalidEvent`.

    ``received`` is when the broker took it (UTC): an event may not lie more than :data:`MAX_AHEAD` ahead of it.
    """
    if not event_bytes:
        raise InvalidEvent(Reason.EMPTY, "the record has no value")
    try:
        document = parse(event_bytes)
    except MalformedEvent as error:
        raise InvalidEvent(Reason.MALFORMED, str(error)[:_MAX_DETAIL]) from None
    compiled = _compiled_for(document)
    if not compiled.validator.is_valid(document):
        raise _explain(compiled, document)
    try:
        moment = parse_time(document["time"])
    except (ValueError, OverflowError):
        # The format takes what no calendar holds, such as a leap second.
        raise InvalidEvent(
            Reason.ENVELOPE,
            "time is not a moment that can be computed with",
            schema_path=f"{_ENVELOPE_URN}#/properties/time/format",
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


@lru_cache
def compiled_types() -> Mapping[str | None, Mapping[str, Compiled]]:
    """Return what is compiled, by ``dataschema`` (None: the latest version) and type; compiled at the first call."""
    table: dict[str | None, dict[str, Compiled]] = {None: {}}
    for event_type in TYPES.values():
        for version in event_type.versions:
            compiled = compile_type(event_type, version)
            table[urn(event_type.name, version)] = {event_type.name: compiled}
            if version == event_type.latest:
                table[None][event_type.name] = compiled
    return table


def compile_type(event_type: EventType, version: int) -> Compiled:
    """Compile envelope and payload of one version into one validator, and the payload's field rules."""
    payload = schema(event_type.name, version)
    whole = dict(envelope())
    # In one schema, so that an event costs one call and an error's path leads through both.
    whole["properties"] = {**whole["properties"], "data": {**_embedded(payload), "type": "object"}}
    return Compiled(event_type, version, _validator(whole), compile_rules(payload, _resolve))


@lru_cache
def envelope_validator() -> jsonschema_rs.Validator:
    """Return the validator of the envelope alone, for an event whose type is not known."""
    return _validator(envelope())


def _validator(document: Schema) -> jsonschema_rs.Validator:
    registry = jsonschema_rs.Registry(
        [(action_schema(kind)["$id"], action_schema(kind)) for kind in ACTIONS], draft=jsonschema_rs.Draft202012
    )
    # The mask keeps the event's values out of messages, and so out of logs and headers.
    return jsonschema_rs.Draft202012Validator(
        document, validate_formats=True, ignore_unknown_formats=False, registry=registry, mask="the value", offline=True
    )


def _embedded(document: Schema) -> Schema:
    return {keyword: value for keyword, value in document.items() if keyword not in ("$schema", "$id", "examples")}


def _resolve(reference: str) -> Schema:
    return next(document for kind in ACTIONS if (document := action_schema(kind))["$id"] == reference)


def _compiled_for(document: Mapping[str, Any]) -> Compiled:
    name, dataschema = document.get("type"), document.get("dataschema")
    if not isinstance(name, str) or not (dataschema is None or isinstance(dataschema, str)):
        raise _explain_envelope(document)
    known = compiled_types()
    versions = known.get(dataschema)
    compiled = None if versions is None else versions.get(name)
    # A null dataschema is not an absent one: the envelope's schema refuses it.
    if compiled is not None:
        return compiled
    if name not in TYPES:
        raise InvalidEvent(
            Reason.UNKNOWN_TYPE,
            "the catalogue has no such event type",
            schema_path=_ENVELOPE_URN,
            instance_path="/type",
        )
    match = _DATASCHEMA.fullmatch(dataschema or "")
    if match is None:
        raise _explain_envelope(document)
    detail = (
        f"{name} has no such version; it has {', '.join(map(str, TYPES[name].versions))}"
        if match[1] == name
        else f"dataschema belongs to another type than {name}"
    )
    raise InvalidEvent(Reason.UNKNOWN_VERSION, detail, schema_path=_ENVELOPE_URN, instance_path="/dataschema")


def _explain_envelope(document: Mapping[str, Any]) -> InvalidEvent:
    return _explained(envelope_validator(), document, "")


def _explain(compiled: Compiled, document: Mapping[str, Any]) -> InvalidEvent:
    return _explained(compiled.validator, document, urn(compiled.event_type.name, compiled.version))


def _explained(validator: jsonschema_rs.Validator, document: Mapping[str, Any], payload_urn: str) -> InvalidEvent:
    try:
        error = next(validator.iter_errors(document))
    except ValueError:  # it says whether an event is valid at any depth, but why only down to some
        return InvalidEvent(Reason.MALFORMED, "not valid, and nested too deeply for it to be said where")
    # The path as it was walked: it leads through each $ref.
    schema_path, instance_path = list(map(str, error.evaluation_path)), list(map(str, error.instance_path))
    in_data = schema_path[:2] == ["properties", "data"] and bool(payload_urn)
    schema_urn, path = (payload_urn, schema_path[2:]) if in_data else (_ENVELOPE_URN, schema_path)
    place = "/" + "/".join(instance_path) if instance_path else ""
    return InvalidEvent(
        Reason.DATA if in_data else Reason.ENVELOPE,
        f"{place or 'the event'}: {error.message}"[:_MAX_DETAIL],
        schema_path=f"{schema_urn}#/{'/'.join(path)}"[:_MAX_DETAIL],
        instance_path=place[:_MAX_DETAIL],
    )
