"""The codec of Kafka's wire format, compiled from message schemas written as text.

What belongs here: primitive types, structures, versions, the compact ("flexible") encodings. What does not: any
particular message (``messages``).

A schema has one field a line, ``name type [versions] [=default]``; deeper lines belong to the array above them.
Types: bool int8 int16 int32 int64 string bytes uuid, ``[]type`` for an array of primitives and ``[]`` for an array of
structures; a leading ``?`` allows null. Versions are ``3+`` or ``2-4``; a field outside its versions is not on the
wire and reads as its default. A message is a plain dictionary; what it lacks is written as its default.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

Message = dict[str, Any]
Reader = Callable[[memoryview, int], tuple[Any, int]]
Writer = Callable[[list[bytes], Any], None]

FIXED = {"bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q"}
ZEROES: dict[str, Any] = {"bool": False, "string": "", "bytes": b"", "uuid": bytes(16)}


class Malformed(ValueError):
    """The bytes are not a message of this schema."""


@dataclass
class Field:
    """One line of a schema."""

    name: str
    type: str
    first: int = 0
    last: int = 1 << 15
    default: Any = None
    fields: list[Field] = field(default_factory=list)

    @property
    def nullable(self) -> bool:
        """Whether null is a value of this field."""
        return self.type.startswith("?")

    def missing(self) -> Any:
        """Return the value of a field that is not there."""
        if self.default is not None or self.nullable:
            return self.default
        return [] if "[]" in self.type else ZEROES.get(self.type, 0)


def parse(text: str) -> list[Field]:
    """Parse a schema; the deeper indentation of a line puts it into the array above it."""
    top: list[Field] = []
    stack: list[tuple[int, list[Field]]] = [(-1, top)]
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        name, kind, *rest = line.split()
        new = Field(name, kind)
        for word in rest:
            if word.startswith("="):
                new.default = word[1:] if kind.endswith("string") else int(word[1:])
            elif word.endswith("+"):
                new.first = int(word[:-1])
            else:
                new.first, new.last = map(int, word.split("-"))
        while indent <= stack[-1][0]:
            stack.pop()
        stack[-1][1].append(new)
        stack.append((indent, new.fields))
    return top


def unpack_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned variable-length integer."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 35:
            raise Malformed("a variable-length integer does not end")


def pack_varint(value: int) -> bytes:
    """Write an unsigned variable-length integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _length(width: str, flexible: bool) -> tuple[Reader, Callable[[int], bytes]]:
    """Return reader and writer of a length: -1 is null; compact lengths are stored plus one."""
    if flexible:

        def read_compact(data: memoryview, at: int) -> tuple[int, int]:
            value, at = unpack_varint(data, at)
            return value - 1, at

        return read_compact, lambda size: pack_varint(size + 1)
    packer = struct.Struct(">" + width)
    return lambda data, at: (packer.unpack_from(data, at)[0], at + packer.size), packer.pack


def _blob(kind: str, nullable: bool, flexible: bool) -> tuple[Reader, Writer]:
    """Return the codec of a string or of bytes; bytes are read as a view of the request, not copied."""
    is_text = kind == "string"
    read_length, pack_length = _length("h" if is_text else "i", flexible)

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        size, at = read_length(data, at)
        if size < 0:
            if size != -1 or not nullable:
                raise Malformed("a null where none may stand")
            return None, at
        end = at + size
        if end > len(data):
            raise Malformed("a value runs past the end of the message")
        return (str(data[at:end], "utf-8") if is_text else data[at:end]), end

    def write(out: list[bytes], value: Any) -> None:
        if value is None:
            out.append(pack_length(-1))
            return
        raw = value.encode() if is_text else value
        out.append(pack_length(len(raw)))
        out.append(raw)

    return read, write


