"""The HTTP half of the server: an ASGI application that speaks ClickHouse's interface and never blocks its loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.embedded.warehouse.compression import Compressor, negotiate
from services.embedded.warehouse.engine import Engine
from services.embedded.warehouse.errors import ABORTED, TOO_MANY_SIMULTANEOUS_QUERIES, UNKNOWN_EXCEPTION, Fault
from services.embedded.warehouse.formats import CONTENT_TYPES
from services.embedded.warehouse.query import Answer, run
from services.embedded.warehouse.request import Receive, Request, User, parse_head, read_body

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)
_TEXT = "text/plain; charset=UTF-8"
_SMALL = 256
_T = TypeVar("_T")


class WarehouseApp:
    """ClickHouse's HTTP interface over one engine.

    At most ``slots`` statements run at once; others wait for up to ``slot_wait`` seconds and are then refused with code
    202. A client that goes away has its statement cancelled.
    """

    def __init__(self, engine: Engine, users: Mapping[str, User], slots: int, slot_wait: float = 30.0) -> None:
        self._engine, self._users, self._slot_wait = engine, users, slot_wait
        self._slots = asyncio.Semaphore(slots)
        self._workers = ThreadPoolExecutor(slots, "query")
        # Cancelling must not wait behind what it cancels: not for a slot, nor for a thread.
        self._control = ThreadPoolExecutor(2, "control")
        self._stopping = False

    async def stop(self) -> None:
        """Refuse new statements and cancel those that run."""
        self._stopping = True
        await asyncio.get_running_loop().run_in_executor(self._control, self._engine.stop)

    def close(self) -> None:
        """Close the engine; no statement may run any more."""
        self._workers.shutdown(cancel_futures=True)
        self._control.shutdown()
        self._engine.close()

    async def expire_sessions(self) -> None:
        """Close idle sessions, for ever."""
        while True:
            await asyncio.sleep(5)
            await asyncio.get_running_loop().run_in_executor(self._control, self._engine.sessions.expire)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request (ASGI)."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path in ("/ping", "/replicas_status"):
            await _reply(send, 200, {"Content-Type": _TEXT}, b"Ok.\n")
            return
        request: Request | None = None
        try:
            request = parse_head(scope, self._users)
            if path not in ("", "/", "/query"):
                await _reply(send, 404, {"Content-Type": _TEXT}, f"There is no handle {path}\n".encode())
                return
            if request.method in ("POST", "PUT"):
                await read_body(request, receive, self._engine.spool)
            await self._serve(request, receive, send)
        except Fault as fault:
            await self._refuse(send, fault, request)
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the client as an answer
            _log.exception("request failed")
            await self._refuse(send, Fault(UNKNOWN_EXCEPTION, f"{type(error).__name__}: {error}"), request)
        finally:
            if request is not None:
                request.close()

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        # A statement that cancels others must not wait behind them.
        controls = request.kills
        answer: Answer | None = None
        done: Answer
        loop = asyncio.get_running_loop()
        workers = self._control if controls else self._workers
        if not controls:
            await self._take_slot(gone)
        try:
            if self._stopping:
                raise Fault(ABORTED, "The warehouse is shutting down")
            work = loop.run_in_executor(workers, run, self._engine, request)
            answer = done = await self._unless_gone(work, gone, request)
            await self._send_answer(request, done, gone, send)
        finally:
            gone.cancel()
            if answer is not None:
                await loop.run_in_executor(workers, answer.close)
            if not controls:
                self._slots.release()

    async def _take_slot(self, gone: asyncio.Future[None]) -> None:
        slot = asyncio.ensure_future(self._slots.acquire())
        either: set[asyncio.Future[Any]] = {slot, gone}
        await asyncio.wait(either, timeout=self._slot_wait, return_when=asyncio.FIRST_COMPLETED)
        if slot.done() and not slot.cancelled():
            return
        slot.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            # It may have been granted at the last moment.
            if await slot:
                self._slots.release()
        raise Fault(TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many simultaneous queries, waited {self._slot_wait:g} s")

    async def _unless_gone(self, work: asyncio.Future[_T], gone: asyncio.Future[None], request: Request) -> _T:
        """Wait for a worker; cancel its query when the client goes away first."""
        either: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        while not work.done():
            # Again and again: a query that has just begun is not yet among those that can be cancelled.
            await asyncio.get_running_loop().run_in_executor(self._control, self._engine.kill, request.mark)
            await asyncio.wait({work}, timeout=0.2)
        return await work

    async def _send_answer(self, request: Request, answer: Answer, gone: asyncio.Future[None], send: Send) -> None:
        headers = answer.headers
        headers["Content-Type"] = CONTENT_TYPES.get(headers.get("X-ClickHouse-Format", ""), _TEXT)
        wanted = request.parameters.get("enable_http_compression", "0") in ("1", "true")
        encoding = negotiate(request.headers.get("accept-encoding", "")) if wanted else None
        if answer.chunks is None:
            body = answer.body
            if encoding and len(body) > _SMALL:
                codec = Compressor(encoding)
                body = codec.compress(body) + codec.flush()
                headers["Content-Encoding"] = encoding
            await _reply(send, 200, headers, body)
            return
        if encoding:
            headers["Content-Encoding"] = encoding
        await self._send_chunks(request, answer, Compressor(encoding) if encoding else None, gone, send)

    async def _send_chunks(
        self, request: Request, answer: Answer, codec: Compressor | None, gone: asyncio.Future[None], send: Send
    ) -> None:
        tag = secrets.token_hex(8)
        answer.headers["X-ClickHouse-Exception-Tag"] = tag
        await send({"type": "http.response.start", "status": 200, "headers": _raw(answer.headers)})
        loop, chunks = asyncio.get_running_loop(), answer.chunks
        assert chunks is not None

        def pull() -> bytes | None:
            chunk = next(chunks, None)
            return codec.compress(chunk) if codec and chunk is not None else chunk

        try:
            while not gone.done():
                chunk = await self._unless_gone(loop.run_in_executor(self._workers, pull), gone, request)
                if chunk is None:
                    break
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Fault as fault:
            frame = _exception_frame(tag, str(fault))
            frame = codec.compress(frame) if codec else frame
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        # Before the client sees the end: its next request may want the same session.
        await loop.run_in_executor(self._workers, answer.close)
        answer.close = _nothing
        await send({"type": "http.response.body", "body": codec.flush() if codec else b""})

    async def _refuse(self, send: Send, fault: Fault, request: Request | None) -> None:
        text = str(fault)
        if "(version" not in text:
            text += f" (version {self._engine.version})"
        headers = {"X-ClickHouse-Exception-Code": str(fault.code), "Content-Type": _TEXT}
        if request is not None:
            headers["X-ClickHouse-Query-Id"] = request.query_id
        await _reply(send, fault.status, headers, text.encode("utf-8", "replace") + b"\n")


def _nothing() -> None:
    """What is closed already."""


def _exception_frame(tag: str, text: str) -> bytes:
    """Return a failure in the middle of a stream, whose status is sent already.

    The client finds it by the tag in the headers; the length before the closing tag counts the line break too.
    """
    message = text.encode("utf-8", "replace") + b"\n"
    mark = tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (mark, message, len(message), mark)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), _line(value).encode("latin-1", "replace")) for name, value in headers.items()]


def _line(value: str) -> str:
    """Return a header's value without line breaks: a query id comes from outside."""
    return value.replace("\r", " ").replace("\n", " ")


async def _reply(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    complete = {**headers, "Content-Length": str(len(body))}
    await send({"type": "http.response.start", "status": status, "headers": _raw(complete)})
    await send({"type": "http.response.body", "body": body})
