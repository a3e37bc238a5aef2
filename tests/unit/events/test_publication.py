"""Publication: what a registry gets accepts exactly what the catalogue accepts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import TYPES
from events.codec import encode
from events.compiled import compiled_types
from events.publication import DRAFT, Publication, earlier, publications
from events.schemas import action_schema, schema, urn

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
EVERY = [one for one in publications() if one.type is not None]
PARTS = {
    f"urn:isthmus:actions:{one.subject.rpartition('.')[2]}": one.document for one in publications() if not one.type
}


def validator(one: Publication) -> jsonschema_rs.Validator:
    registry = jsonschema_rs.Registry([(uri, PARTS[uri]) for uri in one.references], draft=jsonschema_rs.Draft7)
    return jsonschema_rs.Draft7Validator(one.document, registry=registry, validate_formats=True, offline=True)


VALIDATORS = {one.subject: validator(one) for one in EVERY}


def test_each_version_of_each_type_is_a_subject_and_parts_come_first() -> None:
    subjects = [one.subject for one in publications()]
    assert len(set(subjects)) == len(subjects)
    assert {(one.type, one.version) for one in EVERY} == {(n, v) for n, each in TYPES.items() for v in each.versions}
    for place, one in enumerate(publications()):
        assert set(one.references.values()) <= set(subjects[:place])
        assert one.document["$schema"] == DRAFT
        assert jsonschema_rs.meta.is_valid(one.document)


VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({}) | st.just([])
)


@given(st.sampled_from(EVERY), st.data())
def test_it_accepts_what_the_catalogue_accepts_and_refuses_what_that_refuses(
    one: Publication, data: st.DataObject
) -> None:
    assert one.type is not None
    payload = data.draw(st.sampled_from(schema(one.type, one.version)["examples"]))
    event: dict[str, Any] = orjson.loads(
        encode(one.type, payload, subject="s", source="/t", time=NOW, version=one.version)
    )
    where = data.draw(st.sampled_from([None, event, event["data"]]))
    if where is not None:
        where[data.draw(st.sampled_from([*where, "attributes", "strange"]))] = data.draw(VALUES)
    ours = compiled_types()[urn(one.type, one.version)][one.type]
    same = event["type"] == one.type and event.get("dataschema") == urn(one.type, one.version)
    assert VALIDATORS[one.subject].is_valid(event) == (same and ours.validator.is_valid(event))


def test_an_age_without_a_unit_is_refused_in_draft_7_too() -> None:
    data = {"component_type": "d", "readings": {"a": 1}, "age": 1}
    event = encode("isthmus.component.health", data, subject="s", source="/t", time=NOW, version=1)
    assert not VALIDATORS["isthmus.component.health.v1"].is_valid(orjson.loads(event))


@pytest.mark.parametrize(
    "document",
    [
        {"properties": {"a": {"prefixItems": []}}},
        {"allOf": [{"unevaluatedProperties": False}]},
        {"items": {"$ref": "urn:x", "type": "object"}},
    ],
)
def test_what_draft_7_cannot_say_is_not_published(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="draft 7"):
        earlier(document)


def test_the_original_is_left_alone() -> None:
    assert action_schema("saga_policy")["$schema"] == "https://json-schema.org/draft/2020-12/schema"
