"""Cutting events out of a request, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.ingest.binding import Malformed, TooMany, from_batch, from_binary, is_binary, media_type

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
BLANKS = st.text(" \t\r\n", max_size=3)


@given(st.lists(VALUES, max_size=6), BLANKS, st.booleans())
def test_each_event_stands_in_a_batch_as_it_was_written(values: list[object], blank: str, escaped: bool) -> None:
    texts = [json.dumps(value, ensure_ascii=escaped, separators=(f"{blank},", f":{blank}")) for value in values]
    try:
        written = [text.encode() for text in texts]
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return
    batch = blank + "[" + blank + f"{blank},{blank}".join(texts) + blank + "]" + blank
    assert from_batch(batch.encode(), 6) == written


@given(st.binary(max_size=40) | st.text('[]{},:"1e- \\u', max_size=20).map(str.encode))
def test_any_bytes_are_events_or_malformed(body: bytes) -> None:
    try:
        events = from_batch(body, 100)
    except Malformed:
        return
    assert isinstance(json.loads(body), list)
    assert len(events) == len(json.loads(body))


def test_a_long_number_costs_no_more_than_its_length() -> None:
    digits = b"9" * 1_000_000
    assert from_batch(b"[" + digits + b"]", 1) == [digits]


def test_one_too_many() -> None:
    assert len(from_batch(b"[1,2]", 2)) == 2
    with pytest.raises(TooMany):
        from_batch(b"[1,2,3]", 2)


def test_data_cannot_reach_out_of_its_place() -> None:
    headers = [("ce-specversion", "1.0"), ("ce-type", "a"), ("host", "x")]
    event = json.loads(from_binary(headers, "application/json", b' {"type": "b"} '))
    assert event == {"specversion": "1.0", "type": "a", "datacontenttype": "application/json", "data": {"type": "b"}}
    for body in (b'{}, "type": "b"', b"{}}", b"", b"{} {}"):
        with pytest.raises(Malformed):
            from_binary(headers, "application/json", body)
    for bad in (("ce-data", "1"), ("ce-type", "again"), ("ce-Ä", "1"), ("ce-x_y", "1"), ("ce-datacontenttype", "x")):
        with pytest.raises(Malformed):
            from_binary([*headers, bad], "application/json", b"{}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Application/CloudEvents+JSON; Charset=UTF-8", "application/cloudevents+json"),
        ('application/json;charset="utf-8"', "application/json"),
        ("application/json; charset=utf-16", ""),
        ("", ""),
    ],
)
def test_the_media_type_without_its_parameters(given: str, expected: str) -> None:
    assert media_type(given) == expected


def test_binary_mode_is_json_with_a_version_in_the_headers() -> None:
    assert is_binary("application/vnd.shop+json", ["ce-specversion"])
    assert not is_binary("application/json", ["ce-id"])
    assert not is_binary("text/plain", ["ce-specversion"])
