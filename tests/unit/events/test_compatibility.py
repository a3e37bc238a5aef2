"""Compatibility: the schemas keep the promise of the last release, and the checker sees each way to break one."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from events.catalogue import TYPES
from events.compatibility import breaks, catalogue_breaks, catalogue_entries, release, released_breaks
from events.schemas import FOLDER, schema

BASE: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 100},
        "kind": {"enum": ["a", "b"]},
        "size": {"type": ["number", "null"], "minimum": 0, "maximum": 10},
        "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
        "person": {"type": "string", "maxLength": 100, "x-pii": "hash"},
        "mail": {"type": "string", "x-pii": "drop"},
        "nested": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}


def edited(*edits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    schema = copy.deepcopy(BASE)
    for edit in edits:
        edit(schema)
    return schema


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(schema: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for part in way:
            schema = schema[part]
        schema[last] = value

    return edit


def cut(path: str) -> Callable[[dict[str, Any]], None]:
    def edit(schema: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for part in way:
            schema = schema[part]
        del schema[last]

    return edit


BREAKING = [
    ("new required field", [put("required", ["name", "kind"])], "/kind: is required now"),
    (
        "new field that is required",
        [put("properties.new", {"type": "string"}), put("required", ["name", "new"])],
        "/new: is required now",
    ),
    ("nested field required", [put("properties.nested.required", ["x", "y"])], "/nested/y: is required now"),
    ("narrowed enum", [put("properties.kind.enum", ["a"])], "enum no longer takes b"),
    ("new enum", [put("properties.name.enum", ["a"])], "has an enum now"),
    ("type changed", [put("properties.name.type", "number")], "type no longer takes string"),
    ("null no longer taken", [put("properties.size.type", "number")], "type no longer takes null"),
    ("number to integer", [put("properties.size.type", ["integer", "null"])], "type no longer takes number"),
    ("field removed", [cut("properties.kind")], "/kind: was removed"),
    ("minimum rises", [put("properties.size.minimum", 1)], "minimum rose from 0 to 1"),
    ("maximum falls", [put("properties.size.maximum", 9)], "maximum fell from 10 to 9"),
    ("bound appears", [put("properties.nested.properties.x.maximum", 9)], "maximum fell from none to 9"),
    ("shorter text", [put("properties.name.maxLength", 10)], "maxLength fell"),
    ("longer text", [put("properties.name.minLength", 2)], "minLength rose"),
    ("fewer items", [put("properties.tags.maxItems", 4)], "maxItems fell"),
    ("item narrowed", [put("properties.tags.items.maxLength", 9)], "/tags/*: maxLength fell"),
    ("pattern appears", [put("properties.name.pattern", "^a")], "pattern changed from none to ^a"),
    ("format appears", [put("properties.name.format", "email")], "format changed from none to email"),
    ("closed", [put("properties.nested.additionalProperties", False)], "not declared are no longer allowed"),
    ("not", [put("not", {"required": ["kind"]})], "not changed"),
    ("dependent", [put("dependentRequired", {"kind": ["size"]})], "dependentRequired changed"),
    ("hidden in allOf", [put("allOf", [{"required": ["kind"]}])], "does not provably accept"),
    ("hidden in if", [put("if", {"required": ["kind"]}), put("then", {"required": ["size"]})], "does not provably"),
    ("never", [put("properties.kind", False)], "does not provably accept"),
    ("hash removed", [cut("properties.person.x-pii")], "/person: x-pii was hash and is gone"),
    ("hash weakened", [put("properties.person.x-pii", "mask")], "/person: x-pii was hash and is mask"),
    ("drop weakened", [put("properties.mail.x-pii", "hash")], "/mail: x-pii was drop and is hash"),
]


@pytest.mark.parametrize(("edits", "says"), [case[1:] for case in BREAKING], ids=[case[0] for case in BREAKING])
def test_a_break_is_seen_and_named(edits: list[Callable[[dict[str, Any]], None]], says: str) -> None:
    found = breaks(BASE, edited(*edits))
    assert any(says in problem for problem in found), found


GROWING = [
    ("nothing", []),
    ("new optional field", [put("properties.new", {"type": "string"})]),
    ("no longer required", [put("required", [])]),
    ("wider enum", [put("properties.kind.enum", ["a", "b", "c"])]),
    ("wider type", [put("properties.name.type", ["string", "null"])]),
    ("integer to number", [put("properties.nested.properties.x.type", "number")]),
    ("wider bounds", [put("properties.size.minimum", -1), put("properties.size.maximum", 11)]),
    ("bound gone", [cut("properties.name.maxLength")]),
    ("opened", [put("additionalProperties", True)]),
    ("removed where others are allowed", [put("additionalProperties", True), cut("properties.kind")]),
    ("stronger protection", [put("properties.person.x-pii", "drop")]),
    ("new protection", [put("properties.name.x-pii", "hash")]),
    ("words", [put("description", "Other words.")]),
]


@pytest.mark.parametrize("edits", [case[1] for case in GROWING], ids=[case[0] for case in GROWING])
def test_growth_is_allowed(edits: list[Callable[[dict[str, Any]], None]]) -> None:
    assert breaks(BASE, edited(*edits)) == []


def test_a_reference_that_narrows_is_seen() -> None:
    old = {"properties": {"a": {"$ref": "urn:x"}}}
    wide, narrow = {"$id": "urn:x", "type": "object"}, {"$id": "urn:x", "type": "object", "required": ["b"]}
    assert breaks(old, old, references={"urn:x": (wide, wide)}) == []
    assert breaks(old, old, references={"urn:x": (wide, narrow)})


def test_the_catalogue_keeps_types_topics_keys_and_versions() -> None:
    entries = catalogue_entries()
    assert list(catalogue_breaks(entries, entries)) == []
    name = "isthmus.saga.step"
    for change, says in (
        ({"topic": "isthmus.steps"}, "its topic changed"),
        ({"key": "row"}, "its key changed"),
        ({"versions": [2]}, "released version 1 was removed"),
    ):
        (problem,) = catalogue_breaks(entries, {**entries, name: {**entries[name], **change}})
        assert says in problem
    (problem,) = catalogue_breaks(entries, {other: entry for other, entry in entries.items() if other != name})
    assert "a released type was removed" in problem
    assert list(catalogue_breaks(entries, {**entries, "isthmus.new": entries[name]})) == []


def test_the_schemas_keep_the_promise_of_the_last_release() -> None:
    assert released_breaks() == []


def test_a_break_in_a_file_is_found_and_is_not_released(tmp_path: Path) -> None:
    released = tmp_path / "released"
    release(released)
    current = tmp_path / "events"
    shutil.copytree(FOLDER, current / "schemas", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(FOLDER.parent / "envelope.json", current)
    assert released_breaks(released, current) == []
    file = current / "schemas" / "isthmus.saga.step" / "1.json"
    document = schema("isthmus.saga.step", TYPES["isthmus.saga.step"].versions[0])
    file.write_bytes(orjson.dumps({**document, "required": [*document["required"], "worker"]}))
    (current / "schemas" / "isthmus.saga.completed" / "1.json").unlink()
    found = released_breaks(released, current)
    assert [problem for problem in found if "1.json: /worker: is required now" in problem]
    assert [problem for problem in found if "isthmus.saga.completed/1.json: a released version was removed" in problem]
    # The other way round: what stands now is narrower than a release that never was.
    wide = released / "schemas" / "isthmus.saga.step" / "1.json"
    wide.write_bytes(orjson.dumps({**document, "required": []}))
    with pytest.raises(ValueError, match="breaks a promise"):
        release(released)
