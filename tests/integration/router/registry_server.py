"""A schema registry of the test's own: Confluent's documented resources and error codes, and every way to fail.

Strict where a client could be sloppy: content types, methods, paths, required fields.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_OID, uuid5

CONTENT = "application/vnd.schemaregistry.v1+json"


class Answer(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def problem(code: int, message: str) -> Answer:
    return Answer(int(str(code)[:3]), {"error_code": code, "message": message})


class Registry:
    """What is registered, and how it answers. ``fault`` replaces every answer while it is set."""

    def __init__(self) -> None:
        self.url = ""
        self.subjects: dict[str, list[int]] = {}
        self.schemas: dict[int, dict[str, Any]] = {}
        self.requests: Counter[str] = Counter()
        self.authorization: str | None = None
        self.fault: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.incompatible: set[str] = set()
        self.config: dict[str, str] = {}
        self.without: set[str] = set()  # resources that an older registry does not have
        self.stop: Callable[[], None] = lambda: None

    def add(
        self, subject: str, schema: Any, *, references: list[dict[str, Any]] | None = None, kind: str = "JSON"
    ) -> int:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return self.register(subject, {"schema": text, "schemaType": kind, "references": references or []})

    def register(self, subject: str, body: dict[str, Any]) -> int:
        wanted = self._form(body)
        number = next((number for number, stored in self.schemas.items() if stored == wanted), len(self.schemas) + 1)
        self.schemas[number] = wanted
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    @staticmethod
    def guid(number: int) -> str:
        return str(uuid5(NAMESPACE_OID, str(number)))

    @staticmethod
    def _form(body: dict[str, Any]) -> dict[str, Any]:
        form = {"schema": body["schema"]}
        if (kind := body.get("schemaType", "AVRO")) != "AVRO":
            form["schemaType"] = kind
        if body.get("references"):
            form["references"] = body["references"]
        return form

    def answer(self, method: str, path: str, body: Any) -> Any:
        if path.startswith(tuple(self.without)):
            raise problem(404, "HTTP 404 Not Found")
        for pattern, allowed, handle in (
            (r"/schemas/types", "GET", lambda: ["JSON", "PROTOBUF", "AVRO"]),
            (r"/schemas/ids/(\d+)", "GET", self._by_id),
            (r"/schemas/ids/(\d+)/versions", "GET", self._versions_of),
            (r"/schemas/guids/([0-9a-f-]{36})", "GET", self._by_guid),
            (r"/subjects/([^/]+)/versions/(latest|\d+)", "GET", self._version),
            (r"/subjects/([^/]+)", "POST", lambda subject: self._lookup(subject, body)),
            (r"/subjects/([^/]+)/versions", "POST", lambda subject: self._register(subject, body)),
            (r"/compatibility/subjects/([^/]+)/versions/latest", "POST", self._compatible),
            (r"/config/([^/]+)", "PUT", lambda subject: self._configure(subject, body)),
        ):
            if (match := re.fullmatch(pattern, path)) and method == allowed:
                return handle(*map(unquote, match.groups()))
        raise problem(404, "HTTP 404 Not Found")

    def _by_id(self, number: str) -> Any:
        if int(number) > 2**31 - 1:
            raise problem(404, "HTTP 404 Not Found")  # its path takes 32 bits
        if int(number) not in self.schemas:
            raise problem(40403, "Schema not found")
        return self.schemas[int(number)]

    def _versions_of(self, number: str) -> Any:
        self._by_id(number)
        return [
            {"subject": subject, "version": ids.index(int(number)) + 1}
            for subject, ids in self.subjects.items()
            if int(number) in ids
        ]

    def _by_guid(self, guid: str) -> Any:
        for number, stored in self.schemas.items():
            if self.guid(number) == guid:
                return {**stored, "guid": guid}
        raise problem(40403, "Schema not found")

    def _version(self, subject: str, version: str) -> Any:
        ids = self._ids(subject)
        if version != "latest" and not 0 < int(version) <= len(ids):
            raise problem(40402, "Version not found.")
        index = len(ids) if version == "latest" else int(version)
        return {"subject": subject, "version": index, "id": ids[index - 1], **self.schemas[ids[index - 1]]}

    def _ids(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise problem(40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _lookup(self, subject: str, body: Any) -> Any:
        for version, number in enumerate(self._ids(subject), start=1):
            if self.schemas[number] == self._form(body):
                return {"subject": subject, "version": version, "id": number, **self.schemas[number]}
        raise problem(40403, "Schema not found")

    def _register(self, subject: str, body: Any) -> Any:
        try:
            json.loads(body["schema"])
        except (ValueError, KeyError, TypeError):
            raise problem(42201, "Invalid schema") from None
        if subject in self.incompatible:
            raise Answer(409, {"error_code": 409, "message": "Schema being registered is incompatible"})
        for reference in body.get("references", ()):
            self._version(reference["subject"], str(reference["version"]))
        return {"id": self.register(subject, body)}

    def _compatible(self, subject: str) -> Any:
        self._ids(subject)
        bad = subject in self.incompatible
        return {"is_compatible": not bad, **({"messages": ["PROPERTY_REMOVED at '#/properties/a'"]} if bad else {})}

    def _configure(self, subject: str, body: Any) -> Any:
        self.config[subject] = body["compatibility"]
        return body


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart
    registry: Registry

    def _serve(self) -> None:
        registry, path = self.registry, urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        registry.requests[f"{self.command} {path}"] += 1
        if registry.fault is not None:
            registry.fault(self)
            return
        try:
            if registry.authorization is not None and self.headers.get("Authorization") != registry.authorization:
                raise problem(40101, "User cannot access the resource.")
            if self.command != "GET" and self.headers.get("Content-Type") != CONTENT:
                raise Answer(415, {"error_code": 415, "message": "HTTP 415 Unsupported Media Type"})
            self.reply(200, registry.answer(self.command, path, json.loads(content) if content else None))
        except Answer as answer:
            self.reply(answer.status, answer.body)

    def reply(self, status: int, body: Any, kind: str = CONTENT) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(
    *, port: int = 0, registry: Registry | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[Registry]:
    """Serve a registry on loopback; ``registry.stop()`` ends it before its time."""
    registry = registry or Registry()
    handler = type("Bound", (Handler,), {"registry": registry})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stopped = threading.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            registry.fault = hanging_up  # connections outlive the server's socket
            server.shutdown()
            server.server_close()

    registry.stop = stop
    try:
        yield registry
    finally:
        stop()


# Faults


def status(code: int, body: bytes = b"", kind: str = "text/html") -> Callable[[Any], None]:
    return lambda handler: handler.reply(code, body, kind)


def slow(seconds: float) -> Callable[[Any], None]:
    return lambda _handler: time.sleep(seconds)


def dripping(handler: Any) -> None:
    """An answer without an end, a byte at a time: no time-out on a read sees it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def hanging_up(handler: Any) -> None:
    handler.close_connection = True
    handler.connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