def _array(element: tuple[Reader, Writer], nullable: bool, flexible: bool) -> tuple[Reader, Writer]:
    read_length, pack_length = _length("i", flexible)
    read_one, write_one = element

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        size, at = read_length(data, at)
        if size < 0:
            # Old clients send a null array where the schema knows none: it means an empty one.
            return (None if nullable else []), at
        if size > len(data) - at:
            raise Malformed("an array has more elements than the message has bytes")
        values = []
        for _ in range(size):
            value, at = read_one(data, at)
            values.append(value)
        return values, at

    def write(out: list[bytes], values: Any) -> None:
        if values is None:
            out.append(pack_length(-1))
            return
        out.append(pack_length(len(values)))
        for value in values:
            write_one(out, value)

    return read, write


def _plain(kind: str) -> tuple[Reader, Writer]:
    packer = struct.Struct(">" + FIXED[kind])
    return (
        lambda data, at: (packer.unpack_from(data, at)[0], at + packer.size),
        lambda out, value: out.append(packer.pack(value)),
    )


def _uuid() -> tuple[Reader, Writer]:
    def read(data: memoryview, at: int) -> tuple[bytes, int]:
        if at + 16 > len(data):
            raise Malformed("a value runs past the end of the message")
        return bytes(data[at : at + 16]), at + 16

    return read, lambda out, value: out.append(value)


def _codec(item: Field, version: int, flexible: bool) -> tuple[Reader, Writer]:
    kind = item.type.lstrip("?")
    if kind.startswith("[]"):
        inner = Field(item.name, kind[2:])
        element = _codec(inner, version, flexible) if inner.type else compile_schema(item.fields, version, flexible)
        return _array(element, item.nullable, flexible)
    if kind in ("string", "bytes"):
        return _blob(kind, item.nullable, flexible)
    return _uuid() if kind == "uuid" else _plain(kind)


def _run(items: list[Field]) -> tuple[Callable[[memoryview, int, Message], int], Writer]:
    """Return the codec of neighbouring fields of fixed size: one ``struct`` call for all of them."""
    packer = struct.Struct(">" + "".join(FIXED[item.type] for item in items))
    names = [item.name for item in items]
    defaults = [(item.name, item.missing()) for item in items]

    def read(data: memoryview, at: int, into: Message) -> int:
        into.update(zip(names, packer.unpack_from(data, at), strict=True))
        return at + packer.size

    def write(out: list[bytes], value: Message) -> None:
        out.append(packer.pack(*[value.get(name, default) for name, default in defaults]))

    return read, write


def _single(item: Field, version: int, flexible: bool) -> tuple[Callable[[memoryview, int, Message], int], Writer]:
    read_value, write_value = _codec(item, version, flexible)
    name, default = item.name, item.missing()

    def read(data: memoryview, at: int, into: Message) -> int:
        into[name], at = read_value(data, at)
        return at

    return read, lambda out, value: write_value(out, value.get(name, default))


def compile_schema(fields: list[Field], version: int, flexible: bool) -> tuple[Reader, Writer]:
    """Return reader and writer of a structure at one version.

    The reader takes the message and a position and returns the value and the next position; it raises
    :class:`Malformed`, ``struct.error``, ``IndexError`` or ``UnicodeDecodeError`` on bytes that do not fit.
    """
    present = [item for item in fields if item.first <= version <= item.last]
    absent = {item.name: item.missing() for item in fields if item not in present}
    steps = []
    for fixed, group in groupby(present, lambda item: item.type in FIXED):
        items = list(group)
        steps += [_run(items)] if fixed else [_single(item, version, flexible) for item in items]
    readers, writers = [step[0] for step in steps], [step[1] for step in steps]

    def read(data: memoryview, at: int) -> tuple[Message, int]:
        value = dict(absent)
        for reader in readers:
            at = reader(data, at, value)
        return value, (skip_tags(data, at) if flexible else at)

    def write(out: list[bytes], value: Message) -> None:
        for writer in writers:
            writer(out, value)
        if flexible:
            out.append(b"\0")

    return read, write


def skip_tags(data: memoryview, at: int) -> int:
    """Return the position behind a structure's tagged fields; this broker needs none of them."""
    count, at = unpack_varint(data, at)
    for _ in range(count):
        _, at = unpack_varint(data, at)
        size, at = unpack_varint(data, at)
        at += size
        if at > len(data):
            raise Malformed("a tagged field runs past the end of the message")
    return at
