"""Running one request against the engine: the blocking half of the server, called from a worker thread."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from services.embedded.warehouse.body import Body
from services.embedded.warehouse.engine import Engine
from services.embedded.warehouse.errors import BAD_ARGUMENTS, READONLY, Fault
from services.embedded.warehouse.formats import can_stream, join_blocks
from services.embedded.warehouse.request import ExternalTable, Request
from services.embedded.warehouse.sessions import MARK, Lease
from services.embedded.warehouse.statements import Insert, first_word, output_format, replace_query_id, split_insert

_CHUNK = 1 << 20
_TABLE_NAME = re.compile(r"[A-Za-z_]\w*")
_GO_HELLO = b"SELECT displayName(), version(), revision(), timezone()"
# The client's query id of a running query: chDB's own where none of ours stands.
_QUERY_ID = (
    f"if(Settings['{MARK}'] = '', query_id, "
    f"arrayStringConcat(arraySlice(splitByChar('/', Settings['{MARK}']), 4), '/'))"
).encode()


@dataclass
class Answer:
    """What a statement gave: either ``body``, or ``chunks`` to pull from worker threads and then to :meth:`close`."""

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
    sql, insert = _statement(request)
    if not sql.strip():
        return Answer(head, b"Ok.\n")
    if sql.strip() == _GO_HELLO and request.number("client_protocol_version", 0) > 54400:
        return Answer({**head, "X-ClickHouse-Format": "Native"}, _go_hello(engine))
    lease = engine.sessions.acquire(
        request.user.name,
        request.parameters.get("session_id", ""),
        time_to_live=min(request.number("session_timeout", 60), 3600.0),
        must_exist=request.parameters.get("session_check") == "1",
    )
    work = _Work(engine, lease, request, started)
    try:
        answer = work.insert(insert, sql[insert.data_at :]) if insert is not None else work.statement(sql)
    except Fault as fault:
        work.finish()
        raise engine.space.explain(fault) from fault
    except BaseException:
        work.finish()
        raise
    answer.headers = {**head, **answer.headers}
    if answer.chunks is None:
        work.finish()
    return answer


def _statement(request: Request) -> tuple[bytes, Insert | None]:
    """Return the statement, which begins in the address or the body, and its border where it is an INSERT with data."""
    body = request.body
    sql = request.query
    if sql.strip():
        insert = split_insert(sql)
        if insert is None and body is not None and (rest := body.read()):
            sql = sql + b"\n" + rest
        return sql, insert
    sql = body.read(_CHUNK) if body is not None else b""
    insert = split_insert(sql)
    if insert is None and body is not None:
        sql += body.read()
    return sql, insert


class _Work:
    """One statement on one lease."""

    def __init__(self, engine: Engine, lease: Lease, request: Request, started: int) -> None:
        self._engine, self._lease, self._request, self._started = engine, lease, request, started
        self._connection = lease.connection
        self._created: list[str] = []
        # As in the server: GET changes nothing.
        self._read_only = request.user.read_only or request.method in ("GET", "HEAD")

    def insert(self, insert: Insert, head: bytes) -> Answer:
        if self._read_only:
            raise Fault(READONLY, "Cannot execute query in readonly mode: INSERT needs POST and a user who may write")
        request = self._request
        self._prepare()
        self._engine.check_words(insert.statement + insert.settings + b" VALUES", strict=False)
        layout = insert.format or request.default_format or "Values"
        # Data that begin where the body does need no copy.
        whole = request.body if request.body is not None and not head and request.query.strip() else None
        data = whole or (request.body or Body(self._engine.spool)).rest(head)
        try:
            written = self._connection.insert(insert.statement, insert.settings, layout, data.name)
        finally:
            if data is not whole:
                data.close()
        return Answer({"X-ClickHouse-Summary": self._summary(written=written)})

    def statement(self, sql: bytes) -> Answer:
        request = self._request
        reads = self._engine.check(sql, read_only=self._read_only)
        self._prepare()
        sql = replace_query_id(sql, _QUERY_ID)
        layout = output_format(sql) or request.default_format or "TabSeparated"
        whole = request.parameters.get("wait_end_of_query", "0") == "1"
        if reads and not whole and can_stream(layout) and first_word(sql) in (b"SELECT", b"WITH", b"("):
            return self._stream(sql, layout)
        result = self._connection.execute(sql, layout, request.query_parameters)
        body = result.bytes()
        if self._lease.pinned and not reads:
            self._lease.ran(sql)
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
        blocks = self._connection.stream(sql, layout, self._request.query_parameters)
        assert isinstance(blocks, Generator)
        chunks = join_blocks(layout, blocks)
        # The first block decides the status: until it is there, a failure is an answer of its own.
        first = next(chunks, None)
        headers = {"X-ClickHouse-Format": layout}
        if first is None:
            blocks.close()
            return Answer({**headers, "X-ClickHouse-Summary": self._summary()})

        def all_chunks() -> Iterator[bytes]:
            yield first
            yield from chunks

        def close() -> None:
            blocks.close()
            self.finish()

        return Answer(headers, chunks=all_chunks(), close=close)

    def _prepare(self) -> None:
        request = self._request
        settings = request.settings()
        external = request.external
        if self._read_only and not self._lease.pinned and not external:
            # A second wall behind the guard. A pinned connection could never be made writable again.
            settings["readonly"] = "2"
        elif self._lease.pinned:
            settings.pop("readonly", None)
        self._lease.apply(settings, request.database, request.mark, request.query_id)
        for name, table in external.items():
            self._create_external(name, table)

    def _create_external(self, name: str, table: ExternalTable) -> None:
        if not _TABLE_NAME.fullmatch(name):
            raise Fault(BAD_ARGUMENTS, f"Bad name of an external table: {name!r}")
        definition = f"CREATE TEMPORARY TABLE `{name}` ({table.structure})"
        self._engine.check_definition(definition.encode())
        self._connection.execute(definition)
        self._created.append(name)
        self._connection.insert(f"INSERT INTO `{name}`".encode(), b"", table.format, table.data.name)

    def finish(self) -> None:
        """Give the connection back; the tables of the request end with it."""
        try:
            if self._lease.pinned:
                for name in self._created:
                    self._connection.execute(f"DROP TEMPORARY TABLE IF EXISTS `{name}`")
        finally:
            self._engine.sessions.release(self._lease)

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


def _go_hello(engine: Engine) -> bytes:
    """Return the answer to clickhouse-go's first query, as a Native block of its own protocol revision.

    Revision 0 in it makes the client read what follows as plain Native without block info, which is what chDB writes.
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
