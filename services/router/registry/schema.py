"""A registry's schema made ready: what an event is checked by, which fields are protected, where it goes.

What belongs here: compiling, without I/O. What does not: fetching (:mod:`services.router.registry.client`), and which
schema an event is checked by (:mod:`services.router.registry`).

The schema describes the whole event: the attributes of CloudEvents and ``data``. It may carry ``x-pii`` below ``data``,
as ours do, and ``x-topic``, the topic of its events, beside ``type``. It says which type it is for in
``properties/type/const``, else its subjects do. An event also has to satisfy our envelope, without which it has no key
and no time; ``dataschema`` alone may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urljoin

import jsonschema_rs
import orjson

from events.catalogue import DEAD_LETTER, INGRESS
from events.compiled import Compiled, build_validator
from events.fields import FieldRule, compile_rules
from events.refusals import MAX_DETAIL, InvalidEvent, Reason, Validator, explained, too_deep
from events.schemas import Schema, envelope
from services.router.registry.client import Stored, Unusable

_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_ALL: Final = frozenset({"allOf", "anyOf", "oneOf"})
_ONE: Final = frozenset({"additionalProperties", "items", "if", "then", "else"})
# Reached by $ref only, and then inlined where they are used; or no schemas at all.
_ASIDE: Final = frozenset({"$defs", "definitions", "default", "const", "enum", "examples"})


@dataclass(frozen=True, slots=True)
class Both:
    """A validator that asks for two things: our envelope (or all of our schema), and the registry's schema."""

    ours: Validator
    theirs: Validator

    def is_valid(self, instance: Any) -> bool:
        """Return whether both accept the event."""
        return self.ours.is_valid(instance) and self.theirs.is_valid(instance)

    def iter_errors(self, instance: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """Yield what either has against it, ours first."""
        yield from self.ours.iter_errors(instance)
        yield from self.theirs.iter_errors(instance)


@dataclass(frozen=True, slots=True)
class RegistryCompiled(Compiled):
    """A registry's schema, compiled."""

    def explain(self, document: Mapping[str, Any]) -> InvalidEvent:
        """Return why ``document`` is refused."""
        validator = self.validator
        assert isinstance(validator, Both)
        if not validator.ours.is_valid(document):
            return explained(validator.ours, document, self.dataschema)
        try:
            error = next(validator.theirs.iter_errors(document))
        except ValueError:
            return too_deep()
        place = "/" + "/".join(map(str, error.instance_path)) if error.instance_path else ""
        return InvalidEvent(
            Reason.DATA if place.startswith("/data") else Reason.ENVELOPE,
            f"{place or 'the event'}: {error.message}"[:MAX_DETAIL],
            schema_path=f"{self.dataschema}#/{'/'.join(map(str, error.evaluation_path))}"[:MAX_DETAIL],
            instance_path=place[:MAX_DETAIL],
        )


@dataclass(frozen=True, slots=True)
class Usable:
    """A registry's schema that can be used, for events of ``types``; ``document`` as it was parsed."""

    document: Schema
    types: frozenset[str]
    topic: str | None
    label: str
    versions: Mapping[str, int]
    validator: Both
    rules: tuple[FieldRule, ...]

    def alone(self, name: str) -> Compiled:
        """Return what an event of a type that only the registry knows is checked by."""
        version = self.versions.get(name, 0)
        return RegistryCompiled(name, version, self.label, self.topic, "subject", self.validator, self.rules)

    def beside(self, compiled: Compiled) -> Compiled:
        """Return what an event of a type of the catalogue is checked by: both schemas, the rules of both."""
        validator = Both(compiled.validator, self.validator.theirs)
        rules = tuple(dict.fromkeys([*compiled.rules, *self.rules]))
        mine = {name: getattr(compiled, name) for name in Compiled.__slots__}
        # An event that leaves its version out was written for the schema that its id names, so no other is tried.
        return RegistryCompiled(**{**mine, "validator": validator, "rules": rules, "older": ()})


def compile_stored(stored: Stored, label: str) -> Usable:
    """Compile a registry's schema; ``label`` names it in messages. Raises :class:`Unusable` with the reason."""
    try:
        document, extra = orjson.loads(stored.text), _resources(stored)
    except orjson.JSONDecodeError:
        raise Unusable("it is not JSON") from None
    if not isinstance(document, dict):
        raise Unusable("it is no object, so it says nothing of an event")
    try:
        theirs = jsonschema_rs.validator_for(
            document,
            registry=jsonschema_rs.Registry(extra),
            validate_formats=True,
            ignore_unknown_formats=True,  # a registry's schemas name formats of their own languages
            mask="the value",
            offline=True,
        )
        whole = jsonschema_rs.dereference(document, registry=jsonschema_rs.Registry(extra), offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        # The first line: what follows it is the schema itself, at any length.
        raise Unusable(f"it cannot be compiled: {str(error).splitlines()[0][:200]}") from None
    return Usable(
        document,
        _types(whole, stored),
        _topic(document),
        label,
        stored.subjects,
        Both(_open_envelope(), theirs),
        _rules(whole),
    )


@lru_cache(maxsize=1)
def _open_envelope() -> jsonschema_rs.Validator:
    document = dict(envelope())
    anything = {"type": "string", "minLength": 1, "maxLength": 300}
    document["properties"] = {**document["properties"], "dataschema": anything}
    return build_validator(document)


def _resources(stored: Stored) -> list[tuple[str, Schema]]:
    """Return what a schema may refer to, under the names that its references have, alone and against its own name."""
    document = orjson.loads(stored.text)
    base = document.get("$id", "") if isinstance(document, dict) else ""
    found: dict[str, Schema] = {}
    for name, text in stored.references.items():
        schema = orjson.loads(text)
        found[name] = schema
        if isinstance(base, str) and base.startswith(("http://", "https://")):
            found.setdefault(urljoin(base, name), schema)
    return list(found.items())


def _types(whole: Schema, stored: Stored) -> frozenset[str]:
    constants = set(_constants(whole))
    types = constants or set(stored.subjects)
    if not types:
        raise Unusable("it does not say which event type it is for (properties/type/const)")
    return frozenset(types)


def _constants(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    kind = properties.get("type") if isinstance(properties, Mapping) else None
    if isinstance(kind, Mapping):
        yield from (value for value in [kind.get("const"), *kind.get("enum", ())] if isinstance(value, str))
    for child in schema.get("allOf", ()):
        yield from _constants(child)


def _topic(document: Schema) -> str | None:
    topic = document.get("x-topic")
    if topic is None:
        return None
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or topic in (".", "..", INGRESS, DEAD_LETTER):
        raise Unusable("x-topic is not a topic that events can go to")
    return topic


def _rules(whole: Schema) -> tuple[FieldRule, ...]:
    if b'"x-pii"' not in orjson.dumps(whole):
        return ()
    if _hidden(whole):
        raise Unusable("it has x-pii where no field rule reaches, so personal data would come through")
    try:
        rules = compile_rules(whole, _recursive)
    except (ValueError, TypeError, AttributeError) as error:
        raise Unusable(f"its x-pii cannot be honoured: {str(error)[:200]}") from None
    if any(rule.path[:1] != ("data",) or len(rule.path) < 2 for rule in rules):
        raise Unusable("it has x-pii outside data; attributes of an event carry nothing personal")
    return tuple(replace(rule, path=rule.path[1:]) for rule in rules)


def _recursive(_reference: str) -> Schema:
    # Everything else was inlined before.
    raise ValueError("it refers to itself, so a rule would have no end")


def _hidden(schema: Any) -> bool:
    """Return whether ``x-pii`` stands below a keyword that the compiler of field rules does not walk."""
    if not isinstance(schema, Mapping):
        return False
    walks: dict[str, Callable[[Any], bool]] = {
        "properties": lambda given: any(map(_hidden, given.values())),
        **dict.fromkeys(_ALL, lambda given: any(map(_hidden, given))),
        **dict.fromkeys(_ONE, lambda given: _hidden(given) if isinstance(given, Mapping) else _holds(given)),
        **dict.fromkeys(_ASIDE, lambda _given: False),
        "x-pii": lambda _given: False,
    }
    return any(walks.get(keyword, _holds)(given) for keyword, given in schema.items())


def _holds(node: Any) -> bool:
    if isinstance(node, Mapping):
        return "x-pii" in node or any(map(_holds, node.values()))
    return isinstance(node, list) and any(map(_holds, node))
