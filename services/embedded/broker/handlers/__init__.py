"""Request handlers: one function per request type, from message to message.

What belongs here: translating between the wire's messages and the broker's parts. What does not: state. A handler takes
the broker, the request and its :class:`Context`; it returns the response, or None where the client wants no answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.embedded.broker.wire import Message

if TYPE_CHECKING:
    from services.embedded.broker.core import Broker


@dataclass(frozen=True)
class Context:
    """Who asks, and in which version."""

    client_id: str
    version: int


Handler = Callable[["Broker", Message, Context], Awaitable[Message | None]]


def partitions(request: Message) -> list[tuple[str, Message]]:
    """Return (topic, partition message) for every partition of a request that lists partitions by topic."""
    return [(topic["name"], part) for topic in request["topics"] for part in topic["partitions"]]


def by_topic(results: list[tuple[str, Message]]) -> list[Message]:
    """Return partition results grouped by topic, as responses list them."""
    grouped: dict[str, list[Message]] = {}
    for name, result in results:
        grouped.setdefault(name, []).append(result)
    return [{"name": name, "partitions": parts} for name, parts in grouped.items()]
