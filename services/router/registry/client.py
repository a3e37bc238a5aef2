"""The client of a schema registry that speaks Confluent's HTTP interface (Confluent, Apicurio's ccompat, Karapace).

What belongs here: requests, their bounds, and what an answer means: there, not there, or no answer. What does not: what
is made of a schema (:mod:`services.router.registry`).

What does not exist (an error code of the registry says so) is told apart from everything that only keeps the answer
from us: no connection, a time-out, 5xx, a wrong password, a proxy's page. Nobody may lose an event to the second kind.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx
import orjson

from resources.errors import ResourceError
from resources.settings import Settings

MAX_SCHEMA_BYTES: Final = 2_000_000
"""Largest answer that is read; a schema beyond it cannot be used."""
MAX_REFERENCES: Final = 100
"""Most schemas that one may refer to, directly or not."""

_ACCEPT: Final = "application/vnd.schemaregistry.v1+json, application/json;q=0.9"
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_NOT_THERE: Final = frozenset({40401, 40402, 40403})


class RegistryError(ResourceError):
    """A registry's answer, or its absence; the text holds no credentials."""


class NotThere(RegistryError):
    """The registry says that it has no such subject, version or schema."""


class NoAnswer(RegistryError):
    """The registry did not say: it cannot be reached, fails, refuses us, or something else answers in its place."""


class _NotFound(NoAnswer):
    """404 without the registry's own code: a proxy, a wrong URL, or a registry that has no such resource."""


class Unusable(RegistryError):
    """There is a schema, and it can never be used; the text says why."""


class Rejected(RegistryError):
    """The registry does not take a schema (409: incompatible, 422: invalid)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A schema as a registry holds it. ``references`` holds the text of each schema that it refers to, by name."""

    text: str
    references: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, int] = field(default_factory=dict)
    """Subjects that it is registered under, with its version there; empty where that was not asked."""
    id: int | None = None


