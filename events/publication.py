"""Publication: the schemas of this repository as a schema registry takes them, one that describes the whole event.

What belongs here: subjects, documents, references; pure. What does not: the registry (``services/router``).

Each version of a type is a subject of its own, ``<type>.v<version>``: within a version a schema only grows, which a
registry can check; from one version to the next it breaks, which a registry would refuse.

They are published as JSON Schema draft 7. Registries and the clients of other languages know it best; some refuse to
compare what is written in a later one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from events.catalogue import ACTIONS, TYPES
from events.schemas import Schema, action_schema, envelope, schema, urn

DRAFT: Final = "http://json-schema.org/draft-07/schema#"

# By the later name, what draft 7 calls it; what it has no word for, no schema of ours may use.
_EARLIER: Final[dict[str, str]] = {"dependentRequired": "dependencies"}
UNSAYABLE: Final = frozenset(
    {"$defs", "$dynamicRef", "contains", "dependentSchemas", "maxContains", "minContains", "prefixItems"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
"""Keywords that draft 7 lacks, or reads in another way."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One schema for a registry. ``references`` are the subjects of the schemas that it refers to, by name (URN)."""

    subject: str
    document: Schema
    references: dict[str, str]
    type: str | None = None
    """Event type, with ``version``; None for a part that others refer to."""
    version: int = 0

    @property
    def text(self) -> str:
        """The document as text."""
        return orjson.dumps(self.document).decode()


def publications() -> Iterator[Publication]:
    """Yield every schema, what is referred to before what refers to it."""
    actions = {action_schema(kind)["$id"]: f"isthmus.actions.{kind}" for kind in ACTIONS}
    for subject in actions.values():
        kind = subject.rpartition(".")[2]
        yield Publication(subject, earlier(action_schema(kind)), {})
    for name, event_type in TYPES.items():
        for version in event_type.versions:
            document = whole(name, version)
            text = orjson.dumps(document).decode()
            references = {uri: subject for uri, subject in actions.items() if f'"$ref":"{uri}"' in text}
            yield Publication(f"{name}.v{version}", document, references, name, version)


def whole(name: str, version: int) -> Schema:
    """Return the schema of a whole event: our envelope, for this type and version alone, with its payload."""
    payload, outer = schema(name, version), envelope()
    properties: dict[str, Any] = dict(outer["properties"])
    properties["type"] = {**properties["type"], "const": name}
    properties["dataschema"] = {**properties["dataschema"], "const": urn(name, version)}
    inner = {key: value for key, value in payload.items() if key not in ("$schema", "$id", "examples")}
    properties["data"] = {**inner, "type": "object"}
    document = {
        **outer,
        "$id": urn(name, version),
        "title": payload["title"],
        "description": payload["description"],
        "x-topic": TYPES[name].topic,
        "properties": properties,
    }
    return earlier(document)


def earlier(document: Schema) -> Schema:
    """Return a schema of draft 2020-12 as one of draft 7; raises ValueError where draft 7 cannot say it."""
    return {**_schema(document), "$schema": DRAFT}


def _schema(node: Any) -> Any:
    keyword: str
    if not isinstance(node, dict):
        return node
    if unsayable := UNSAYABLE & node.keys() | ({"$ref"} & node.keys() if len(node) > 1 else set()):
        raise ValueError(f"draft 7 has no {', '.join(sorted(unsayable))}, or not with others beside it")
    made: dict[str, Any] = {}
    for keyword, content in node.items():
        if keyword == "properties":
            made[keyword] = {name: _schema(child) for name, child in content.items()}
        elif keyword in ("allOf", "anyOf", "oneOf"):
            made[keyword] = [_schema(child) for child in content]
        elif keyword in ("additionalProperties", "items", "propertyNames", "not", "if", "then", "else"):
            made[keyword] = _schema(content)
        else:
            made[_EARLIER.get(keyword, keyword)] = content
    return made
