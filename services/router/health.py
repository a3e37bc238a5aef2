"""Health: ``/health``, ``/ready`` and ``/metrics`` over HTTP, on loopback.

What belongs here: the small server and what it answers. What does not: the figures themselves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from services.router.metrics import Metrics

STALLED_AFTER: Final = 60.0
"""Seconds without a turn of the loop after which the router counts as stuck."""


class Health:
    """What the router says of itself; each field is written by one thread and read by another."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.state = "starting"
        self.probe: Callable[[], str] | None = None
        self._turned = time.monotonic()

    def turned(self) -> None:
        """Note that the loop went round."""
        self._turned = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop still goes round."""
        return time.monotonic() - self._turned < STALLED_AFTER

    def problem(self) -> str:
        """Return why events that come now are not routed now; empty where they are. Asks the broker."""
        if not self.alive:
            return "the loop does not turn"
        probe = self.probe
        if self.state != "routing" or probe is None:
            return f"the router is {self.state}"
        return probe()

    def answer(self, path: str) -> tuple[int, str, str]:
        """Return status, content type and body for a path."""
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text()
        if path == "/health":
            problem = "" if self.alive else "the loop does not turn"
        elif path == "/ready":
            problem = self.problem()
        else:
            return 404, "text/plain; charset=utf-8", "There is /health, /ready and /metrics.\n"
        body = {"ok": not problem, "state": self.state, "problem": problem, "in_flight": self.metrics.in_flight}
        return (503 if problem else 200), "application/json", json.dumps(body) + "\n"


@contextmanager
def serving(health: Health, port: int) -> Iterator[str]:
    """Serve ``health`` on ``port`` of loopback (0: a free one) during the block; yield the base URL.

    Raises OSError where the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, text = health.answer(self.path.split("?", 1)[0])
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: a probe every second is no news."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(2)
