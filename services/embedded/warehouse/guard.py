"""What may not run here, and why: every statement passes :meth:`Guard.check` before the engine sees it.

The engine's own grants (``config.py``) refuse table functions that read files and addresses. They do not cover what is
refused here: scalar ``file()`` reads any file of this machine, ``eval()`` runs a string as SQL, and some engines leave
a directory that chDB cannot open again. A check on text would be fooled by escapes in a quoted name, so it reads the
statement as the engine's own formatter prints it.
"""

from __future__ import annotations

import re

from services.embedded.warehouse.connection import Connection
from services.embedded.warehouse.errors import (
    ACCESS_DENIED,
    INTO_OUTFILE_NOT_ALLOWED,
    NOT_IMPLEMENTED,
    READONLY,
    SYNTAX_ERROR,
    UNKNOWN_TYPE_OF_QUERY,
    Fault,
)
from services.embedded.warehouse.statements import first_word, tokens

_FUNCTIONS = frozenset({b"file", b"eval", b"python", b"executable"})
# A name can be written with escapes, so a backslash is suspicious too.
_SUSPICIOUS = re.compile(rb"\b(file|eval|python|executable|input)\b|\\|\b(out|in)file\b", re.I)
_TABLE_ENGINES = frozenset(
    b"MergeTree ReplacingMergeTree SummingMergeTree AggregatingMergeTree CollapsingMergeTree CoalescingMergeTree "
    b"VersionedCollapsingMergeTree GraphiteMergeTree Memory Null Log TinyLog StripeLog Set Join Buffer Merge "
    b"Dictionary GenerateRandom View MaterializedView".split()
)
_DATABASE_ENGINES = frozenset({b"Atomic", b"Memory", b"Ordinary", b"Lazy"})
_DICTIONARY_SOURCES = frozenset({b"CLICKHOUSE", b"NULL"})


class Guard:
    """Judges statements; it has a connection of its own, and is to be used by one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # The default limit, 256 KiB, would let a long statement pass unread.
        connection.execute("SET max_query_size = 1000000000")

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()

    def check(self, sql: bytes, *, read_only: bool) -> bool:
        """Return whether the statement only reads; raise :class:`Fault` where it may not run.

        ``read_only``: for a user, or a method (GET), that may not change anything.
        """
        text = sql.decode("utf-8", "replace")
        kind, count = self._connection.classify(text)
        if count > 1:
            raise Fault(SYNTAX_ERROR, "Multi-statements are not allowed")
        reads = kind == "READ_ONLY"
        if read_only and count and not reads:
            raise Fault(READONLY, "Cannot execute query in readonly mode")
        self.check_words(sql, strict=read_only)
        # A text that does not parse goes on to the engine, whose message says where.
        return reads and count == 1

    def check_words(self, sql: bytes, *, strict: bool) -> None:
        """Refuse forbidden functions, engines and sources; ``strict`` refuses also what only looks like such a call."""
        creates = first_word(sql) in (b"CREATE", b"ATTACH", b"REPLACE")
        if not creates and not _SUSPICIOUS.search(sql):
            return
        words = [token for token, _, _ in tokens(self._connection.canonical(sql))]
        _refuse_functions(words, strict=strict)
        if creates:
            _refuse_engines(words)


def _refuse_functions(words: list[bytes], *, strict: bool) -> None:
    for at, word in enumerate(words):
        if word == b"OUTFILE" and words[at - 1] == b"INTO":
            raise Fault(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        if word == b"INFILE" and words[at - 1] == b"FROM":
            raise Fault(UNKNOWN_TYPE_OF_QUERY, "FROM INFILE is not allowed: send the data with the statement")
        if word == b"input" and words[0] == b"INSERT" and words[at + 1 : at + 2] == [b"("]:
            # chDB would insert nothing, and report success.
            raise Fault(NOT_IMPLEMENTED, "input() is not available in the embedded warehouse: send an external table")
        name = word.strip(b'`"')
        if name not in _FUNCTIONS:
            continue
        before = words[max(at - 2, 0) : at]
        # A function is called, or handed to another one: `* APPLY file`, `arrayMap(file, …)`.
        called = words[at + 1 : at + 2] == [b"("]
        handed = b"APPLY" in before or (before[-1:] == [b"("] and before[0].lower().startswith((b"array", b"map")))
        if strict or called or handed:
            raise Fault(ACCESS_DENIED, f"{name.decode()} is not available in the embedded warehouse")


def _refuse_engines(words: list[bytes]) -> None:
    kind = next((word for word in words if word in (b"DATABASE", b"DICTIONARY", b"TABLE", b"VIEW")), b"")
    for at, word in enumerate(words):
        after = [other.strip(b'`"') for other in words[at + 1 : at + 3]]
        if word == b"ENGINE" and after[:1] == [b"="] and len(after) > 1:
            allowed = _DATABASE_ENGINES if kind == b"DATABASE" else _TABLE_ENGINES
            if after[1] not in allowed:
                name = after[1].decode("utf-8", "replace")
                raise Fault(NOT_IMPLEMENTED, f"Engine {name} is not available in the embedded warehouse")
        elif word == b"SOURCE" and kind == b"DICTIONARY" and after[:1] == [b"("]:
            if after[1].upper() not in _DICTIONARY_SOURCES:
                raise Fault(ACCESS_DENIED, "A dictionary of the embedded warehouse can read only its own tables")
        elif word == b"FROM" and words[0] == b"ATTACH" and after and after[0].startswith(b"'"):
            raise Fault(ACCESS_DENIED, "ATTACH FROM a path is not available in the embedded warehouse")
