"""The work of one event, the same for each peer: our own validation, field rules and choice of topic."""

from __future__ import annotations

from datetime import UTC, datetime

from events.catalogue import DEAD_LETTER
from services.router.routing import Routed, route

HASH_KEY = b"key of the benchmark"


def work(value: bytes, key: bytes | None) -> tuple[str, bytes, bytes | None]:
    """Return topic, key and value of what becomes of a record."""
    result = route(value, key, None, datetime.now(UTC), HASH_KEY)
    if isinstance(result, Routed):
        return result.topic, result.key, result.value
    return DEAD_LETTER, key or b"", value
