"""Field rules: compiled from annotations, applied to the fields they name and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.fields import FieldRule, apply_rules, compile_rules, keyed_hash, masked

KEY = b"key of the test"
TEXT: dict[str, Any] = {"type": "string"}


def compiled(schema: dict[str, Any], **references: dict[str, Any]) -> tuple[FieldRule, ...]:
    return compile_rules(schema, references.__getitem__)


def test_rules_are_found_wherever_a_field_can_be() -> None:
    hashed, dropped, hidden = ({**TEXT, "x-pii": rule} for rule in ("hash", "drop", "mask"))
    schema = {
        "properties": {
            "name": hashed,
            "free": TEXT,
            "people": {"items": {"properties": {"mail": dropped}}},
            "tags": {"additionalProperties": hidden},
            "nicknames": {"items": hidden},
            "owner": {"$ref": "person"},
        },
        "allOf": [{"then": {"properties": {"extra": dropped}}}],
    }
    rules = compiled(schema, person={"properties": {"name": hashed, "boss": {"$ref": "person"}}})
    assert {("/".join(rule.path), rule.rule) for rule in rules} == {
        ("name", "hash"),
        ("people/*/mail", "drop"),
        ("tags/*", "mask"),
        ("nicknames/*", "mask"),
        ("owner/name", "hash"),
        ("extra", "drop"),
    }
    data = {
        "name": "Ada",
        "free": "Ada",
        "people": [{"mail": "a@b", "x": 1}, {"mail": None}, "odd", {}],
        "tags": {"a": "NL91ABNA0417164300", "b": "short"},
        "nicknames": ["countess of L", None, 3],
        "owner": {"name": "Ada"},
        "extra": 1,
    }
    assert apply_rules(rules, data, KEY)
    assert data == {
        "name": keyed_hash("Ada", KEY),
        "free": "Ada",
        "people": [{"x": 1}, {}, "odd", {}],
        "tags": {"a": "****4300", "b": "****"},
        "nicknames": ["****of L", None, 3],
        "owner": {"name": keyed_hash("Ada", KEY)},
    }
    # A second time nothing is left to drop, but a hash is hashed again: the router sees an event once.
    assert not apply_rules(compiled({"properties": {"extra": dropped}}), data, KEY)


def test_nothing_to_do_says_so_and_changes_nothing() -> None:
    rules = compiled({"properties": {"name": {**TEXT, "x-pii": "hash"}}})
    data = {"other": 1, "name": None}
    assert not apply_rules(rules, data, KEY)
    assert data == {"other": 1, "name": None}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"required": ["a"], "properties": {"a": {**TEXT, "x-pii": "drop"}}}, "required"),
        ({"properties": {"a": {"type": "number", "x-pii": "hash"}}}, "only a string"),
        ({"properties": {"a": {"x-pii": "mask"}}}, "only a string"),
        ({"properties": {"a": {**TEXT, "format": "email", "x-pii": "hash"}}}, "own schema"),
        ({"properties": {"a": {**TEXT, "enum": ["x"], "x-pii": "mask"}}}, "own schema"),
        ({"properties": {"a": {**TEXT, "maxLength": 8, "x-pii": "hash"}}}, "own schema"),
        ({"properties": {"a": {**TEXT, "x-pii": "encrypt"}}}, "not one of"),
        ({"properties": {"a": {"items": {**TEXT, "x-pii": "drop"}}}}, "items of an array"),
        ({"x-pii": "drop"}, "whole payload"),
    ],
)
def test_a_rule_that_would_make_events_invalid_is_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compiled(schema)


@given(st.text(), st.text())
def test_equal_values_hash_alike_and_others_do_not(first: str, second: str) -> None:
    assert (keyed_hash(first, KEY) == keyed_hash(second, KEY)) == (first == second)
    assert keyed_hash(first, KEY) != keyed_hash(first, b"another key")
    assert len(keyed_hash(first, KEY)) == 37


@given(st.text())
def test_a_mask_shows_four_characters_of_a_long_value_at_most(value: str) -> None:
    assert masked(value) == ("****" + value[-4:] if len(value) >= 12 else "****")
