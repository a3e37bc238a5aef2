"""Dead letters: whatever came in can be read back from what was written, to the byte."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.router.dead_letter import PART_BYTES, Source, dead_letters, original
from services.router.routing import Refused

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
REFUSED = Refused("invalid-data", "/data/attempt: the value is less than 1", "urn:isthmus:x:1#/a", "/data/attempt")
NAMES = st.sampled_from(["a", "traceparent", "isthmus-reason", "isthmus-packed"])
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=20)), max_size=4)


@given(
    st.none() | st.binary(max_size=60),
    st.none() | st.binary(max_size=200),
    HEADERS,
    st.sampled_from([7, 40, PART_BYTES]),
)
def test_the_record_comes_back_as_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], part_bytes: int
) -> None:
    letters = list(dead_letters(Source("isthmus.ingress", 2, 41, key, value, headers), REFUSED, NOW, part_bytes))
    assert original(letters) == (key, value, headers)
    assert all(len(letter.value or b"") <= part_bytes for letter in letters)
    assert len(letters) == 1 or [dict(letter.headers)["isthmus-part"] for letter in letters] == [
        f"{number}/{len(letters)}".encode() for number in range(1, len(letters) + 1)
    ]


def test_the_headers_say_why_and_where_from() -> None:
    source = Source("isthmus.ingress", 2, 41, b"k", b"{", [("isthmus-reason", b"an older one")])
    (letter,) = dead_letters(source, REFUSED, NOW)
    assert (letter.key, letter.value) == (b"k", b"{")
    assert letter.headers[0] == ("isthmus-reason", b"an older one")
    assert dict(letter.headers) == {
        "isthmus-reason": b"invalid-data",
        "isthmus-detail": b"/data/attempt: the value is less than 1",
        "isthmus-schema-path": b"urn:isthmus:x:1#/a",
        "isthmus-instance-path": b"/data/attempt",
        "isthmus-source-topic": b"isthmus.ingress",
        "isthmus-source-partition": b"2",
        "isthmus-source-offset": b"41",
        "isthmus-refused-at": b"2026-05-04T08:00:00.000+00:00",
    }
