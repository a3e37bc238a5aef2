"""A request of ClickHouse's HTTP interface, taken apart: who asks, what is to run, with which settings and data.

The body is taken whole before anything runs (in memory, on disk beyond 64 MB): an upload that breaks off inserts
nothing, and a slow client holds no query slot.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hmac
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from services.embedded.warehouse.body import Body
from services.embedded.warehouse.compression import Decompressor
from services.embedded.warehouse.errors import (
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    INCORRECT_DATA,
    NETWORK_ERROR,
    NOT_ENOUGH_SPACE,
    NOT_IMPLEMENTED,
    Fault,
)
from services.embedded.warehouse.statements import first_word

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# Parameters of the interface itself; every other one is a setting of the query.
_INTERFACE_NAMES = (
    "query database default_format query_id session_id session_timeout session_check close_session user password "
    "quota_key role buffer_size wait_end_of_query client_protocol_version compress decompress stacktrace "
    "send_progress_in_http_headers http_headers_progress_interval_ms enable_http_compression "
    "http_zlib_compression_level http_native_compression_disable_checksumming_on_decompress "
    "cancel_http_readonly_queries_on_client_close add_http_cors_header"
)
_INTERFACE = frozenset(_INTERFACE_NAMES.split())


@dataclass(frozen=True)
class User:
    """Somebody who may ask."""

    name: str
    password: str
    read_only: bool


@dataclass
class ExternalTable:
    """A table that lives for one request."""

    structure: str
    format: str
    data: Body


@dataclass
class Request:
    """One request; ``parameters`` are those of the address and of a form, the latter winning."""

    method: str
    path: str
    headers: Mapping[str, str]
    parameters: dict[str, str]
    user: User
    body: Body | None = None
    external: dict[str, ExternalTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.query_id = self.parameters.get("query_id") or str(uuid.uuid4())
        # Not the query id: a client may give the same one to two requests, and only one of them goes away.
        # User and program stand in it for the audit of access, since the engine knows one user only.
        program = re.sub(r"[^\w.-].*", "", self.headers.get("user-agent", ""), flags=re.DOTALL)[:40]
        self.mark = f"{uuid.uuid4().hex}/{self.user.name}/{program}/{self.query_id}"

    @property
    def query(self) -> bytes:
        """The statement in the address or form, as the bytes that were sent."""
        return self.parameters.get("query", "").encode("utf-8", "surrogateescape")

    @property
    def kills(self) -> bool:
        """Whether the statement cancels others (KILL QUERY)."""
        head = self.query
        if not head.strip() and self.body is not None:
            head = self.body.read(4096)
            self.body.seek(0)
        return first_word(head) == b"KILL"

    @property
    def default_format(self) -> str | None:
        """The format where the statement names none."""
        return self.headers.get("x-clickhouse-format") or self.parameters.get("default_format")

    @property
    def database(self) -> str:
        """The database that unqualified names mean."""
        return self.headers.get("x-clickhouse-database") or self.parameters.get("database", "")

    @property
    def query_parameters(self) -> dict[str, str]:
        """Values for ``{name:Type}`` in the statement."""
        return {name[6:]: value for name, value in self.parameters.items() if name.startswith("param_")}

    def number(self, name: str, default: float) -> float:
        """Return a parameter that is a number."""
        try:
            return float(self.parameters.get(name) or default)
        except ValueError:
            raise Fault(BAD_ARGUMENTS, f"{name} is not a number") from None

    def settings(self) -> dict[str, str]:
        """Settings of this query."""
        described = {f"{table}_{part}" for table in self.external for part in ("structure", "types", "format")}
        return {
            name: value
            for name, value in self.parameters.items()
            if name not in _INTERFACE and name not in described and not name.startswith("param_")
        }

    def close(self) -> None:
        """Free the body and the external tables."""
        for body in (self.body, *(table.data for table in self.external.values())):
            if body is not None:
                body.close()


def authenticate(headers: Mapping[str, str], parameters: Mapping[str, str], users: Mapping[str, User]) -> User:
    """Return the user whose name and password a request carries, or raise code 516 without saying which was wrong."""
    name = headers.get("x-clickhouse-user") or parameters.get("user") or ""
    password = headers.get("x-clickhouse-key") or parameters.get("password") or ""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(credentials).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = password = ""
    user = users.get(name)
    # Compared in constant time, and compared also where there is no such user.
    right = hmac.compare_digest((user.password if user else "").encode(), password.encode("utf-8", "surrogateescape"))
    if user is None or not right:
        raise Fault(
            AUTHENTICATION_FAILED,
            f"{name or 'default'}: Authentication failed: password is incorrect, or there is no user with such name",
        )
    return user


def parse_head(scope: Mapping[str, Any], users: Mapping[str, User]) -> Request:
    """Return the request without its body; raise :class:`Fault` for a stranger."""
    text = scope["query_string"].decode("latin-1")
    parameters = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    user = authenticate(headers, parameters, users)
    if "1" in (parameters.get("compress"), parameters.get("decompress")):
        # ClickHouse's own block compression; no client of ours asks for it over HTTP.
        raise Fault(NOT_IMPLEMENTED, "compress=1 is not available: use Accept-Encoding and Content-Encoding")
    return Request(scope["method"], scope["path"], headers, parameters, user)


async def read_body(request: Request, receive: Receive, spool: Path) -> None:
    """Take the body whole, decoded, and the form or the external tables in it; what is large lies in ``spool``."""
    body = request.body = Body(spool)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    codec = Decompressor(encoding) if encoding not in ("", "identity") else None
    more = True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Fault(NETWORK_ERROR, "The client went away while it sent the request")
            chunk = message.get("body", b"")
            body.write(codec.decompress(chunk) if codec else chunk)
            more = message.get("more_body", False)
        if codec is not None:
            codec.finish()
        body.seek(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise Fault(NOT_ENOUGH_SPACE, f"No space left for the request in {spool}") from error
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        _take_form(request, content_type, body, spool)
    elif content_type.startswith("application/x-www-form-urlencoded") and not request.query:
        text = body.read()
        if text.startswith(b"query="):
            fields = parse_qsl(text.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
            request.parameters.update(fields)
            request.body = None
        else:
            body.seek(0)


def _take_form(request: Request, content_type: str, body: Body, spool: Path) -> None:
    """Fields of a form are parameters; a file, or a field that the parameters describe, is an external table."""
    data = body.read()
    body.close()
    request.body = None
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + data)
    parts: Any = message.get_payload()
    if not message.is_multipart():
        raise Fault(INCORRECT_DATA, "The form cannot be read")
    tables: dict[str, bytes] = {}
    for part in parts:
        name = str(part.get_param("name", header="content-disposition"))
        payload: bytes = part.get_payload(decode=True)
        described = any(f"{name}_{suffix}" in request.parameters for suffix in ("structure", "types", "format"))
        if part.get_filename() is None and not described:
            request.parameters[name] = payload.decode("utf-8", "surrogateescape")
        else:
            tables[name] = payload
    for name, payload in tables.items():
        structure = request.parameters.get(f"{name}_structure")
        if structure is None:
            types = request.parameters.get(f"{name}_types", "").split(",")
            structure = ", ".join(f"_{number} {kind}" for number, kind in enumerate(types, 1))
        layout = request.parameters.get(f"{name}_format", "TabSeparated")
        content = Body(spool)
        content.write(payload)
        content.seek(0)
        request.external[name] = ExternalTable(structure, layout, content)
