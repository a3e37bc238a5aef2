"""Mutants: valid events spoilt by seed in every way that a producer, a bug or an attacker may think of.

What belongs here: making them. What does not: what the router does with them (``test_fuzz``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from events.catalogue import MAX_EVENT_BYTES, TYPES
from events.codec import encode
from events.schemas import schema

Headers = list[tuple[str, bytes | None]]

_BROKERS_LIMIT: Final = 4_000_000  # of ingress, less what a batch takes
_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    2**53,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    1e308,
    5e-324,
    -0.0,
    "",
    " ",
    "\x00",
    "\u202e\u0000",
    "𝔘𝔫𝔦" * 50,
    "x" * 5000,
    "2026-02-30T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "0001-01-01T00:00:00+14:00",
    [],
    {},
    [[]],
    {"": {}},
    ["a", 1, None],
)
_LITERALS: Final = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-1e400",
    b"1" + b"0" * 400,
    b"0x10",
    b"01",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b"'a'",
    b"undefined",
    b"//",
)
_NAMES: Final = (
    "traceparent",
    "isthmus-reason",
    "isthmus-part",
    "isthmus-packed",
    "isthmus-replayed",
    "content-type",
    "ce_type",
    "",
    " ",
    "ключ",
    "a" * 300,
    "𝔘",
)


class Mutant(NamedTuple):
    """A record as a producer would send it."""

    value: bytes | None
    key: bytes | None
    headers: Headers


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """Yield ``count`` records; one in ten is a valid event."""
    draw = random.Random(seed)
    now = datetime.now(UTC)
    events = [
        encode(name, example, subject=f"subject-{name}", source="/fuzz", id=str(number), time=now)
        for name, event_type in TYPES.items()
        for version in event_type.versions
        for number, example in enumerate(schema(name, version)["examples"])
    ]
    for _ in range(count):
        value: bytes | None = draw.choice(events)
        if draw.random() > 0.1:
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                value = draw.choice(_MUTATORS)(value or b"", draw, events)
        yield Mutant(value, _key(draw), _headers(draw))


def _key(draw: random.Random) -> bytes | None:
    match draw.randrange(6):
        case 0:
            return None
        case 1:
            return b""
        case 2:
            return draw.randbytes(draw.randrange(1, 40))
        case 3 if draw.random() < 0.001:
            return b"k" * MAX_EVENT_BYTES
    return b"key-%d" % draw.randrange(100)


def _headers(draw: random.Random) -> Headers:
    if draw.random() < 0.7:
        return []
    count = 60 if draw.random() < 0.02 else draw.randrange(1, 5)
    return [
        (draw.choice(_NAMES), None if draw.random() < 0.2 else draw.randbytes(draw.randrange(40))) for _ in range(count)
    ]


# Mutators of bytes


def _flip(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    spoilt = bytearray(value or b"x")
    for _ in range(draw.randrange(1, 9)):
        spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
    return bytes(spoilt)


def _truncate(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    return value[: draw.randrange(len(value) + 1)]


def _insert(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + draw.randbytes(draw.randrange(1, 12)) + value[at:]


def _splice(value: bytes, draw: random.Random, events: list[bytes]) -> bytes:
    other = draw.choice(events)
    return value[: draw.randrange(len(value) + 1)] + other[draw.randrange(len(other)) :]


def _repeat(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    first = draw.randrange(len(value) + 1)
    return value[:first] + value[first : first + draw.randrange(1, 60)] * 2 + value[first:]


def _framed(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    head = draw.choice((b"\0\0\0\0\1", b"\0", b"\0\0", b"\1\0\0\0\1", b"\0\0\0\0\1" * 2, b"\xef\xbb\xbf", b"\x1f\x8b"))
    return head + value


def _recoded(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    return value.decode(errors="replace").encode(draw.choice(("utf-16", "utf-32", "utf-7")))


def _literal(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    """Put a literal that JSON does not know, or that no reader agrees on, in the place of some value."""
    colons = [at for at in range(len(value)) if value[at : at + 1] == b":"]
    if not colons:
        return draw.choice(_LITERALS)
    at = draw.choice(colons) + 1
    ends = [end for end in (value.find(b",", at), value.find(b"}", at)) if end > 0]
    return value[:at] + draw.choice(_LITERALS) + (value[min(ends) :] if ends else b"")


def _twice(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    """Name a key twice in the outer object."""
    name = draw.choice((b'"id"', b'"type"', b'"data"', b'"time"', b'"subject"', b'"\\u0069d"'))
    return value[:-1] + b"," + name + draw.choice((b":", b" :", b"\t: ")) + draw.choice((b'"1"', b"{}", b"7")) + b"}"


def _deep(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    levels = draw.choice((10, 200, 254, 255, 1000, 1024, 1025, 5000))
    opened, closed = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return value[:-1] + b',"deep":' + opened * levels + b"1" + closed * levels + b"}"


def _nothing(_value: bytes, draw: random.Random, _events: list[bytes]) -> bytes | None:
    return draw.choice((None, b"", b" ", b"{}", b"[]", b"null", b"0", b'""', b"\0" * 5, b"{" * 2000))


def _large(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
    # Seldom, or a million of them would be a terabyte.
    if draw.random() > 0.004:
        return value + b" " * draw.randrange(200)
    size = draw.choice(
        (MAX_EVENT_BYTES - len(value), MAX_EVENT_BYTES, MAX_EVENT_BYTES + 1, _BROKERS_LIMIT - len(value))
    )
    return value + b" " * max(0, size - 2000)


# Mutators of structure


def _structural(change: Callable[[Any, Any, random.Random], None]) -> Callable[..., bytes]:
    """Return a mutator that applies ``change(node, name, draw)`` to a random place of the parsed event."""

    def mutate(value: bytes, draw: random.Random, _events: list[bytes]) -> bytes:
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        node, name = _place(document, draw)
        if node is None:
            return value
        change(node, name, draw)
        try:
            return orjson.dumps(document)
        except orjson.JSONEncodeError:
            return value

    return mutate


def _place(document: Any, draw: random.Random) -> tuple[Any, Any]:
    node, name = None, None
    child = document
    if isinstance(document, dict) and isinstance(document.get("data"), dict) and draw.random() < 0.5:
        child = document["data"]
    while isinstance(child, dict | list) and child:
        node = child
        name = draw.choice(list(child)) if isinstance(child, dict) else draw.randrange(len(child))
        child = node[name]
        if draw.random() < 0.4:
            break
    return node, name


def _delete(node: Any, name: Any, _draw: random.Random) -> None:
    del node[name]


def _replace(node: Any, name: Any, draw: random.Random) -> None:
    node[name] = draw.choice(_VALUES)


def _wrap(node: Any, name: Any, draw: random.Random) -> None:
    node[name] = draw.choice(([node[name]], {"value": node[name]}, "wrapped", [node[name]] * 300))


def _add(node: Any, name: Any, draw: random.Random) -> None:
    if isinstance(node, dict):
        node[draw.choice(("extra", "", "Type", "__proto__", "$ref", "x" * 200, "ü"))] = draw.choice(_VALUES)
    else:
        node.append(node[name])


def _rename(node: Any, name: Any, draw: random.Random) -> None:
    if isinstance(node, dict):
        node[draw.choice((str(name).upper(), str(name) + " ", "data", "type"))] = node.pop(name)


_MUTATORS: Final[tuple[Callable[[bytes, random.Random, list[bytes]], bytes | None], ...]] = (
    _flip,
    _flip,
    _truncate,
    _insert,
    _splice,
    _repeat,
    _framed,
    _recoded,
    _literal,
    _literal,
    _twice,
    _deep,
    _nothing,
    _large,
    _structural(_delete),
    _structural(_replace),
    _structural(_replace),
    _structural(_replace),
    _structural(_wrap),
    _structural(_add),
    _structural(_rename),
)
