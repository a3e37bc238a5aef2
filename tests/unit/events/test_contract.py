"""Every schema: sound, described, exemplified; catalogue, files and page agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest

from events.catalogue import ACTIONS, DEAD_LETTER, DOMAIN_TOPICS, INGRESS, MAX_EVENT_BYTES, TOPICS, TYPES
from events.codec import Event, encode, key_of
from events.compiled import compiled_types, resolve
from events.fields import compile_rules
from events.reference import PAGE, page
from events.schemas import FOLDER, action_schema, envelope, schema, urn
from events.validation import validate

VERSIONS = [(name, version) for name, event_type in TYPES.items() for version in event_type.versions]
SCHEMAS = [
    pytest.param(envelope(), id="envelope"),
    *(pytest.param(schema(*pair), id=f"{pair[0]}/{pair[1]}") for pair in VERSIONS),
    *(pytest.param(action_schema(kind), id=kind) for kind in ACTIONS),
]


def fields(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}/{name}", child
        yield from fields(child, f"{path}/{name}")
        yield from fields(child.get("items", {}), f"{path}/{name}/*")


@pytest.mark.parametrize("document", SCHEMAS)
def test_schema_is_valid_2020_12_and_says_what_each_field_means(document: dict[str, Any]) -> None:
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.meta.is_valid(document)
    assert document["title"]
    assert document["description"].endswith(".")
    for path, field in fields(document):
        assert field["description"].endswith("."), path
        for example in field.get("examples", ()):
            assert jsonschema_rs.is_valid(field, example, validate_formats=True), path


@pytest.mark.parametrize("document", SCHEMAS)
def test_strings_and_lists_are_bounded(document: dict[str, Any]) -> None:
    for path, field in fields(document):
        kinds = field.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "string" in kinds and "pattern" not in field:
            assert "maxLength" in field, path
        if "array" in kinds:
            assert "maxItems" in field, path


def test_catalogue_and_files_name_the_same_versions() -> None:
    files = {(path.parent.name, int(path.stem)) for path in FOLDER.glob("isthmus.*/*.json")}
    assert files == set(VERSIONS)
    assert {path.stem for path in (FOLDER / "actions").glob("*.json")} == set(ACTIONS)
    for name, version in VERSIONS:
        assert schema(name, version)["$id"] == urn(name, version)
        assert schema(name, version)["additionalProperties"] is False, "an undeclared field has no field rule"


def test_topics_take_what_must_fit_into_them() -> None:
    assert set(TOPICS) == {INGRESS, DEAD_LETTER, *DOMAIN_TOPICS}
    assert {event_type.topic for event_type in TYPES.values()} == set(DOMAIN_TOPICS)
    limits = {name: int(config["max.message.bytes"]) for name, config in TOPICS.items()}
    assert all(limits[topic] > MAX_EVENT_BYTES for topic in DOMAIN_TOPICS)
    assert limits[DOMAIN_TOPICS[0]] < limits[INGRESS] < limits[DEAD_LETTER]
    assert all(config["message.timestamp.type"] == "LogAppendTime" for config in TOPICS.values())


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_each_example_is_an_event(name: str, version: int) -> None:
    for example in schema(name, version)["examples"]:
        value = encode(name, example, subject="s-1", source="/test", version=version)
        event = validate(value)
        assert isinstance(event, Event)
        assert (event.type, event.version, event.data) == (name, version, orjson.loads(orjson.dumps(example)))
        assert key_of(event)


def test_every_version_compiles_with_its_rules() -> None:
    table = compiled_types()
    assert set(table[None]) == set(TYPES)
    assert {rule.rule for each in table[None].values() for rule in each.rules} == {"drop", "hash", "mask"}
    for name, version in VERSIONS:
        assert table[urn(name, version)][name].rules == compile_rules(schema(name, version), resolve)


def test_the_page_of_event_types_is_fresh() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run python -m events.reference"
