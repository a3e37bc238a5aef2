"""Running one request against the engine: the blocking half of the server, called from a worker thread."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.embedded.warehouse.engine import Engine, Session, execute
from services.embedded.warehouse.errors import READONLY, EngineFault, Fault
from services.embedded.warehouse.request import Request
from services.embedded.warehouse.statements import first_word, output_format, split_insert

_CHUNK = 1 << 20
# Formats whose chunks may be strung together; all others repeat a header in each chunk, so they are built whole.
_STREAMED = frozenset(
    [
        "Native",
        "TabSeparated",
        "TSV",
        "CSV",
        "RowBinary",
        "JSONEachRow",
        "JSONCompactEachRow",
        "TabSeparatedRaw",
        "TSVRaw",
        "LineAsString",
    ]
)
_GO_HELLO = b"SELECT displayName(), version(), revision(), timezone()"


@dataclass
class Answer:
    """What a statement gave: ``chunks`` is pulled from worker threads and must be closed by :meth:`close`."""

    headers: dict[str, str]
    body: bytes = b""
    chunks: Iterator[bytes] | None = None
    close: Callable[[], None] = field(default=lambda: None)


def run(engine: Engine, request: Request) -> Answer:
    """Run the request's statement; raise :class:`Fault`. Nothing stays open unless the answer has chunks."""
    started = time.perf_counter_ns()
    head = {
        "X-ClickHouse-Query-Id": request.query_id,
        "X-ClickHouse-Timezone": engine.timezone,
        "X-ClickHouse-Server-Display-Name": "isthmus",
    }
    sql, insert, data = _statement(request)
    if not sql.strip():
        return Answer(head, b"Ok.\n")
    if sql.strip() == _GO_HELLO and int(request.parameters.get("client_protocol_version") or 0) > 54400:
        return Answer({**head, "X-ClickHouse-Format": "Native"}, _go_hello(engine))
    timeout = min(float(request.parameters.get("session_timeout") or 60), 3600.0)
    must_exist = request.parameters.get("session_check") == "1"
    connection, session = engine.acquire(
        request.user.name, request.parameters.get("session_id"), timeout=timeout, must_exist=must_exist
    )
    work = _Work(engine, connection, session, request, started)
    try:
        work.prepare(writes=insert is not None)
        if insert is not None:
            answer = work.insert(insert.statement, insert.format, data)
        else:
            answer = work.select(sql)
    except BaseException:
        work.release()
        raise
    answer.headers = {**head, **answer.headers}
    if answer.chunks is None:
        work.release()
    return answer


def _statement(request: Request) -> tuple[bytes, Any, bytes]:
    """Return (statement, insert or None, first data): the statement begins in the address, or else in the body."""
    body = request.body
    sql = request.query
    if sql.strip():
        insert = split_insert(sql)
        if insert is None and body is not None:
            rest = body.read()
            sql = sql + b"\n" + rest if rest else sql
    else:
        sql = body.read(_CHUNK) if body is not None else b""
        insert = split_insert(sql)
        if insert is None and body is not None:
            sql += body.read()
    return sql, insert, sql[insert.data_at :] if insert else b""


