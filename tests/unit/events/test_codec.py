"""The codec: what goes in comes out, and keys keep rows apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import Event, MalformedEvent, decode, encode, key_of, record_key, strip_framing

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(
    subject=NAMES,
    id=NAMES,
    time=st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
    data=st.dictionaries(NAMES, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NAMES),
)
def test_decode_reads_what_encode_wrote(subject: str, id: str, time: datetime, data: dict[str, object]) -> None:
    value = encode("isthmus.saga.step", data, subject=subject, source="/test", id=id, time=time, extensions={"x": 1})
    event = decode(value)
    assert event == Event(id, "/test", "isthmus.saga.step", subject, time.astimezone(UTC), data, 1, None, {"x": 1})
    assert key_of(event) == subject.encode()


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    local = datetime(2026, 5, 4, 10, tzinfo=timezone(timedelta(hours=2)))
    value = encode("isthmus.saga.completed", {"saga_type": "order"}, subject="s", source="/test", time=local)
    assert orjson.loads(value)["time"] == "2026-05-04T08:00:00.000000Z"


def test_encode_refuses_what_cannot_become_an_event() -> None:
    with pytest.raises(ValueError, match="time zone"):
        encode("isthmus.saga.step", {}, subject="s", source="/t", time=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="needs a subject"):
        encode("isthmus.saga.step", {}, source="/t")
    with pytest.raises(ValueError, match="unknown event type"):
        encode("isthmus.saga.stop", {}, subject="s", source="/t")


def test_the_subject_of_a_change_is_its_row() -> None:
    change = {"store": "shop", "table": "public.orders", "primary_key": ["a/b", 7, True]}
    event = decode(encode("isthmus.data.change", change, source="/cdc"))
    assert event.subject == "shop/public.orders/a%2Fb/7/true"
    assert key_of(event) == event.subject.encode()


PARTS = st.lists(st.text(max_size=4) | st.integers(-99, 99), min_size=1, max_size=3)


@given(first=PARTS, second=PARTS)
def test_two_rows_never_share_a_key_by_their_separators(first: list[object], second: list[object]) -> None:
    def key(values: list[object]) -> bytes:
        return record_key("row", "", {"store": "s", "table": "t", "primary_key": values})

    assert (key(first) == key(second)) == (list(map(str, first)) == list(map(str, second)))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "a JSON array where an object was expected"),
        (b"3", "a JSON number where"),
        (b"{}", "'id' is missing"),
        (b'{"id":1}', "a string was expected"),
    ],
)
def test_what_is_no_event_is_malformed(value: bytes, says: str) -> None:
    with pytest.raises(MalformedEvent, match=says):
        decode(value)


@given(st.binary())
def test_decode_raises_nothing_else(value: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(value)


def test_confluents_framing_is_stripped() -> None:
    value = encode("isthmus.saga.completed", {"saga_type": "order"}, subject="s", source="/test")
    assert strip_framing(b"\x00\x00\x00\x00\x07" + value) == value == strip_framing(value)
    assert decode(b"\x00\x00\x00\x00\x07" + value) == decode(value)
