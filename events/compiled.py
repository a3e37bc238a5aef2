"""Compiled schemas: validator, field rules and upcast of each version of a type, and where they come from.

What belongs here: compiling (jsonschema-rs, formats on), and :class:`Schemas`, the seam that lets a schema registry
stand in the catalogue's place. What does not: a registry's client (``services/router``; this room does no I/O).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Protocol

import jsonschema_rs

from events.catalogue import ACTIONS, TYPES, EventType, KeyRule
from events.fields import FieldRule, compile_rules
from events.refusals import ENVELOPE_URN, InvalidEvent, Reason, Validator, explained
from events.schemas import Schema, action_schema, envelope, schema, upcast_steps, urn
from events.upcast import Step, compile_steps, unprotected

Headers = Sequence[tuple[str, bytes | None]]

_DATASCHEMA: Final = re.compile(r"urn:isthmus:([a-z0-9.]+):[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Compiled:
    """What is known of one version of a type. ``topic`` is None where only a routing table can say it."""

    name: str
    version: int
    dataschema: str
    topic: str | None
    key: KeyRule
    validator: Validator
    rules: tuple[FieldRule, ...]
    newer: Compiled | None = None
    """The next version, where there is one."""
    steps: tuple[Step, ...] = field(default=(), compare=False)
    """What makes a payload of this version one of the next."""
    older: tuple[Compiled, ...] = ()
    """At the latest version: those before it, the newest first."""

    def explain(self, document: Mapping[str, Any]) -> InvalidEvent:
        """Return why ``document`` is refused; only for one that the validator does not accept."""
        return explained(self.validator, document, self.dataschema)


class Schemas(Protocol):
    """Where compiled schemas come from."""

    def compiled(self, document: Mapping[str, Any], value: bytes, headers: Headers | None) -> Compiled:
        """Return what an event is to be checked by.

        ``document`` is the parsed event, ``value`` and ``headers`` the record as it came: a schema id stands in front
        of the one or in the other. Raises :class:`~events.refusals.InvalidEvent`, or
        :class:`~events.refusals.SchemaUnavailable` where it cannot be said now.
        """


class CatalogueSchemas:
    """The schemas of this repository, by type and ``dataschema``; a schema id in front of an event says nothing."""

    def compiled(self, document: Mapping[str, Any], _value: bytes, _headers: Headers | None) -> Compiled:
        """Return what the catalogue has for the event's type and version; compiled at the first call."""
        try:
            # A null dataschema finds the latest version too, whose schema refuses it: it is not an absent one.
            return compiled_types()[document.get("dataschema")][document["type"]]
        except (KeyError, TypeError):
            return self._missing(document)

    def _missing(self, document: Mapping[str, Any]) -> Compiled:
        name, dataschema = document.get("type"), document.get("dataschema")
        if not isinstance(name, str) or not (dataschema is None or isinstance(dataschema, str)):
            raise explain_envelope(document)
        if name not in TYPES:
            raise unknown_type()
        match = _DATASCHEMA.fullmatch(dataschema or "")
        if match is None:
            raise explain_envelope(document)
        detail = (
            f"{name} has no such version; it has {', '.join(map(str, TYPES[name].versions))}"
            if match[1] == name
            else f"dataschema belongs to another type than {name}"
        )
        raise InvalidEvent(Reason.UNKNOWN_VERSION, detail, schema_path=ENVELOPE_URN, instance_path="/dataschema")


CATALOGUE: Final = CatalogueSchemas()


@lru_cache(maxsize=1)
def compiled_types() -> Mapping[str | None, Mapping[str, Compiled]]:
    """Return what is compiled, by ``dataschema`` (None: the latest version) and type; compiled at the first call."""
    table: dict[str | None, dict[str, Compiled]] = {None: {}}
    for event_type in TYPES.values():
        versions = compile_versions(
            event_type,
            {version: schema(event_type.name, version) for version in event_type.versions},
            {version: upcast_steps(event_type.name, version) for version in event_type.versions[:-1]},
        )
        table |= {compiled.dataschema: {event_type.name: compiled} for compiled in versions}
        table[None][event_type.name] = versions[-1]
    return table


def compile_versions(
    event_type: EventType, payloads: Mapping[int, Schema], upcasts: Mapping[int, Schema]
) -> tuple[Compiled, ...]:
    """Compile all versions of a type, oldest first, each with its upcast to the next.

    ``payloads`` holds the schema of each version, ``upcasts`` the steps from each but the latest. Raises ValueError for
    a bad schema, rule or step, and for an upcast that would carry a protected field to an unprotected place.
    """
    done: list[Compiled] = []
    newer: Compiled | None = None
    for version in reversed(event_type.versions):
        plain = compile_payload(
            payloads[version],
            name=event_type.name,
            version=version,
            dataschema=urn(event_type.name, version),
            topic=event_type.topic,
            key=event_type.key,
        )
        if newer is not None:
            steps = compile_steps(upcasts[version])
            if lost := unprotected(plain.rules, newer.rules, steps):
                raise ValueError(f"{event_type.name}: the upcast of version {version} uncovers {', '.join(lost)}")
            plain = replace(plain, newer=newer, steps=steps)
        done.append(plain)
        newer = plain
    # The latest knows the older ones, for an event that does not say its version; nothing else needs to.
    return (*reversed(done[1:]), replace(done[0], older=tuple(done[1:])))


def compile_payload(
    payload: Schema, *, name: str, version: int, dataschema: str, topic: str | None, key: KeyRule
) -> Compiled:
    """Compile envelope and payload of one version into one validator, and the payload's field rules."""
    whole = dict(envelope())
    # In one schema, so that an event costs one call and an error's path leads through both.
    whole["properties"] = {**whole["properties"], "data": {**_embedded(payload), "type": "object"}}
    return Compiled(name, version, dataschema, topic, key, build_validator(whole), compile_rules(payload, resolve))


@lru_cache(maxsize=1)
def envelope_validator() -> jsonschema_rs.Validator:
    """Return the validator of the envelope alone, for an event whose type is not known."""
    return build_validator(envelope())


def explain_envelope(document: Mapping[str, Any]) -> InvalidEvent:
    """Return why the envelope refuses ``document``; only for one that it does refuse."""
    return explained(envelope_validator(), document, "")


def unknown_type() -> InvalidEvent:
    """Return the refusal of a type that nobody knows."""
    return InvalidEvent(
        Reason.UNKNOWN_TYPE, "the catalogue has no such event type", schema_path=ENVELOPE_URN, instance_path="/type"
    )


def build_validator(document: Schema, extra: Sequence[tuple[str, Schema]] = ()) -> jsonschema_rs.Validator:
    """Return a validator of ``document``; nothing is fetched. ``extra`` holds further schemas that it may refer to."""
    actions = [(action_schema(kind)["$id"], action_schema(kind)) for kind in ACTIONS]
    registry = jsonschema_rs.Registry([*actions, *extra], draft=jsonschema_rs.Draft202012)
    # The mask keeps the event's values out of messages, and so out of logs and headers.
    return jsonschema_rs.Draft202012Validator(
        document, validate_formats=True, ignore_unknown_formats=False, registry=registry, mask="the value", offline=True
    )


def resolve(reference: str) -> Schema:
    """Return the schema of an action that ``reference`` names; raises KeyError where there is none."""
    return {action_schema(kind)["$id"]: action_schema(kind) for kind in ACTIONS}[reference]


def _embedded(document: Schema) -> Schema:
    return {keyword: value for keyword, value in document.items() if keyword not in ("$schema", "$id", "examples")}
