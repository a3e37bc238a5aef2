"""Routing: any bytes have exactly one fate, and what passes is what was sent, save for the field rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import MAX_EVENT_BYTES, TYPES
from events.codec import decode, encode
from events.fields import keyed_hash
from events.schemas import schema
from events.validation import Reason, validate
from services.router.routing import Headers, Refused, Routed, is_ambiguous, route

KEY = b"key of the test"
NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
REASONS = {reason.value for reason in Reason}


def fate(value: bytes | None, key: bytes | None = b"k", headers: Headers | None = None) -> Routed | Refused:
    return route(value, key, headers, NOW, KEY)


def accepted(value: bytes, headers: Headers | None = None) -> Routed:
    result = fate(value, headers=headers)
    assert isinstance(result, Routed), result
    return result


def step(**data: Any) -> bytes:
    return encode("isthmus.saga.step", {**STEP, **data}, subject="order-1", source="/test", id="1", time=NOW)


def started(**data: Any) -> bytes:
    return encode("isthmus.saga.started", {"saga_type": "order", **data}, subject="order-1", source="/test", time=NOW)


@pytest.mark.parametrize("name", TYPES)
def test_each_type_goes_to_its_topic_under_its_key(name: str) -> None:
    for example in schema(name, TYPES[name].latest)["examples"]:
        result = accepted(encode(name, example, subject="s/1", source="/test", time=NOW))
        assert (result.type, result.topic) == (name, TYPES[name].topic)
        assert result.key == (b"shop-postgres/public.orders/4711" if name == "isthmus.data.change" else b"s/1")


def test_bytes_pass_unchanged_where_no_rule_applies() -> None:
    for value in (step(), started(amount=3), b" \n" + step().replace(b",", b" , ")):
        result = accepted(value)
        assert result.value is value
        assert not result.rewritten


def test_confluents_framing_is_stripped_and_nothing_else() -> None:
    result = accepted(b"\x00\x00\x00\x01\x02" + step())
    assert (result.value, result.rewritten) == (step(), False)


def test_personal_fields_are_hashed_dropped_and_masked() -> None:
    value = started(customer="Ada", customer_email="ada@example.org", account="NL91ABNA0417164300", amount=1.5)
    result = accepted(value)
    assert result.rewritten
    assert decode(result.value).data == {
        "saga_type": "order",
        "customer": keyed_hash("Ada", KEY),
        "account": "****4300",
        "amount": 1.5,
    }
    assert validate(result.value, received=NOW), "what is written satisfies the schema that it was checked by"
    for secret in (b"Ada", b"ada@example.org", b"ABNA"):
        assert secret not in result.value


@pytest.mark.parametrize(
    "text",
    [
        b'{"customer":"Ada","customer":"Bob"}',
        b'{"customer":"Ada","customer" :"Bob"}',
        b'{"customer":"Ada","\\u0063ustomer":"Bob"}',
        b'{"customer" : "Ada","amount":1,"customer"\n: "Bob"}',
        b'{"attributes":{"customer":"Ada","customer":1}}',
    ],
)
def test_a_key_that_stands_twice_cannot_carry_a_name_past_the_rules(text: bytes) -> None:
    body = text.replace(b"{", b'{"saga_type":"order",', 1)
    value = started().replace(b'{"saga_type":"order"}', body)
    assert b"Ada" in value
    result = accepted(value)
    assert result.rewritten
    assert b"Ada" not in result.value


def test_a_second_id_does_not_reach_readers_that_believe_the_first() -> None:
    value = step().replace(b'"id":"1"', b'"id":"9","id":"1"')
    assert accepted(value).value.count(b'"id"') == 1


def test_headers_and_key_count_towards_the_size() -> None:
    room = MAX_EVENT_BYTES - len(step(error="")) - len(b"order-1")
    assert room > 4096
    pad = [("h", b"x" * (room - 1 - 1))]
    assert isinstance(fate(step(error="x"), b"order-1", pad), Routed)
    over = fate(step(error="xx"), b"order-1", pad)
    assert isinstance(over, Refused)
    assert (over.reason, over.detail) == (
        "too-large",
        "1,000,001 bytes of key, value and headers; at most 1,000,000 are routed",
    )


def test_what_a_rule_lets_grow_beyond_the_limit_is_refused() -> None:
    value = started(customer="A")
    pad = [("h", b"x" * (MAX_EVENT_BYTES - len(value) - 2))]
    result = fate(value, b"k", pad)
    assert isinstance(result, Refused)
    assert result.reason == "too-large"


def test_nothing_is_an_answer_too() -> None:
    for empty in (None, b""):
        result = fate(empty, None)
        assert isinstance(result, Refused)
        assert result.reason == "empty"


def test_depth_beyond_what_can_be_written_again_is_refused_not_raised() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    change = {"store": "s", "table": "t", "primary_key": [1], "operation": "insert", "before": None, "position": "1"}
    document = orjson.loads(encode("isthmus.data.change", {**change, "after": {"x": 1}}, source="/test", time=NOW))
    document["data"]["after"] = "HERE"
    value = orjson.dumps(document).replace(b'"HERE"', json.dumps(deep, separators=(",", ":")).encode())
    assert accepted(value).value == value
    result = fate(value.replace(b'"store":', b'"store" :'))
    assert isinstance(result, Refused)
    assert result.reason == "malformed-json"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.just("1.0") | JSON,
        "id": st.text(min_size=1, max_size=5) | JSON,
        "source": st.just("/s") | JSON,
        "type": st.sampled_from([*TYPES, "isthmus.unknown"]) | JSON,
        "subject": st.text(min_size=1, max_size=5) | JSON,
        "time": st.just("2026-05-04T08:00:00Z") | st.datetimes().map(lambda at: at.isoformat() + "Z") | JSON,
        "dataschema": st.sampled_from([f"urn:isthmus:{name}:{n}" for name in TYPES for n in (1, 2)]) | JSON,
        "data": JSON | st.sampled_from([schema(name, 1)["examples"][0] for name in TYPES]),
        "extra": JSON,
    },
)


def one_fate(value: bytes, key: bytes | None, headers: Headers | None) -> None:
    result = fate(value, key, headers)
    if isinstance(result, Routed):
        assert result.topic == TYPES[result.type].topic
        assert result.key
        again = fate(result.value, result.key, headers)
        assert isinstance(again, Routed), "what was routed can be routed"
        assert (again.topic, again.key) == (result.topic, result.key)
    else:
        assert result.reason in REASONS
        assert result.detail


@given(st.binary(max_size=300), st.none() | st.binary(max_size=9), st.none() | st.just([("a", None), ("b", b"x")]))
def test_any_bytes_have_exactly_one_fate(value: bytes, key: bytes | None, headers: Headers | None) -> None:
    one_fate(value, key, headers)


@given(JSON | ATTRIBUTES)
def test_any_json_has_exactly_one_fate(document: Any) -> None:
    one_fate(json.dumps(document).encode(), b"k", None)


@given(st.sampled_from(sorted(TYPES)), st.data())
def test_any_damage_to_an_event_has_exactly_one_fate(name: str, data: st.DataObject) -> None:
    value = encode(name, schema(name, 1)["examples"][0], subject="s", source="/test", time=NOW)
    at = data.draw(st.integers(0, len(value)))
    end = data.draw(st.integers(at, min(len(value), at + 30)))
    one_fate(value[:at] + data.draw(st.binary(max_size=8)) + value[end:], b"k", None)


def pairs_are_unique(text: bytes) -> bool:
    unique = True

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal unique
        unique &= len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return unique


SPACE = st.sampled_from(["", "", " ", "\n", "\t", "\r"])
TEXT_PART = st.sampled_from(["a", "b", '\\"', ":", '\\":', " :", "\\\\", "\\u0061", "{"])
STRING = st.lists(TEXT_PART, max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
OBJECT = st.recursive(
    STRING | st.sampled_from(["1", "null"]),
    lambda inner: (
        st.lists(st.tuples(SPACE, STRING, SPACE, SPACE, inner), max_size=4).map(
            lambda fields: "{" + ",".join(f"{a}{name}{b}:{c}{value}" for a, name, b, c, value in fields) + "}"
        )
        | st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
    ),
    max_leaves=10,
)


@given(OBJECT)
def test_no_text_that_names_a_key_twice_passes_as_unambiguous(text: str) -> None:
    value = ('{"data":' + text + "}").encode()
    if not is_ambiguous(value, orjson.loads(value)):
        assert pairs_are_unique(value)
