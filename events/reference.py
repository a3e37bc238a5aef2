"""The reference of event types as text: the generated part of ``docs/api/events.md``.

What belongs here: Markdown made from catalogue and schemas, so that the page cannot drift from them. What does not: the
page's own words. ``python -m events.reference`` writes the page anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from events.catalogue import ACTIONS, TYPES
from events.schemas import Schema, action_schema, envelope, schema, urn

PAGE: Final = Path(__file__).parents[1] / "docs" / "api" / "events.md"
_BEGIN: Final = "<!-- generated from events/ by `python -m events.reference`: do not edit below -->"


def page(current: str) -> str:
    """Return the text of the page with everything below the marker made anew."""
    return current.split(_BEGIN, maxsplit=1)[0].rstrip() + f"\n\n{_BEGIN}\n\n{reference()}"


def reference() -> str:
    """Return the tables of the envelope, every type and every action as Markdown."""
    rows = [
        f"| [`{name}`](#{re.sub('[^a-z0-9_-]', '', name)}) | `{event_type.topic}` | {_KEYS[event_type.key]} "
        f"| {', '.join(map(str, event_type.versions))} |"
        for name, event_type in TYPES.items()
    ]
    parts = [
        "## Types\n\n| type | topic | key | versions |\n| --- | --- | --- | --- |\n" + "\n".join(rows),
        "## Envelope\n\n" + _section(envelope()),
    ]
    for name, event_type in TYPES.items():
        document = schema(name, event_type.latest)
        parts.append(f"## {name}\n\n`dataschema`: `{urn(name, event_type.latest)}`\n\n{_section(document)}")
    parts += [f"## Action of {kind}\n\n{_section(action_schema(kind))}" for kind in ACTIONS]
    return "\n\n".join(parts) + "\n"


_KEYS: Final = {"subject": "subject", "row": "store/table/primary key"}


def _section(document: Schema) -> str:
    rows = "\n".join(_rows(document, ""))
    text = f"{document['description']}\n\n| field | type | | meaning |\n| --- | --- | --- | --- |\n{rows}"
    if examples := document.get("examples"):
        sample = orjson.dumps(examples[0], option=orjson.OPT_INDENT_2).decode()
        text += f"\n\n```json\n{sample}\n```"
    return text


def _rows(document: Mapping[str, Any], prefix: str) -> list[str]:
    rows = []
    for name, field in document.get("properties", {}).items():
        marks = ["required"] if name in document.get("required", ()) else []
        marks += [f"**{field['x-pii']}**"] if "x-pii" in field else []
        rows.append(f"| `{prefix}{name}` | {_type(field)} | {', '.join(marks)} | {field.get('description', '')} |")
        rows += _rows(field, f"{prefix}{name}.")
        rows += _rows(field.get("items", {}), f"{prefix}{name}[].")
    return rows


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kinds = field.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
