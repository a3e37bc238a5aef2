"""A chDB connection as this server needs it: bytes in, bytes out, and the engine's failures as :class:`EngineFault`.

It uses chDB's inner handle: the outer one hides ``classify_query``, and drops the last chunk of a stream, which holds
the header of an empty result.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import chdb

from services.embedded.warehouse.errors import UNKNOWN_FORMAT, EngineFault, Fault

_FORMAT = re.compile(r"\w+")


def literal(value: str) -> str:
    """Return ``value`` as an SQL string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def name_literal(value: str) -> str:
    """Return ``value`` as an SQL name."""
    return "`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Connection:
    """One connection; serial. It keeps ``USE``, ``SET`` and temporary tables until it is closed."""

    def __init__(self, address: str) -> None:
        self._outer = chdb.connect(address)
        self._inner: Any = self._outer._conn  # noqa: SLF001 - see the module's docstring

    def execute(self, sql: str | bytes, output: str = "TabSeparated", params: Mapping[str, str] | None = None) -> Any:
        """Run one statement and return chDB's result."""
        try:
            result = self._inner.query(sql, output, params=dict(params or {}))
        except RuntimeError as error:
            raise EngineFault(error) from error
        if result.has_error():
            raise EngineFault(RuntimeError(result.error_message()))
        return result

    def rows(self, sql: str) -> list[list[str]]:
        """Return a small result as text."""
        text = self.execute(sql, "TabSeparated").bytes().decode("utf-8", "replace")
        return [line.split("\t") for line in text.splitlines()]

    def insert(self, statement: bytes, settings: bytes, layout: str, file: str) -> tuple[int, int]:
        """Insert a file's rows, of format ``layout``; return (rows, bytes) written, views included.

        By INFILE, although chDB has a streaming insert (``send_insert``): that one reports success when the write
        fails (a full disk, a constraint, a materialized view), and the rows are gone.
        """
        if not _FORMAT.fullmatch(layout):
            raise Fault(UNKNOWN_FORMAT, f"Unknown format {layout}")
        source = f" FROM INFILE {literal(file)} COMPRESSION 'none' ".encode()
        done = self.execute(statement + source + settings + f" FORMAT {layout}".encode())
        return int(done.rows_written()), int(done.bytes_written())

    def stream(self, sql: bytes, output: str, params: Mapping[str, str]) -> Iterator[bytes]:
        """Run a query and yield its result block by block, each formatted by itself; closing cancels the query."""
        try:
            handle = self._inner.send_query(sql, output, params=dict(params))
        except RuntimeError as error:
            raise EngineFault(error) from error
        finished = False
        try:
            while True:
                try:
                    block = self._inner.streaming_fetch_result(handle)
                except RuntimeError as error:
                    finished = True
                    raise EngineFault(error) from error
                data: bytes = block.bytes()
                if block.rows_read() == 0:
                    finished = True
                    if data:
                        yield data
                    return
                yield data
        finally:
            if not finished:
                with contextlib.suppress(RuntimeError):
                    self._inner.streaming_cancel_query(handle)

    def classify(self, sql: str) -> tuple[str, int]:
        """Return (class, number of statements) as chDB's parser sees them; 0 statements: it does not parse."""
        found = self._inner.classify_query(sql)
        return str(found["query_class"].name), int(found["statement_count"])

    def canonical(self, sql: bytes) -> bytes:
        """Return the statement as the engine prints it: escapes resolved, comments gone, keywords in upper case."""
        text = sql.decode("utf-8", "replace").rstrip().rstrip(";")
        # A parameter's value is written as in TabSeparated.
        for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0")):
            text = text.replace(plain, escaped)
        found = self.execute("SELECT formatQuerySingleLine({s:String})", "TSVRaw", {"s": text})
        return bytes(found.bytes())

    def close(self) -> None:
        """Close it; a query that streams is cancelled."""
        self._outer.close()
