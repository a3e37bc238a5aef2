"""Upcasts: each step does what it says and no more; no step carries a protected field to an unprotected place."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import TYPES, EventType
from events.codec import encode
from events.compiled import Compiled, Headers, compile_versions, compiled_types
from events.fields import FieldRule
from events.schemas import UPCASTS, schema, upcast_steps, urn
from events.upcast import UpcastFailed, apply_steps, compile_steps, unprotected
from events.validation import ORIGINAL_DATASCHEMA, InvalidEvent, Reason, check, upcast
from services.router.routing import Refused, Routed, route

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEPS = [(name, version) for name, entry in TYPES.items() for version in entry.versions[:-1]]


def done(data: dict[str, Any], *steps: dict[str, Any]) -> dict[str, Any]:
    data = deepcopy(data)
    apply_steps(compile_steps({"steps": list(steps)}), data)
    return data


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ({"op": "move", "path": "a", "to": "b"}, {"a": 1}, {"b": 1}),
        ({"op": "move", "path": "a", "to": "b"}, {"c": 1}, {"c": 1}),
        ({"op": "move", "path": "a", "to": "b/c"}, {"a": None}, {"b": {"c": None}}),
        ({"op": "move", "path": "a/b", "to": "b"}, {"a": {"b": [1], "c": 2}}, {"a": {"c": 2}, "b": [1]}),
        ({"op": "move", "path": "a/b", "to": "b"}, {"a": 3}, {"a": 3}),
        ({"op": "move", "path": "l/*/a", "to": "l/*/b"}, {"l": [{"a": 1}, {}, 7]}, {"l": [{"b": 1}, {}, 7]}),
        ({"op": "move", "path": "*/a/x", "to": "*/y"}, {"k": {"a": {"x": 1}}}, {"k": {"a": {}, "y": 1}}),
        ({"op": "default", "path": "a", "value": 0}, {}, {"a": 0}),
        ({"op": "default", "path": "a", "value": 0}, {"a": None}, {"a": None}),
        ({"op": "default", "path": "a/b", "value": []}, {}, {"a": {"b": []}}),
        ({"op": "default", "path": "l/*/b", "value": 1}, {"l": [{}, {"b": 2}, 3]}, {"l": [{"b": 1}, {"b": 2}, 3]}),
        ({"op": "map", "path": "a", "values": {"x": "y"}}, {"a": "x"}, {"a": "y"}),
        ({"op": "map", "path": "a", "values": {"x": "y"}}, {"a": "z", "b": "x"}, {"a": "z", "b": "x"}),
        ({"op": "map", "path": "a", "values": {"x": "y"}}, {"a": ["x"]}, {"a": ["x"]}),
        ({"op": "map", "path": "l/*", "values": {"x": "y"}}, {"l": ["x", "z"]}, {"l": ["y", "z"]}),
        ({"op": "scale", "path": "a", "divide": 1000}, {"a": 41.7}, {"a": 0.0417}),
        ({"op": "scale", "path": "a", "multiply": 1024}, {"a": 3}, {"a": 3072}),
        ({"op": "scale", "path": "a", "multiply": 2}, {"a": None, "b": 1}, {"a": None, "b": 1}),
        ({"op": "scale", "path": "a", "multiply": 2}, {"a": True}, {"a": True}),
        ({"op": "scale", "path": "m/*", "multiply": 2}, {"m": {"x": 1, "y": None}}, {"m": {"x": 2, "y": None}}),
        ({"op": "drop", "path": "a"}, {"a": 1, "b": 2}, {"b": 2}),
        ({"op": "drop", "path": "l/*/a"}, {"l": [{"a": 1}, 2]}, {"l": [{}, 2]}),
        ({"op": "key_by", "path": "age", "by": "unit", "to": "use"}, {"age": 3, "unit": "h"}, {"use": {"h": 3}}),
        ({"op": "key_by", "path": "age", "by": "unit", "to": "use"}, {"unit": "h"}, {}),
        ({"op": "key_by", "path": "age", "by": "unit", "to": "use"}, {}, {}),
    ],
)  # fmt: skip
def test_each_step(step: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    assert done(before, step) == after


def test_steps_are_done_in_order_and_do_not_share_values() -> None:
    steps = [{"op": "default", "path": "a", "value": {}}, {"op": "move", "path": "a", "to": "b"}]
    compiled = compile_steps({"steps": steps})
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for data in (first, second):
        apply_steps(compiled, data)
    first["b"]["x"] = 1
    assert second == {"b": {}}


@pytest.mark.parametrize(
    ("step", "data"),
    [
        ({"op": "move", "path": "a", "to": "b"}, {"a": 1, "b": 2}),
        ({"op": "move", "path": "a", "to": "b/c"}, {"a": 1, "b": 2}),
        ({"op": "key_by", "path": "age", "by": "unit", "to": "use"}, {"age": 3}),
        ({"op": "key_by", "path": "age", "by": "unit", "to": "use"}, {"age": 3, "unit": ["h"]}),
    ],
)
def test_what_would_overwrite_or_lose_a_value_fails(step: dict[str, Any], data: dict[str, Any]) -> None:
    with pytest.raises(UpcastFailed):
        done(data, step)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"op": "eval", "path": "a"}, "op must be one of"),
        ("drop a", "op must be one of"),
        ({"op": "drop"}, "drop takes path"),
        ({"op": "drop", "path": "a", "if": "b"}, "drop takes path"),
        ({"op": "scale", "path": "a", "multiply": 2, "divide": 3}, "scale takes multiply, path or divide, path"),
        ({"op": "scale", "path": "a", "divide": 0}, "other than 0"),
        ({"op": "scale", "path": "a", "divide": True}, "other than 0"),
        ({"op": "drop", "path": ""}, "names joined by slashes"),
        ({"op": "drop", "path": "a//b"}, "names joined by slashes"),
        ({"op": "drop", "path": 3}, "names joined by slashes"),
        ({"op": "drop", "path": "a/*"}, "named field"),
        ({"op": "default", "path": "*", "value": 1}, "named field"),
        ({"op": "map", "path": "a", "values": {}}, "new value by old one"),
        ({"op": "move", "path": "a", "to": "a"}, "two different fields"),
        ({"op": "move", "path": "a", "to": "a/b"}, "into itself"),
        ({"op": "move", "path": "l/*/a", "to": "m/*/a"}, "share all up to the last"),
        ({"op": "move", "path": "a", "to": "l/*/a"}, "share all up to the last"),
        ({"op": "key_by", "path": "a", "by": "x/b", "to": "c"}, "fields of one object"),
        ({"op": "key_by", "path": "a", "by": "a", "to": "c"}, "three fields"),
    ],
)
def test_a_bad_step_is_refused_when_it_is_compiled(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_steps({"steps": [step]})


def test_a_document_that_is_no_upcast_is_refused() -> None:
    documents: list[dict[str, Any]] = [{}, {"steps": {}}, {"steps": [], "code": "x"}]
    for document in documents:
        with pytest.raises(ValueError, match="list of steps"):
            compile_steps(document)


@pytest.mark.parametrize(
    ("steps", "new", "lost"),
    [
        ([], [("name", "hash")], []),
        ([], [("name", "mask")], ["name"]),
        ([], [], ["name"]),
        ([{"op": "move", "path": "name", "to": "who/name"}], [("who/name", "hash")], []),
        ([{"op": "move", "path": "name", "to": "who/name"}], [("name", "hash")], ["name"]),
        ([{"op": "drop", "path": "name"}], [], []),
        ([{"op": "map", "path": "name", "values": {"a": "b"}}], [("name", "hash")], ["name"]),
        ([{"op": "key_by", "path": "x", "by": "name", "to": "y"}], [("name", "hash")], ["name"]),
        ([{"op": "key_by", "path": "name", "by": "x", "to": "y"}], [("y/a", "hash")], ["name"]),
    ],
)
def test_no_upcast_uncovers_personal_data(steps: list[Any], new: list[tuple[str, str]], lost: list[str]) -> None:
    rules = [FieldRule(tuple(path.split("/")), rule) for path, rule in new]  # type: ignore[arg-type]
    assert unprotected([FieldRule(("name",), "hash")], rules, compile_steps({"steps": steps})) == lost


# The repository's own


def test_there_is_one_upcast_for_each_step_between_versions() -> None:
    assert {(path.parent.name, int(path.stem)) for path in UPCASTS.rglob("*.json")} == set(STEPS)


@pytest.mark.parametrize(("name", "version"), STEPS)
def test_each_example_of_an_old_version_becomes_a_valid_event_of_the_latest(name: str, version: int) -> None:
    assert upcast_steps(name, version)["description"].endswith(".")
    for example in schema(name, version)["examples"]:
        value = encode(name, example, subject="s-1", source="/test", time=NOW, version=version)
        document, compiled = check(value, NOW)
        latest = upcast(document, compiled)
        assert latest.version == TYPES[name].latest
        assert (document["dataschema"], document[ORIGINAL_DATASCHEMA]) == (latest.dataschema, urn(name, version))
        again, same = check(orjson.dumps(document), NOW)
        assert (again, same.version) == (document, latest.version)


NUMBERS = st.integers(0, 10**6) | st.floats(0, 1e15, allow_nan=False)
HEALTH_1 = st.fixed_dictionaries(
    {"component_type": st.just("disk"), "readings": st.just({"smart_5": 0})},
    optional={"age_unit": st.sampled_from(["hours", "cycles", "kilometres", "operations"]), "status": st.just("ok")},
).flatmap(
    lambda data: (
        (st.just(data) | NUMBERS.map(lambda age: {**data, "age": age})) if "age_unit" in data else st.just(data)
    )
)


@given(HEALTH_1, st.booleans())
def test_component_health_keeps_its_figures(data: dict[str, Any], says_its_version: bool) -> None:
    value = encode("isthmus.component.health", data, subject="d", source="/test", id="1", time=NOW, version=1)
    if not says_its_version:
        value = value.replace(b'"dataschema":"urn:isthmus:isthmus.component.health:1",', b"")
    result = route(value, b"d", None, NOW, b"key")
    assert isinstance(result, Routed)
    document = orjson.loads(result.value)
    expected = {"usage": {data["age_unit"]: data["age"]}} if "age" in data else {}
    rest = {name: content for name, content in data.items() if name not in ("age", "age_unit")}
    assert document["data"] == rest | expected
    old_form = says_its_version or "age_unit" in data
    assert result.rewritten == old_form
    assert document.get("dataschema") == ("urn:isthmus:isthmus.component.health:2" if old_form else None)


def test_an_event_without_dataschema_that_no_version_accepts_is_refused_by_the_latest() -> None:
    value = encode("isthmus.component.health", {"readings": {}}, subject="d", source="/test", time=NOW)
    result = route(value.replace(b'"dataschema":"urn:isthmus:isthmus.component.health:2",', b""), b"", None, NOW, b"")
    assert isinstance(result, Refused)
    assert result.schema_path.startswith("urn:isthmus:isthmus.component.health:2#")


def test_the_latest_version_has_no_upcast_and_passes_unchanged() -> None:
    assert all(compiled.newer is None for compiled in compiled_types()[None].values())
    value = encode("isthmus.component.health", schema("isthmus.component.health", 2)["examples"][0], subject="d",
                   source="/test", time=NOW)  # fmt: skip
    result = route(value, b"d", None, NOW, b"")
    assert isinstance(result, Routed)
    assert (result.value, result.rewritten) == (value, False)


# A catalogue of the test: three versions

THING = EventType("test.thing", "test.topic", versions=(1, 2, 3))


def payload(required: list[str], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": fields, "additionalProperties": False}


WHO, SECONDS = {"type": "string", "x-pii": "hash"}, {"type": "number", "maximum": 1000}
PAYLOADS = {
    1: payload(["ms"], ms={"type": "number"}, who=WHO),
    2: payload(["seconds"], seconds=SECONDS, who=WHO),
    3: payload(["seconds", "kind"], seconds=SECONDS, kind={"const": "x"}, person=payload([], name=WHO)),
}
UPCAST_1 = [{"op": "move", "path": "ms", "to": "seconds"}, {"op": "scale", "path": "seconds", "divide": 1000}]
UPCAST_2 = [{"op": "default", "path": "kind", "value": "x"}, {"op": "move", "path": "who", "to": "person/name"}]


class TestCatalogue:
    __test__ = False

    def __init__(self) -> None:
        versions = compile_versions(THING, PAYLOADS, {1: {"steps": UPCAST_1}, 2: {"steps": UPCAST_2}})
        self._table: dict[str | None, Compiled] = {each.dataschema: each for each in versions}
        self._table[None] = versions[-1]

    def compiled(self, document: Any, _value: bytes, _headers: Headers | None) -> Compiled:
        return self._table[document.get("dataschema")]


def thing(version: int | None, **data: Any) -> bytes:
    document = orjson.loads(encode("isthmus.saga.started", {}, subject="s", source="/t", id="1", time=NOW))
    del document["dataschema"]
    said = {} if version is None else {"dataschema": urn("test.thing", version)}
    return orjson.dumps({**document, **said, "type": "test.thing", "data": data})


@pytest.mark.parametrize("version", [1, None])
def test_an_event_goes_through_all_versions_and_the_rules_of_the_last_apply(version: int | None) -> None:
    result = route(thing(version, ms=1500, who="Ada"), b"", None, NOW, b"key", schemas=TestCatalogue())
    assert isinstance(result, Routed)
    document = orjson.loads(result.value)
    assert document["data"]["seconds"] == 1.5
    assert document["data"]["person"]["name"].startswith("hmac:")
    assert (document["dataschema"], document[ORIGINAL_DATASCHEMA]) == (urn("test.thing", 3), urn("test.thing", 1))
    newest = route(
        thing(3, seconds=1.5, kind="x", person={"name": "Ada"}), b"", None, NOW, b"key", schemas=TestCatalogue()
    )
    assert isinstance(newest, Routed)
    assert orjson.loads(newest.value)["data"] == document["data"], "equal names have equal hashes, whatever the version"


def test_an_outcome_that_is_not_valid_is_refused_with_the_place() -> None:
    document, compiled = check(thing(1, ms=1_000_001), NOW, TestCatalogue())
    with pytest.raises(InvalidEvent) as caught:
        upcast(document, compiled)
    assert (caught.value.reason, caught.value.instance_path) == (Reason.UPCAST, "/data/seconds")
    assert caught.value.schema_path == "urn:isthmus:test.thing:3#/properties/seconds/maximum"


def test_an_upcast_that_uncovers_personal_data_does_not_compile() -> None:
    for steps in ([], [{"op": "move", "path": "who", "to": "kind"}]):
        with pytest.raises(ValueError, match="uncovers who"):
            compile_versions(THING, PAYLOADS, {1: {"steps": UPCAST_1}, 2: {"steps": steps}})
    one = replace(THING, versions=(1,))
    assert compile_versions(one, PAYLOADS, {})[0].newer is None
