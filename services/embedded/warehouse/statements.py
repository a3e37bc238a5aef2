"""Just enough of ClickHouse's grammar to route a statement: where an INSERT ends and its data begin, which format it
asks for, which words it holds.

The engine parses SQL; this module only finds borders. It works on bytes, because data after an INSERT need not be text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""\s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?(?:\*/|\Z)
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | '(?:[^'\\]|\\.)*'? | `(?:[^`\\]|\\.)*`? | "(?:[^"\\]|\\.)*"?
    | \xe2\x80\x98.*?\xe2\x80\x99 | \xe2\x80\x9c.*?\xe2\x80\x9d
    | [A-Za-z_][A-Za-z0-9_]* | [0-9]+ | .""",
    re.S | re.X,
)
_TAIL_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^;]*)?(?:;\s*)?$", re.I)
_QUERY_ID = re.compile(rb"`?query_id`?", re.I)
# Beyond this a statement is not read a second time to tell a FORMAT clause from the same word in a comment.
_LEX_LIMIT = 256 << 10


@dataclass(frozen=True)
class Insert:
    """An INSERT that carries its rows as bytes, which begin at ``data_at``.

    ``statement`` ends before SETTINGS, FORMAT and VALUES; ``settings`` is its SETTINGS clause, empty for none.
    """

    statement: bytes
    settings: bytes
    format: str | None
    data_at: int


def tokens(sql: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield (token, start, end) without white space and comments; a quoted name or string is one token."""
    for found in _TOKEN.finditer(sql, start):
        token = found.group()
        if not (token[:1].isspace() or token[:2] in (b"--", b"/*", b"# ", b"#!")):
            yield token, found.start(), found.end()


def first_word(sql: bytes) -> bytes:
    """Return the statement's first word in upper case, empty for none."""
    return next(tokens(sql), (b"", 0, 0))[0].upper()


def split_insert(sql: bytes) -> Insert | None:
    """Return where the data of an INSERT begin, or None where the statement is none or reads its rows by SELECT.

    The words that end the head (VALUES, FORMAT) count outside brackets only, and not where a table's name stands.
    """
    stream = tokens(sql)
    if next(stream, (b"", 0, 0))[0].upper() != b"INSERT":
        return None
    depth, previous, settings_at = 0, b"INSERT", 0
    for token, start, end in stream:
        word = token.upper()
        is_name = previous in (b"INSERT", b"INTO", b"TABLE", b".") and word not in (b"INTO", b"TABLE", b"FUNCTION")
        if token in (b"(", b"[", b"{"):
            depth += 1
        elif token in (b")", b"]", b"}"):
            depth -= 1
        elif word in (b"SELECT", b"WITH") and not is_name and (depth == 0 or previous == b"("):
            return None
        elif depth == 0 and not is_name:
            if word in (b"INFILE", b"WATCH", b"FROM"):
                return None
            if word == b"SETTINGS":
                settings_at = start
            elif word == b"VALUES":
                return Insert(*_halves(sql, settings_at, start), "Values", end)
            elif word == b"FORMAT":
                return _after_format(sql, settings_at, start, end)
        previous = b"NAME" if is_name else word
    end = len(sql.rstrip().rstrip(b";"))
    return Insert(*_halves(sql, settings_at, end), None, len(sql))


def _halves(sql: bytes, settings_at: int, end: int) -> tuple[bytes, bytes]:
    return (sql[:settings_at], sql[settings_at:end]) if settings_at else (sql[:end], b"")


def _after_format(sql: bytes, settings_at: int, clause_at: int, end: int) -> Insert | None:
    name = next(tokens(sql, end), None)
    if name is None:
        return None
    # As in the server: blanks up to and including one line break separate the format's name from the data.
    at = name[2]
    while sql[at : at + 1] in (b" ", b"\t", b"\r"):
        at += 1
    if sql[at : at + 1] == b"\n":
        at += 1
    return Insert(*_halves(sql, settings_at, clause_at), name[0].decode("utf-8", "replace"), at)


def output_format(sql: bytes) -> str | None:
    """Return the format that a statement's own FORMAT clause names."""
    offset = max(len(sql) - 4096, 0)
    found = _TAIL_FORMAT.search(sql[offset:])
    if found is None:
        return None
    at = offset + found.start()
    if len(sql) <= _LEX_LIMIT and not any(start == at for _, start, _ in tokens(sql)):
        return None  # the word stands in a comment or string
    return found.group(1).decode()


def replace_query_id(sql: bytes, expression: bytes) -> bytes:
    """Return a KILL statement with ``expression`` for each ``query_id`` in it; others unchanged."""
    if first_word(sql) != b"KILL":
        return sql
    parts, at = [], 0
    for token, start, end in tokens(sql):
        if _QUERY_ID.fullmatch(token):
            parts += [sql[at:start], expression]
            at = end
    return b"".join([*parts, sql[at:]])


def settings_named(sql: bytes) -> set[str]:
    """Return the names that a SET statement may change (every word that an equals sign follows)."""
    names: set[str] = set()
    previous = b""
    for token, _, _ in tokens(sql):
        if token == b"=":
            names.add(previous.strip(b'`"').decode("utf-8", "replace"))
        previous = token
    return names
