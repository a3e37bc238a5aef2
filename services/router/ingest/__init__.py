"""``POST /v1/events``: events from those who have no Kafka client.

What belongs here: who may send, how much, in which order a request is checked, and the answers. What does not: cutting
events out of a request (``binding``), sending them (``sender``), the form of a refusal (``problems``).

A batch is all or nothing at the door: where one event is refused, none is sent. 202 means that the broker has
acknowledged every event. What an answer says of an event is a reason and paths, never a value of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from events.catalogue import MAX_EVENT_BYTES
from events.codec import record_key
from events.compiled import CATALOGUE, Compiled, Schemas
from events.validation import InvalidEvent, Reason, SchemaUnavailable, check
from services.doors import Tokens, bearer
from services.router.ingest import binding
from services.router.ingest.problems import Problem, of_refusal
from services.router.ingest.sender import NotSent, Record, Sender
from services.router.metrics import IngestMetrics
from services.router.refusals import Windows

log = logging.getLogger("isthmus.ingest")

MAX_REQUESTS: Final = 100
"""Requests that are read and checked at one time; each may hold a whole body."""
RETRY_AFTER: Final = 1
STOP_SECONDS: Final = 3.0
"""How long a request waits for the broker when the router stops."""
_LOOK_UP: Final = 0.5
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TURN: Final = 50
"""Events checked before others get their turn of the loop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost: bytes of its body, events, seconds."""

    body_bytes: int
    events: int
    seconds: float


class Ingest:
    """The endpoint. All of it runs in the web server's event loop."""

    def __init__(
        self,
        sender: Sender,
        tokens: Mapping[str, str],
        limits: Limits,
        metrics: IngestMetrics,
        stopping: Callable[[], bool] = lambda: False,
        *,
        schemas: Schemas = CATALOGUE,
    ) -> None:
        self._sender = sender
        self._schemas = schemas
        self._tokens = Tokens(tokens)
        self._limits = limits
        self._metrics = metrics
        self._stopping = stopping
        self._requests = 0
        self._windows = Windows()

    async def endpoint(self, request: Request) -> Response:
        """Answer one request."""
        began = time.perf_counter()
        outcome = "disconnected"
        try:
            response = await self._answer(request)
            outcome = "accepted"
            return response
        except Problem as problem:
            outcome = problem.outcome
            self._note(problem)
            return problem.response()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 (a defect of ours is one request's, and its text may hold a value)
            outcome = "error"
            log.error("a request failed with %s", type(error).__name__)
            return Problem(500, outcome, "A defect of the router; what became of the events is not known.").response()
        finally:
            self._metrics.request(outcome, time.perf_counter() - began)

    def _note(self, problem: Problem) -> None:
        silent = self._windows.enter(problem.outcome)
        if silent is not None:
            log.warning(
                "a request was answered with %d (%s); %d more of this kind since the last such line",
                problem.status,
                problem.outcome,
                silent,
                extra={"status": problem.status, "outcome": problem.outcome},
            )

    async def _answer(self, request: Request) -> Response:
        self._authenticate(request)
        if self._stopping():
            raise self._unavailable("the router is stopping", {"Connection": "close"})
        if problem := self._sender.problem:
            raise self._unavailable(problem)
        if self._requests >= MAX_REQUESTS:
            raise self._unavailable("too many requests at once")
        self._requests += 1
        try:
            events = self._events(request, await self._body(request))
            batch = binding.media_type(request.headers["content-type"]) == binding.BATCH
            records, ids = await self._checked(events, request.headers.get("traceparent", ""), batch=batch)
        finally:
            self._requests -= 1
        if records:
            await self._send(records, ids)
        return Response(orjson.dumps({"accepted": ids}), 202, media_type="application/json")

    def _authenticate(self, request: Request) -> None:
        given = bearer(request.headers.get("authorization", ""))
        if not self._tokens.know(given):
            challenge = 'Bearer realm="isthmus"' + (', error="invalid_token"' if given else "")
            detail = "Send a token that the router knows as Authorization: Bearer."
            raise Problem(
                401, "unauthorized", detail, headers={"WWW-Authenticate": challenge, **self._parting(request)}
            )

    def _parting(self, request: Request) -> dict[str, str]:
        """Return headers of an answer to a request that was not read: a small body may pass by, a large one may not."""
        try:
            small = int(request.headers.get("content-length", "0")) <= 8 * self._limits.body_bytes
        except ValueError:
            small = False
        return {} if small and "transfer-encoding" not in request.headers else {"Connection": "close"}

    def _too_large(self, request: Request) -> Problem:
        detail = f"A body may have {self._limits.body_bytes:,} bytes."
        return Problem(413, "too-large", detail, headers=self._parting(request))

    def _unavailable(self, why: str, headers: Mapping[str, str] | None = None) -> Problem:
        detail = f"{why[:1].upper()}{why[1:]}; nothing was sent, try again."
        return Problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER), **(headers or {})})

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._unsupported("a body must not be compressed", request)
        media = binding.media_type(request.headers.get("content-type", ""))
        if media not in (binding.STRUCTURED, binding.BATCH) and not binding.is_binary(media, request.headers):
            raise self._unsupported("the content type is another one, or its charset is not UTF-8", request)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body_bytes:
            raise self._too_large(request)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._limits.body_bytes:
                        raise self._too_large(request)
        except TimeoutError:
            detail = f"The body did not arrive within {self._limits.seconds:g} s; nothing was sent."
            raise Problem(408, "slow", detail, headers={"Connection": "close"}) from None
        return bytes(body)

    def _unsupported(self, why: str, request: Request) -> Problem:
        accepted = [binding.STRUCTURED, binding.BATCH, "application/json with ce- headers"]
        headers = {"Accept": f"{binding.STRUCTURED}, {binding.BATCH}, application/json", **self._parting(request)}
        return Problem(415, "unsupported", f"Not taken: {why}.", {"accepted_types": accepted}, headers)

    def _events(self, request: Request, body: bytes) -> list[bytes]:
        """Return the bytes of each event of a request, none of them looked into yet."""
        content_type = request.headers["content-type"]
        media = binding.media_type(content_type)
        try:
            if media == binding.STRUCTURED:
                return [binding.from_structured(body)]
            if media == binding.BATCH:
                return binding.from_batch(body, self._limits.events)
            return [binding.from_binary(request.headers.items(), content_type, body)]
        except binding.Malformed as error:
            raise Problem(400, "malformed", str(error)) from None
        except binding.TooMany:
            raise Problem(413, "too-large", f"A request may hold {self._limits.events:,} events.") from None

    async def _checked(self, events: list[bytes], traceparent: str, *, batch: bool) -> tuple[list[Record], list[str]]:
        """Return the record and the id of each event; raises :class:`Problem` where one of them is refused."""
        traced = [("traceparent", traceparent.encode())] if _TRACEPARENT.fullmatch(traceparent) else []
        records: list[Record] = []
        ids: list[str] = []
        errors: list[dict[str, Any]] = []
        received = datetime.now(UTC)
        for index, value in enumerate(events):
            if index and index % _TURN == 0:
                await asyncio.sleep(0)
            try:
                document, compiled = await self._looked_at(value, received)
                key = record_key(compiled.key, document["subject"], document["data"])
                record = Record(key, value, [] if "traceparent" in document else traced)
                if record.size > MAX_EVENT_BYTES:
                    raise InvalidEvent(
                        Reason.TOO_LARGE, f"{record.size:,} bytes; at most {MAX_EVENT_BYTES:,} are taken"
                    )
            except InvalidEvent as refusal:
                errors.append(of_refusal(index, refusal))
                continue
            records.append(record)
            ids.append(document["id"])
        if errors:
            self._metrics.refused.update(error["reason"] for error in errors)
            malformed = not batch and errors[0]["reason"] in (Reason.MALFORMED, Reason.EMPTY)
            detail = f"{len(errors):,} of {len(events):,} events refused; none was sent."
            status, outcome = (400, "malformed") if malformed else (422, "refused")
            raise Problem(status, outcome, detail, {"errors": errors})
        return records, ids

    async def _looked_at(self, value: bytes, received: datetime) -> tuple[dict[str, Any], Compiled]:
        try:
            return check(value, received)
        except InvalidEvent as refusal:
            if refusal.reason is not Reason.UNKNOWN_TYPE or self._schemas is CATALOGUE:
                raise
        try:
            # A registry may have to be asked: in a thread, so that nobody else waits for it.
            return await asyncio.to_thread(check, value, received, self._schemas)
        except SchemaUnavailable as error:
            raise self._unavailable(str(error)) from None

    async def _send(self, records: list[Record], ids: list[str]) -> None:
        try:
            future = self._sender.send(records)
        except NotSent as error:
            raise self._unavailable(str(error)) from None
        errors = await self._acknowledgements(future) or ["no answer"] * len(ids)
        acknowledged = [id_ for id_, error in zip(ids, errors, strict=True) if not error]
        self._metrics.events += len(acknowledged)
        if len(acknowledged) == len(ids):
            return
        if not acknowledged and set(errors) <= _NEVER_SENT:
            raise self._unavailable("the broker does not take them: " + ", ".join(sorted(set(errors))))
        names = ", ".join(sorted(set(errors) - {""}))
        detail = (
            f"{len(acknowledged):,} of {len(ids):,} events were acknowledged ({names}). "
            "The others may have been taken: send them again with the same ids, which makes a repetition harmless."
        )
        raise Problem(504, "unknown", detail, {"accepted": acknowledged}, {"Retry-After": str(RETRY_AFTER)})

    async def _acknowledgements(self, future: asyncio.Future[list[str]]) -> list[str] | None:
        """Return what became of each record, or None where the time is up: sooner where the router stops."""
        # The producer's own time limit is the same; the second on top lets it say what became of each event.
        deadline = time.monotonic() + self._limits.seconds + 1
        stopping = False
        while not future.done() and time.monotonic() < deadline:
            await asyncio.wait([future], timeout=_LOOK_UP)
            if self._stopping() and not stopping:
                stopping, deadline = True, min(deadline, time.monotonic() + STOP_SECONDS)
        if future.done():
            return future.result()
        self._sender.doubt()
        return None


# Errors that say for certain that the record is not in the log.
_NEVER_SENT: Final = frozenset(
    {"_QUEUE_FULL", "MSG_SIZE_TOO_LARGE", "TOPIC_AUTHORIZATION_FAILED", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"}
)