class RegistryClient:
    """A registry by URL; user and password may stand in it. Safe for several threads."""

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        ca: Path | None = None,
        connect_seconds: float = 2.0,
        read_seconds: float = 5.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RegistryError("ISTHMUS_SCHEMA_REGISTRY_URL must begin with http:// or https://")
        user, password = unquote(parts.username or "") or user, unquote(parts.password or "") or password
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        """Without user and password."""
        self._deadline = connect_seconds + 2 * read_seconds
        self._http = httpx.Client(
            base_url=self.url,
            auth=httpx.BasicAuth(user, password) if user else None,
            headers={"Accept": _ACCEPT},
            verify=_trust(ca) if parts.scheme == "https" else False,
            timeout=httpx.Timeout(read_seconds, connect=connect_seconds),
            follow_redirects=False,  # the password would go along
            trust_env=False,
        )

    @classmethod
    def of(cls, settings: Settings) -> RegistryClient:
        """Return the client of the settings' registry; raises :class:`RegistryError` where they name none, or badly."""
        if settings.schema_registry_url is None:
            raise RegistryError("no schema registry: set ISTHMUS_SCHEMA_REGISTRY_URL")
        password = settings.schema_registry_password
        return cls(
            settings.schema_registry_url,
            user=settings.schema_registry_user,
            password=password.get_secret_value() if password else "",
            ca=settings.schema_registry_ca,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def by_id(self, schema_id: int) -> Stored:
        """Return the schema of an id; raises :class:`RegistryError`."""
        path, ends = f"/schemas/ids/{schema_id}", self._ends()
        stored = self._stored(self._get(path, ends), ends)
        return replace(stored, subjects=self._subjects(f"{path}/versions", ends), id=schema_id)

    def by_guid(self, guid: str) -> Stored:
        """Return the schema of a GUID, which newer registries give beside the id; raises :class:`RegistryError`."""
        ends = self._ends()
        return self._stored(self._get(f"/schemas/guids/{guid}", ends), ends)

    def latest(self, subject: str) -> Stored:
        """Return the latest version of a subject; raises :class:`RegistryError`."""
        ends = self._ends()
        answer = self._get(f"/subjects/{quote(subject, safe='')}/versions/latest", ends)
        version = answer.get("version")
        return replace(self._stored(answer, ends), subjects={subject: version} if isinstance(version, int) else {})

    def find(self, subject: str, body: Mapping[str, Any]) -> tuple[int, int] | None:
        """Return id and version of this schema under the subject, None where it is not registered there."""
        try:
            answer = self._post(f"/subjects/{quote(subject, safe='')}", body)
        except NotThere:
            return None
        return _number(answer, "id"), _number(answer, "version")

    def exists(self, subject: str) -> bool:
        """Return whether the subject has a version."""
        try:
            self._get(f"/subjects/{quote(subject, safe='')}/versions/latest", self._ends())
        except NotThere:
            return False
        return True

    def objections(self, subject: str, body: Mapping[str, Any]) -> list[str]:
        """Return what the registry has against this schema as the subject's next version; empty for nothing."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._post(path, body)
        if answer.get("is_compatible") is True:
            return []
        return [str(message) for message in answer.get("messages") or ()] or ["incompatible with the latest version"]

    def register(self, subject: str, body: Mapping[str, Any]) -> int:
        """Register a schema under the subject and return its id; raises :class:`Rejected` where it is refused."""
        return _number(self._post(f"/subjects/{quote(subject, safe='')}/versions", body), "id")

    def require(self, subject: str, compatibility: str) -> None:
        """Set how the subject's versions must be compatible (``BACKWARD`` …)."""
        self._request("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": compatibility})

    # Schemas

    def _stored(self, answer: Mapping[str, Any], ends: float) -> Stored:
        text, schema_id = answer.get("schema"), answer.get("id")
        if not isinstance(text, str):
            raise NoAnswer("the registry's answer holds no schema")
        if (kind := answer.get("schemaType", "AVRO")) != "JSON":
            raise Unusable(f"it is a schema of type {str(kind)[:20]}; only JSON Schema can be used")
        references = self._references(answer.get("references"), ends)
        return Stored(text, references, id=schema_id if isinstance(schema_id, int) else None)

    def _references(self, references: Any, ends: float) -> dict[str, str]:
        """Return all that a schema refers to, directly or not; each is fetched once."""
        found: dict[str, str] = {}
        pending = list(references or ())
        while pending:
            reference = pending.pop()
            try:
                name, subject, version = reference["name"], reference["subject"], int(reference["version"])
            except (KeyError, TypeError, ValueError):
                raise NoAnswer("the registry's answer holds a reference that is none") from None
            if name in found:
                continue
            if len(found) + len(pending) >= MAX_REFERENCES:
                raise Unusable(f"it refers to more than {MAX_REFERENCES} schemas")
            try:
                answer = self._get(f"/subjects/{quote(subject, safe='')}/versions/{version}", ends)
            except NotThere:
                raise Unusable("it refers to a schema that is not in the registry") from None
            if not isinstance(text := answer.get("schema"), str):
                raise NoAnswer("the registry's answer holds no schema")
            found[name] = text
            pending += answer.get("references") or ()
        return found

    def _subjects(self, path: str, ends: float) -> dict[str, int]:
        try:
            answer = self._request("GET", path, ends=ends)
        except (NotThere, _NotFound):
            return {}  # a registry that has no such resource; a schema may say its type itself
        pairs = answer if isinstance(answer, list) else ()
        return {
            pair["subject"]: pair["version"]
            for pair in pairs
            if isinstance(pair, dict) and isinstance(pair.get("subject"), str) and isinstance(pair.get("version"), int)
        }

    # HTTP

    def _ends(self) -> float:
        return time.monotonic() + self._deadline

    def _get(self, path: str, ends: float) -> dict[str, Any]:
        try:
            return _object(self._request("GET", path, ends=ends))
        except _NotFound:
            # Only a registry that is really there can say that it has no such thing.
            if isinstance(self._request("GET", "/schemas/types", ends=ends), list):
                raise NotThere("not in the registry") from None
            raise

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _object(self._request("POST", path, body))

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, ends: float | None = None
    ) -> Any:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": _CONTENT}
        ends = ends or self._ends()
        answer = bytearray()
        try:
            with self._http.stream(method, path, content=content, headers=headers) as response:
                for piece in response.iter_bytes():
                    answer += piece
                    if len(answer) > MAX_SCHEMA_BYTES:
                        raise Unusable(f"it has more than {MAX_SCHEMA_BYTES:,} bytes")
                    if time.monotonic() > ends:  # the client's own limit is on each piece, not on the whole
                        raise NoAnswer("the registry's answer takes too long")
        except httpx.HTTPError as error:
            raise NoAnswer(f"no answer from the registry ({type(error).__name__})") from None
        return _meaning(response.status_code, bytes(answer))


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"ISTHMUS_SCHEMA_REGISTRY_CA: {ca} cannot be used ({error})") from None


def _meaning(status: int, answer: bytes) -> Any:
    """Return the answer's JSON, or raise what the status and the registry's own error code say."""
    try:
        content = orjson.loads(answer)
    except orjson.JSONDecodeError:
        content = None
    if status == 200 and content is not None:
        return content
    code = content.get("error_code") if isinstance(content, dict) else None
    # A status without the registry's own code comes from something in front of it.
    if status == 404 and code in _NOT_THERE:
        raise NotThere(f"not in the registry ({code})")
    if status in (409, 422) and code is not None:
        raise Rejected(str(content.get("message", ""))[:2000])
    if status == 404:
        raise _NotFound("the registry's URL leads nowhere (status 404)")
    if status in (401, 403):
        raise NoAnswer(f"the registry refuses our credentials ({status})")
    said = f", error code {code}" if isinstance(code, int) else ""
    raise NoAnswer(f"the registry's answer cannot be used (status {status}{said})")


def _object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise NoAnswer("the registry's answer is no object")
    return content


def _number(answer: Mapping[str, Any], name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int):
        raise NoAnswer(f"the registry's answer has no {name}")
    return value
