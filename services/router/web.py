"""The HTTP side of the router: ``/health``, ``/ready``, ``/metrics`` and ``POST /v1/events``, on one port.

What belongs here: routes, the server and its thread. What does not: what is answered (:mod:`services.router.health`,
:mod:`services.router.exposition`, :mod:`services.router.ingest`).

The server has an event loop in a thread of its own, beside the loop that routes: a broker that is away, or a queue that
is full, keeps neither ``/health`` nor ``/metrics`` from answering.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from threading import Event, Thread
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.router.exposition import Exposition
from services.router.health import Health
from services.router.ingest import Ingest

STOP_SECONDS: Final = 5
"""How long the server waits for requests in flight when it ends."""


def application(health: Health, ingest: Ingest | None = None) -> Starlette:
    """Return the ASGI application; without ``ingest`` nothing can be sent."""
    exposition = Exposition(health)

    async def alive(_: Request) -> Response:
        return _state(health, "" if health.alive else "the loop does not turn")

    # Not a coroutine: it asks the broker, so Starlette runs it in a thread.
    def ready(_: Request) -> Response:
        return _state(health, health.problem())

    async def metrics(request: Request) -> Response:
        body, content_type = exposition.text(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def openapi(_: Request) -> Response:
        return Response(description(), media_type="application/json")

    async def missing(_: Request, _error: Exception) -> Response:
        paths = "/health, /ready, /metrics, /openapi.json and POST /v1/events"
        return PlainTextResponse(f"There is {paths}.\n", status_code=404)

    routes = [
        Route("/health", alive),
        Route("/ready", ready),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
    ]
    if ingest is not None:
        routes.append(Route("/v1/events", ingest.endpoint, methods=["POST"]))
    return Starlette(routes=routes, exception_handlers={404: missing})


def _state(health: Health, problem: str) -> Response:
    body = {"ok": not problem, "state": health.state, "problem": problem, "in_flight": health.metrics.in_flight}
    return Response(json.dumps(body) + "\n", 503 if problem else 200, media_type="application/json")


@cache
def description() -> bytes:
    """Return the OpenAPI description of ``POST /v1/events``, JSON."""
    return files("services.router.ingest").joinpath("openapi.json").read_bytes()


class _Server(uvicorn.Server):
    """Tells when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serves = Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serves.set()


@contextmanager
def serving(health: Health, listener: socket.socket, ingest: Ingest | None = None) -> Iterator[str]:
    """Serve on ``listener`` during the block; yield the base URL.

    At the end it takes no more connections and finishes the requests that it has, within :data:`STOP_SECONDS`.
    """
    config = uvicorn.Config(
        application(health, ingest),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)
    thread = Thread(target=server.run, args=([listener],), name="web", daemon=True)
    thread.start()
    try:
        while not server.serves.wait(0.1):
            if not thread.is_alive():
                raise RuntimeError("the web server ended as it started")
        host, port = listener.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS + 2)
        listener.close()
