"""Field rules: what the router does to a field that its schema marks with ``x-pii``.

What belongs here: compiling the rules out of a schema, and applying them to a payload. What does not: finding personal
data that no schema declares (that is the quality capability's).

``drop`` removes the field, ``hash`` puts a keyed hash in its place (equal values stay equal, so that joins and counts
still work, and nobody without the key can try names), ``mask`` leaves the last four characters of a long value.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from events.schemas import Schema

Rule = Literal["drop", "hash", "mask"]
RULES: Final[tuple[Rule, ...]] = ("drop", "hash", "mask")
EACH: Final = "*"
"""Path element that stands for every item of an array, or every undeclared property of an object."""

HASH_PREFIX: Final = "hmac:"
_HASH_HEX: Final = 32
_MASK: Final = "****"
_MASK_SHOWS_FROM: Final = 12


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One rule: the path of the field below ``data``, and what happens to it."""

    path: tuple[str, ...]
    rule: Rule


def compile_rules(schema: Schema, resolve: Callable[[str], Schema]) -> tuple[FieldRule, ...]:
    """Return the field rules of a payload schema; ``resolve`` returns the schema that a ``$ref`` names.

    Raises ValueError for an annotation that could make a valid event invalid: ``drop`` on a required field, ``hash`` or
    ``mask`` on what is no plain string, or an unknown rule.
    """
    return tuple(dict.fromkeys(_walk(schema, (), resolve, frozenset())))


def apply_rules(rules: tuple[FieldRule, ...], data: dict[str, Any], key: bytes) -> bool:
    """Apply ``rules`` to ``data`` in place, hashing with ``key``; return whether any field was there to be changed."""
    changed = False
    for rule in rules:
        changed |= _apply(data, rule.path, rule.rule, key)
    return changed


def keyed_hash(value: str, key: bytes) -> str:
    """Return the keyed hash that stands for ``value``: ``hmac:`` and 128 bits of HMAC-SHA-256 in hexadecimal."""
    return HASH_PREFIX + hmac.digest(key, value.encode(), "sha256").hex()[:_HASH_HEX]


def masked(value: str) -> str:
    """Return ``value`` masked: four stars, and its last four characters where it has at least twelve."""
    return _MASK + value[-4:] if len(value) >= _MASK_SHOWS_FROM else _MASK


def _apply(node: Any, path: tuple[str, ...], rule: Rule, key: bytes) -> bool:
    head, rest = path[0], path[1:]
    places: tuple[Any, ...] = ()
    if isinstance(node, dict):
        places = tuple(node) if head == EACH else ((head,) if head in node else ())
    elif isinstance(node, list) and head == EACH:
        places = tuple(range(len(node)))
    changed = False
    for place in places:
        changed |= _apply(node[place], rest, rule, key) if rest else _change(node, place, rule, key)
    return changed


def _change(node: Any, name: str | int, rule: Rule, key: bytes) -> bool:
    if rule == "drop":
        del node[name]
        return True
    value = node[name]
    if not isinstance(value, str):  # null says nothing; another type is refused when the rules are compiled
        return False
    node[name] = keyed_hash(value, key) if rule == "hash" else masked(value)
    return True


def _walk(
    schema: object, path: tuple[str, ...], resolve: Callable[[str], Schema], seen: frozenset[str]
) -> Iterator[FieldRule]:
    if not isinstance(schema, Mapping):
        return
    if "x-pii" in schema:
        yield FieldRule(path, _checked(schema, path))
        return
    if (target := schema.get("$ref")) is not None and target not in seen:
        yield from _walk(resolve(target), path, resolve, seen | {target})
    for name, child in schema.get("properties", {}).items():
        for rule in _walk(child, (*path, name), resolve, seen):
            if rule.rule == "drop" and rule.path == (*path, name) and name in schema.get("required", ()):
                raise ValueError(f"{'/'.join(rule.path)} is required, so it cannot be dropped")
            yield rule
    for keyword in ("additionalProperties", "items"):
        for rule in _walk(schema.get(keyword), (*path, EACH), resolve, seen):
            if keyword == "items" and rule.rule == "drop" and rule.path == (*path, EACH):
                raise ValueError(f"{'/'.join(path)}: items of an array cannot be dropped")
            yield rule
    for keyword in ("allOf", "anyOf", "oneOf"):
        for child in schema.get(keyword, ()):
            yield from _walk(child, path, resolve, seen)
    for keyword in ("if", "then", "else"):
        yield from _walk(schema.get(keyword), path, resolve, seen)


def _checked(schema: Mapping[str, Any], path: tuple[str, ...]) -> Rule:
    where, rule = "/".join(path) or "data", schema["x-pii"]
    if rule not in RULES:
        raise ValueError(f"{where}: x-pii is {rule!r}, not one of {', '.join(RULES)}")
    if not path:
        raise ValueError("a rule belongs to a field, not to the whole payload")
    if rule == "drop":
        return "drop"
    kinds = schema.get("type")
    if not set([kinds] if isinstance(kinds, str) else kinds or ["any"]) <= {"string", "null"}:
        raise ValueError(f"{where}: only a string can be hashed or masked")
    limit = schema.get("maxLength", 2**31)
    if {"pattern", "format", "enum", "const"} & schema.keys() or limit < len(HASH_PREFIX) + _HASH_HEX:
        raise ValueError(f"{where}: what replaces the value would not satisfy the field's own schema")
    return "hash" if rule == "hash" else "mask"
