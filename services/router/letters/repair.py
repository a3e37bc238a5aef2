"""Repairs of a refused event: edits by JSON pointer, a look at it that shows no value, and whether it would pass now.

What belongs here: pure functions of bytes. What does not: reading and sending (:mod:`services.router.letters.replay`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from events.codec import MalformedEvent, parse
from events.compiled import CATALOGUE, Schemas
from resources.errors import ResourceError
from services.router.routing import Headers, Refused, Routed, route
from services.router.table import RoutingTable

_SHOWN: Final = frozenset({"specversion", "type", "dataschema", "datacontenttype", "time", "id", "source"})
_SCALARS: Final = {bool: "<boolean>", int: "<number>", float: "<number>", type(None): "<null>"}
# Hashes are of one length whatever the key, so whether an event passes does not depend on it.
_ANY_KEY: Final = b"a look, not a hash that is kept"


class RepairError(ResourceError):
    """A repair cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What changes: the whole value, or values by JSON pointer (RFC 6901), and pointers to what is taken out."""

    value: bytes | None = None
    sets: Mapping[str, Any] = field(default_factory=dict)
    removals: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.value is not None or bool(self.sets) or bool(self.removals)

    def apply(self, value: bytes | None) -> bytes | None:
        """Return ``value`` repaired; raises :class:`RepairError` where a pointer leads nowhere."""
        value = self.value if self.value is not None else value
        if not self.sets and not self.removals:
            return value
        try:
            document = parse(value or b"")
        except MalformedEvent as error:
            raise RepairError(f"it cannot be edited by pointer, since it is {error}; give a whole value") from None
        for pointer in self.removals:
            _remove(document, pointer)
        for pointer, content in self.sets.items():
            _set(document, pointer, content)
        try:
            return orjson.dumps(document)
        except orjson.JSONEncodeError:
            raise RepairError("it is nested too deeply to be written again; give a whole value") from None


def edits(texts: Sequence[str]) -> dict[str, Any]:
    """Return what texts of the form ``/pointer=value`` say; a value that is not JSON is a string."""
    found = {}
    for text in texts:
        pointer, equals, content = text.partition("=")
        if not equals or not pointer.startswith("/"):
            raise RepairError(f"{text!r} is no edit: write /data/amount=3")
        try:
            found[pointer] = orjson.loads(content)
        except orjson.JSONDecodeError:
            found[pointer] = content
    return found


def verdict(
    value: bytes | None,
    key: bytes | None,
    headers: Headers,
    now: datetime,
    *,
    schemas: Schemas = CATALOGUE,
    table: RoutingTable | None = None,
) -> Routed | Refused:
    """Return what the router would make of this record at ``now`` (UTC); raises SchemaUnavailable as routing does."""
    return route(value, key, headers, now, _ANY_KEY, schemas=schemas, table=table or RoutingTable())


def outline(value: bytes | None) -> Any:
    """Return the form of an event without what it says: kinds and lengths for values, envelope attributes as they are.

    Plain data, or a sentence where it is no JSON object.
    """
    if not value:
        return "no value"
    try:
        document = parse(value)
    except MalformedEvent as error:
        return f"{len(value):,} bytes, {error}"
    return {
        name: content if name in _SHOWN and isinstance(content, str) and len(content) <= 200 else _kind(content)
        for name, content in document.items()
    }


def _kind(node: Any, levels: int = 8) -> Any:
    # No deeper than a person reads: an event may be nested a thousand levels.
    if isinstance(node, dict | list) and not levels:
        return f"<{len(node)} within>"
    if isinstance(node, dict):
        return {name: _kind(child, levels - 1) for name, child in node.items()}
    if isinstance(node, list):
        return [_kind(child, levels - 1) for child in node[:20]]
    return f"<string of {len(node)}>" if isinstance(node, str) else _SCALARS[node.__class__]


def _steps(pointer: str) -> list[str]:
    if not pointer.startswith("/"):
        raise RepairError(f"{pointer!r} is no JSON pointer: it begins with /, such as /data/amount")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def _parent(document: Any, pointer: str) -> tuple[Any, str]:
    *path, last = _steps(pointer)
    node = document
    for step in path:
        try:
            node = node[_index(node, step, pointer)] if isinstance(node, list) else node[step]
        except (KeyError, IndexError, TypeError):
            raise RepairError(f"{pointer} leads nowhere: there is no {step!r}") from None
    if not isinstance(node, dict | list):
        raise RepairError(f"{pointer} leads nowhere: what should hold {last!r} is no object and no array")
    return node, last


def _set(document: Any, pointer: str, content: Any) -> None:
    node, last = _parent(document, pointer)
    if isinstance(node, dict):
        node[last] = content
    elif last == "-":
        node.append(content)
    else:
        node[_index(node, last, pointer)] = content


def _remove(document: Any, pointer: str) -> None:
    node, last = _parent(document, pointer)
    if isinstance(node, list):
        del node[_index(node, last, pointer)]
    elif last in node:
        del node[last]
    else:
        raise RepairError(f"{pointer} leads nowhere: there is no {last!r}")


def _index(node: list[Any], step: str, pointer: str) -> int:
    if not step.isascii() or not step.isdigit() or int(step) >= len(node):
        raise RepairError(f"{pointer} leads nowhere: the array has {len(node)} items, and {step!r} is none of them")
    return int(step)
