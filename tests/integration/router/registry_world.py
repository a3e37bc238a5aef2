"""A registry, and a router's view of it: what the tests of the schema registry share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from services.router.registry import RegistrySchemas
from services.router.registry.cache import RegistryCache
from services.router.registry.client import RegistryClient
from services.router.registry.source import RegistrySource
from services.router.routing import Refused, Routed, route
from tests.integration.router.registry_server import Registry

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
ORDER = "com.acme.order"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A registry, and a router's view of it."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry, self.folder, self.clock = registry, folder, Clock()
        self.topics: list[str] = []
        self.restart()

    def restart(self, read_seconds: float = 20.0) -> None:
        client = RegistryClient(self.registry.url, read_seconds=read_seconds)
        self.source = RegistrySource(client, RegistryCache(self.folder, client.url), clock=self.clock)
        self.schemas = RegistrySchemas(self.source, make_topic=self.topics.append)

    def fate(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Routed | Refused:
        return route(value, b"k", headers, NOW, b"key", schemas=self.schemas)

    def routed(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Routed:
        result = self.fate(value, headers)
        assert isinstance(result, Routed), result
        return result

    def refused(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Refused:
        result = self.fate(value, headers)
        assert isinstance(result, Refused), result
        return result

    def asked(self, path: str) -> int:
        return self.registry.requests[f"GET {path}"]


def order(data: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/acme",
        "type": ORDER,
        "subject": "o-1",
        "time": "2026-05-04T08:00:00Z",
        "data": {"total": 3, **(data or {})},
    }
    return orjson.dumps({**event, **attributes})


def order_schema(**more: Any) -> dict[str, Any]:
    """As a producer with a library of its own would register it: draft 7, the whole event, references inside."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": ORDER,
        "type": "object",
        "required": ["type", "data"],
        "definitions": {"name": {"type": "string", "x-pii": "hash"}},
        "properties": {
            "type": {"const": ORDER},
            "data": {
                "type": "object",
                "required": ["total"],
                "properties": {"total": {"type": "number"}, "customer": {"$ref": "#/definitions/name"}},
                "additionalProperties": False,
            },
        },
        "x-topic": "acme.orders",
        **more,
    }


def framed(number: int, value: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + value
