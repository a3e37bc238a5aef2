"""What payment and notification keep, in PostgreSQL.

What belongs here: each effect and how it is undone, once whatever is repeated. What does not: how a call gets here,
and the inventory (``stock``).

Every effect is kept under the idempotency key of its step. Undoing leaves a mark also where nothing was done: a call
that was given up may arrive after it, and must not take effect then.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS shop_charges (
        key text PRIMARY KEY, order_id text NOT NULL, amount numeric NOT NULL,
        state text NOT NULL CHECK (state IN ('charged', 'voided')), at timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE IF NOT EXISTS shop_messages (
        key text PRIMARY KEY, order_id text NOT NULL, withdrawn boolean NOT NULL DEFAULT false,
        at timestamptz NOT NULL DEFAULT now())""",
)
_LIMIT: Final = 1_000.0
"""Charges above it are declined."""


class _Tables:
    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        """Create the tables. Two participants may do so at the same time: a lock of the database's own orders them."""
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('shop'))")
            for statement in _TABLES:
                await connection.execute(statement)

    async def _run(self, sql: str, values: tuple[Any, ...]) -> str | None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            cursor = await connection.execute(sql, values)
            row = await cursor.fetchone() if cursor.description else None
            return None if row is None else str(row[0])


class Charges(_Tables):
    """Payment."""

    async def do(self, key: str, order: dict[str, Any]) -> str:
        """Charge once; large amounts are declined."""
        if order["amount"] > _LIMIT:
            return "CardDeclined"
        # A repetition changes nothing, and tells the state as it is.
        state = await self._run(
            "INSERT INTO shop_charges (key, order_id, amount, state) VALUES (%s, %s, %s, 'charged') "
            "ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING state",
            (key, order["order"], order["amount"]),
        )
        return "" if state == "charged" else "Voided"

    async def undo(self, key: str, order: dict[str, Any]) -> None:
        """Void the charge."""
        await self._run(
            "INSERT INTO shop_charges (key, order_id, amount, state) VALUES (%s, %s, %s, 'voided') "
            "ON CONFLICT (key) DO UPDATE SET state = 'voided'",
            (key, order["order"], order["amount"]),
        )


class Messages(_Tables):
    """Notification."""

    async def do(self, key: str, order: dict[str, Any]) -> str:
        """Send once."""
        await self._run(
            "INSERT INTO shop_messages (key, order_id) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING",
            (key, order["order"]),
        )
        return ""

    async def undo(self, key: str, order: dict[str, Any]) -> None:
        """Withdraw the message."""
        await self._run(
            "INSERT INTO shop_messages (key, order_id, withdrawn) VALUES (%s, %s, true) "
            "ON CONFLICT (key) DO UPDATE SET withdrawn = true",
            (key, order["order"]),
        )
