"""The HTTP half of the server: an ASGI application that speaks ClickHouse's interface and never blocks its loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.embedded.warehouse.compression import Compressor, compressor, negotiate
from services.embedded.warehouse.engine import Engine
from services.embedded.warehouse.errors import TOO_MANY_SIMULTANEOUS_QUERIES, UNKNOWN_EXCEPTION, Fault
from services.embedded.warehouse.query import Answer, run
from services.embedded.warehouse.request import Receive, Request, User, parse_head, read_body

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)
_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNamesAndTypes": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Parquet": "application/octet-stream",
}
_SLOT_WAIT_SECONDS = 30.0
_SMALL = 256


class WarehouseApp:
    """ClickHouse's HTTP interface over one engine.

    At most ``slots`` statements run at once; others wait for up to 30 s and are then refused with code 202. A client
    that goes away has its statement cancelled.
    """

    def __init__(self, engine: Engine, users: Mapping[str, User], slots: int) -> None:
        self._engine, self._users = engine, users
        self._slots = asyncio.Semaphore(slots)
        self._workers = ThreadPoolExecutor(slots, "query")
        # Cancelling must not wait behind what it cancels.
        self._control = ThreadPoolExecutor(1, "control")

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._workers.shutdown()
        self._control.shutdown()
        self._engine.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in ("/ping", "/replicas_status"):
            await _reply(send, 200, {"Content-Type": "text/plain; charset=UTF-8"}, b"Ok.\n")
            return
        query_id = ""
        request: Request | None = None
        try:
            request = parse_head(scope, self._users)
            query_id = request.query_id
            if path not in ("", "/", "/query"):
                await _reply(send, 404, {}, f"There is no handle {path}\n".encode())
                return
            if request.method in ("POST", "PUT"):
                await read_body(request, receive)
            await self._serve(request, receive, send)
        except Fault as fault:
            await self._refuse(send, fault, query_id)
        except Exception as error:  # a fault of ours must reach the client as an answer, not as a dropped connection
            _log.exception("request failed")
            await self._refuse(send, Fault(UNKNOWN_EXCEPTION, f"{type(error).__name__}: {error}"), query_id)
        finally:
            if request is not None:
                request.close()

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(self._slots.acquire(), _SLOT_WAIT_SECONDS)
        except TimeoutError:
            raise Fault(TOO_MANY_SIMULTANEOUS_QUERIES, "Too many simultaneous queries") from None
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(_disconnected(receive))
        answer: Answer | None = None
        try:
            work = loop.run_in_executor(self._workers, run, self._engine, request)
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await loop.run_in_executor(self._control, self._engine.kill, request.kill_mark)
            answer = await work
            await self._send_answer(request, answer, gone, send)
        finally:
            gone.cancel()
            if answer is not None:
                await loop.run_in_executor(self._workers, answer.close)
            self._slots.release()

    async def _send_answer(self, request: Request, answer: Answer, gone: asyncio.Future[None], send: Send) -> None:
        headers = answer.headers
        if layout := headers.get("X-ClickHouse-Format"):
            headers["Content-Type"] = _TYPES.get(layout, "text/plain; charset=UTF-8")
        wanted = request.parameters.get("enable_http_compression", "0") in ("1", "true")
        encoding = negotiate(request.headers.get("accept-encoding", "")) if wanted else None
        if answer.chunks is None:
            body = answer.body
            if encoding and len(body) > _SMALL:
                codec = compressor(encoding)
                body = codec.compress(body) + codec.flush()
                headers["Content-Encoding"] = encoding
            await _reply(send, 200, headers, body)
            return
        if encoding:
            headers["Content-Encoding"] = encoding
        await self._send_chunks(answer, compressor(encoding) if encoding else None, gone, send)

    async def _send_chunks(
        self, answer: Answer, codec: Compressor | None, gone: asyncio.Future[None], send: Send
    ) -> None:
        tag = secrets.token_hex(8)
        answer.headers["X-ClickHouse-Exception-Tag"] = tag
        await send({"type": "http.response.start", "status": 200, "headers": _raw(answer.headers)})
        loop = asyncio.get_running_loop()

        def pull() -> bytes | None:
            assert answer.chunks is not None
            chunk = next(answer.chunks, None)
            return codec.compress(chunk) if codec and chunk is not None else chunk

        try:
            while not gone.done() and (chunk := await loop.run_in_executor(self._workers, pull)) is not None:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Fault as fault:
            # The status is sent already: the failure goes in a frame that the client finds by the tag in the headers.
            text = str(fault).encode()
            frame = b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
                tag.encode(),
                text,
                len(text) + 1,
                tag.encode(),
            )
            frame = codec.compress(frame) if codec else frame
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": codec.flush() if codec else b""})

    async def _refuse(self, send: Send, fault: Fault, query_id: str) -> None:
        text = str(fault)
        if "(version" not in text:
            text += f" (version {self._engine.version})"
        headers = {
            "X-ClickHouse-Exception-Code": str(fault.code),
            "X-ClickHouse-Query-Id": query_id,
            "Content-Type": "text/plain; charset=UTF-8",
        }
        await _reply(send, fault.status, headers, text.encode("utf-8", "replace") + b"\n")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


async def _reply(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    complete = {**headers, "Content-Length": str(len(body))}
    await send({"type": "http.response.start", "status": status, "headers": _raw(complete)})
    await send({"type": "http.response.body", "body": body})
