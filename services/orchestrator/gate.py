"""The gate: whoever asks by POST comes in with a token, with a body that is not too long, and when it is their turn.

What belongs here: refusals before anything is read or computed, and the queue. What does not: what is asked and
answered (:mod:`services.orchestrator.web`).

An answer is computed in the event loop, without a pause. So one question is let in each time the loop comes around:
what arrives meanwhile is seen, and either queues or is refused at once. More than ``most`` never wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.doors import Tokens, bearer

MOST_BYTES: Final = 1_048_576
"""Of a body, where a path has no limit of its own."""
RETRY_AFTER_SECONDS: Final = 1


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """Return a refusal in the form that all of them have."""
    body = orjson.dumps({"detail": detail, **more})
    return Response(body, status, headers, media_type="application/json")


class Queue:
    """Those who wait for their turn, in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether another one must be refused."""
        return len(self._waiting) >= self._most

    async def turn(self) -> None:
        """Wait until it is one's turn."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)
        await mine

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        mine = self._waiting.popleft()
        if not mine.done():
            mine.set_result(None)
        if self._waiting:
            loop.call_soon(self._next, loop)


class Gate:
    """ASGI middleware; ``refused`` is told the status of every answer that is a refusal.

    ``most_bytes`` are the longest bodies of paths that take longer ones than :data:`MOST_BYTES`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        queue: Queue,
        refused: Callable[[int], None],
        most_bytes: Mapping[str, int],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._queue = queue
        self._refused = refused
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self._refused(message["status"])
            await send(message)

        if scope["method"] == "POST":
            if (refusal := self._refusal(scope["path"], dict(scope["headers"]))) is not None:
                await refusal(scope, receive, counted)
                return
            await self._queue.turn()
        await self._app(scope, receive, counted)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Response | None:
        most = self._most_bytes.get(path, MOST_BYTES)
        length = headers.get(b"content-length", b"").decode("latin-1")
        if not length.isdecimal():
            return problem(411, "Say how long the body is (Content-Length).")
        if int(length) > most:
            return problem(413, f"A question has at most {most:,} bytes.")
        if not self._tokens.know(bearer(headers.get(b"authorization", b"").decode("latin-1"))):
            return problem(
                401,
                "Send a token that the service knows as Authorization: Bearer.",
                {"WWW-Authenticate": "Bearer"},
            )
        if self._queue.is_full:
            return problem(503, "Too many questions wait; ask again.", {"Retry-After": str(RETRY_AFTER_SECONDS)})
        return None