class _Work:
    """One statement on one connection."""

    def __init__(
        self, engine: Engine, connection: Any, session: Session | None, request: Request, started: int
    ) -> None:
        self._engine, self._connection, self._session = engine, connection, session
        self._request, self._started = request, started

    def release(self) -> None:
        self._engine.release(self._connection, self._session)

    def prepare(self, *, writes: bool) -> None:
        request = self._request
        settings = request.settings()
        request.kill_mark = settings.setdefault("log_comment", request.kill_mark)
        if request.user.read_only or (request.method == "GET" and not writes):
            settings["readonly"] = "2"
        self._engine.prepare(self._connection, self._session, request.database, settings)
        for name, table in request.external.items():
            execute(self._connection, f"CREATE TEMPORARY TABLE `{name}` ({table.structure})")
            self._send(f"INSERT INTO `{name}`", table.format, iter([table.data]))

    def insert(self, statement: bytes, layout: str | None, data: bytes) -> Answer:
        if self._request.user.read_only:
            raise Fault(READONLY, "Cannot execute query in readonly mode")
        layout = layout or self._request.default_format or "Values"
        done = self._send(statement.decode("utf-8", "surrogateescape"), layout, self._data(data))
        return Answer({"X-ClickHouse-Summary": self._summary(written=(done.rows_written, done.bytes_written))})

    def _data(self, head: bytes) -> Iterator[bytes]:
        if head:
            yield head
        body = self._request.body
        while body is not None and (chunk := body.read(_CHUNK)):
            yield chunk

    def _send(self, statement: str, layout: str, chunks: Iterator[bytes]) -> Any:
        try:
            inserter = self._connection.send_insert(statement, layout)
            try:
                for chunk in chunks:
                    inserter.append(chunk)
                return inserter.finish()
            except BaseException:
                with contextlib.suppress(RuntimeError):
                    inserter.cancel()
                raise
        except RuntimeError as error:
            raise EngineFault(error) from error

    def select(self, sql: bytes) -> Answer:
        request = self._request
        reads = self._engine.check(sql, read_only=request.user.read_only)
        layout = output_format(sql) or request.default_format or "TabSeparated"
        whole = request.parameters.get("wait_end_of_query", "0") == "1"
        if reads and not whole and layout in _STREAMED and first_word(sql) in (b"SELECT", b"WITH", b"("):
            return self._stream(sql, layout)
        result = execute(self._connection, sql, layout, request.query_parameters)
        body = result.bytes()
        summary = self._summary(
            read=(result.storage_rows_read(), result.storage_bytes_read()),
            written=(result.rows_written(), result.bytes_written()),
            result=(result.rows_read(), len(body)),
        )
        headers = {"X-ClickHouse-Summary": summary}
        if reads or body:
            headers["X-ClickHouse-Format"] = layout
        return Answer(headers, body)

    def _stream(self, sql: bytes, layout: str) -> Answer:
        headers = {"X-ClickHouse-Format": layout}
        try:
            stream = self._connection.send_query(sql, layout, params=self._request.query_parameters)
            first = next(stream, None)
        except RuntimeError as error:
            raise EngineFault(error) from error
        if first is None:
            return Answer({**headers, "X-ClickHouse-Summary": self._summary()})

        def close() -> None:
            with contextlib.suppress(RuntimeError):
                stream.close()
            self.release()

        return Answer(headers, chunks=_chunks(stream, first.bytes()), close=close)

    def _summary(
        self,
        *,
        read: tuple[int, int] = (0, 0),
        written: tuple[int, int] = (0, 0),
        result: tuple[int, int] = (0, 0),
    ) -> str:
        numbers = {
            "read_rows": read[0],
            "read_bytes": read[1],
            "written_rows": written[0],
            "written_bytes": written[1],
            "total_rows_to_read": read[0],
            "result_rows": result[0],
            "result_bytes": result[1],
            "elapsed_ns": time.perf_counter_ns() - self._started,
        }
        return json.dumps({name: str(value) for name, value in numbers.items()})


def _chunks(stream: Any, first: bytes) -> Iterator[bytes]:
    yield first
    while True:
        try:
            chunk = next(stream, None)
        except RuntimeError as error:
            raise EngineFault(error) from error
        if chunk is None:
            return
        yield chunk.bytes()


def _go_hello(engine: Engine) -> bytes:
    """Return the answer to clickhouse-go's first query, as a Native block of its own protocol revision.

    Revision 0 in it makes the client read all that follows as plain Native without block info, which is what chDB writes.
    """

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    # Block info (two fields and their end), then 4 columns and 1 row; each column has a byte for its serialization.
    block = b"\x01\x00\x02\xff\xff\xff\xff\x00" + b"\x04\x01"
    columns = (
        ("displayName()", "String", text("isthmus")),
        ("version()", "String", text(engine.version)),
        ("revision()", "UInt32", struct.pack("<I", 0)),
        ("timezone()", "String", text(engine.timezone)),
    )
    for name, kind, value in columns:
        block += text(name) + text(kind) + b"\x00" + value
    return block
