"""One request type of the protocol: its versions and the codecs of its schemas.

What belongs here: :class:`Api`, their registry, the request header. What does not: the schemas (``messages``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache

from services.embedded.broker.wire import Field, Malformed, Message, Reader, Writer, compile_schema, parse, skip_tags

NEVER = 1 << 15


@dataclass
class Api:
    """One request type: its versions, the first flexible one, and both schemas."""

    key: int
    name: str
    first: int
    last: int
    flexible: int
    request: list[Field]
    response: list[Field]
    codecs: dict[tuple[int, bool], tuple[Reader, Writer]] = field(default_factory=dict)

    def _codec(self, version: int, request: bool) -> tuple[Reader, Writer]:
        if (version, request) not in self.codecs:
            fields = self.request if request else self.response
            self.codecs[version, request] = compile_schema(fields, version, version >= self.flexible)
        return self.codecs[version, request]

    def decode(self, data: memoryview, at: int, version: int) -> Message:
        """Return the request body that starts at ``at``; raises :class:`Malformed`."""
        try:
            message: Message = self._codec(version, True)[0](data, at)[0]
        except (struct.error, IndexError, UnicodeDecodeError) as problem:
            raise Malformed(f"{self.name} version {version}: {problem}") from problem
        return message

    def encode(self, message: Message, version: int) -> list[bytes]:
        """Return the response body in parts."""
        out: list[bytes] = []
        self._codec(version, False)[1](out, message)
        return out


APIS: dict[int, Api] = {}


def api(key: int, name: str, versions: tuple[int, int, int], request: str, response: str) -> Api:
    """Register a request type; ``versions`` are the first and the last that we serve and the first flexible one."""
    new = Api(key, name, *versions, parse(request), parse(response))
    APIS[key] = new
    return new


@cache
def _text() -> Reader:
    return compile_schema(parse("client_id ?string"), 0, False)[0]


def decode_header(data: memoryview, at: int, flexible: bool) -> tuple[str, int]:
    """Return the client id behind api, version and correlation id, and where the body starts."""
    try:
        header, at = _text()(data, at)
        return header["client_id"] or "", skip_tags(data, at) if flexible else at
    except (struct.error, IndexError, UnicodeDecodeError) as problem:
        raise Malformed(f"request header: {problem}") from problem
