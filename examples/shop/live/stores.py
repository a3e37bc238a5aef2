"""What a participant has behind its HTTP side: an effect, and its undoing.

What belongs here: the protocol. What does not: any store (``tables``, ``stock``).

Every effect is kept under the idempotency key of its step. Undoing leaves a mark also where nothing was done: a call
that was given up may arrive after it, and must not take effect then.
"""

from __future__ import annotations

from typing import Any, Protocol


class Store(Protocol):
    """What a participant does for an order. Returns why the business declines it; empty where it is done."""

    async def open(self) -> None:
        """Make what is missing."""

    async def do(self, key: str, order: dict[str, Any]) -> str:
        """Take effect once for ``key``."""

    async def undo(self, key: str, order: dict[str, Any]) -> None:
        """Take the effect of ``key`` back, or keep it from coming."""
