"""CloudEvents' HTTP binding: from the body and headers of a request to the bytes of each event.

What belongs here: the three modes (structured, batch, binary) and how an event is cut out of a request, byte for byte.
What does not: whether an event is acceptable (:mod:`events.validation`), and HTTP's other sides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_BINARY_TYPE: Final = re.compile(r"application/([a-z0-9.+-]+\+)?json")
_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
# Integers as floats: they are thrown away, and a long one would take quadratic time.
_JSON: Final = json.JSONDecoder(parse_int=float)


class Malformed(ValueError):
    """The request does not hold events at all; the text holds no value of it."""


class TooMany(ValueError):
    """More events than one request may hold."""


def media_type(content_type: str) -> str:
    """Return the media type without parameters, in lower case; empty where its charset is not UTF-8."""
    kind, *parameters = content_type.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            return ""
    return kind.strip().lower()


def is_binary(media: str, header_names: Iterable[str]) -> bool:
    """Return whether a request is in binary mode: JSON data, and the attributes in headers."""
    return bool(_BINARY_TYPE.fullmatch(media)) and "ce-specversion" in header_names


def from_structured(body: bytes) -> bytes:
    """Return the one event of a body in structured mode."""
    # On a topic a zero byte begins Confluent's framing; over HTTP nothing does.
    if body[:1] == b"\0":
        raise Malformed("not JSON: it begins with a zero byte")
    return body


def from_batch(body: bytes, most: int) -> list[bytes]:
    """Return the events of a body in batch mode, each as it stands there.

    Raises :class:`Malformed` where it is not a JSON array, :class:`TooMany` for more than ``most``.
    """
    events: list[bytes] = []
    try:
        text = body.decode()
        at = _after(text, _skip(text, 0), "[")
        if text[at : at + 1] != "]":
            while True:
                _, end = _JSON.raw_decode(text, at)
                if len(events) == most:
                    raise TooMany
                events.append(text[at:end].encode())
                at = _skip(text, end)
                if text[at : at + 1] == "]":
                    break
                at = _after(text, at, ",")
        if _skip(text, at + 1) != len(text):
            raise Malformed(f"not JSON: something follows the array at character {at + 1}")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Malformed("nested too deeply") from None
    return events


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _after(text: str, at: int, expected: str) -> int:
    if text[at : at + 1] != expected:
        raise Malformed(f"a JSON array was expected: no {expected} at character {at}")
    return _skip(text, at + 1)


def from_binary(headers: Iterable[tuple[str, str]], content_type: str, body: bytes) -> bytes:
    """Return the event of a request in binary mode, in structured form; the data as it stands in the body."""
    attributes: dict[str, str] = {}
    for header, value in headers:
        if not header.startswith("ce-"):
            continue
        name = header.removeprefix("ce-")
        if name in attributes or name in ("data", "datacontenttype") or not _NAME.fullmatch(name):
            raise Malformed("a ce- header stands twice, or names no attribute that may be a header")
        try:
            attributes[name] = unquote_to_bytes(value.strip().strip('"')).decode()
        except UnicodeDecodeError:
            raise Malformed("a ce- header is not UTF-8, percent-encoded") from None
    attributes["datacontenttype"] = content_type
    try:
        orjson.loads(body)  # one value and nothing behind it: what follows is put together as text
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg} at character {error.pos}") from None
    return orjson.dumps(attributes)[:-1] + b',"data":' + body + b"}"
