"""The warehouse: ClickHouse over HTTP, as a Dagster resource that works without Dagster too.

What belongs here: the connection, its retries and its typed errors. What does not: SQL of a capability, which stays
with the capability, and table definitions (``migrations/``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import dagster as dg
from pydantic import Field

from resources.errors import WarehouseError, WarehouseUnavailable, retrying
from resources.settings import get_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from clickhouse_connect.driver.client import Client

# ClickHouse's codes that say "not now" rather than "never": time-outs, limits of the moment, space, lost peers.
RETRYABLE_CODES = frozenset(
    {3, 159, 160, 202, 209, 210, 225, 236, 241, 242, 243, 252, 279, 285, 290, 319, 394, 439, 473, 999}
)

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_clients: dict[str, Client] = {}
_lock = Lock()


def _forget_clients() -> None:
    """Give a forked child a lock that nobody holds and no socket that its parent still reads from."""
    global _lock
    _lock = Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forget_clients)


class Warehouse(Protocol):
    """What code that reads or writes the warehouse may rely on; the resource and its fake both keep it."""

    def query_arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the result as an Arrow table."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None, *, idempotent: bool = False) -> Any:
        """Run one statement."""

    def insert_arrow(
        self, table: str, data: pa.Table, *, token: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Append an Arrow table."""

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        """Append rows."""


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """ClickHouse over HTTP. Every method may be called from any thread of any process."""

    url: str = Field(
        default="",
        description="ClickHouse over HTTP, user and password in it; empty: the settings' warehouse.",
        repr=False,
    )
    attempts: int = Field(
        default=6, description="How often a call that the warehouse could not take now is tried, at most."
    )
    connect_timeout: float = Field(default=5.0, description="Seconds to wait for a connection.")
    timeout: float = Field(default=300.0, description="Seconds to wait for an answer.")

    def client(self) -> Client:
        """Return this process's client; made at first use, shared by all threads (it keeps no session).

        Raises :class:`WarehouseUnavailable` where the warehouse does not answer, :class:`WarehouseError` where it
        refuses the credentials.
        """
        dsn = self.url or get_settings().warehouse_dsn()
        key = f"{dsn}|{self.connect_timeout}|{self.timeout}"
        client = _clients.get(key)
        if client is None:
            with _lock:
                client = _clients.get(key)
                if client is None:
                    client = _clients[key] = self._connect(dsn)
        return client

    def _connect(self, dsn: str) -> Client:
        import clickhouse_connect

        parts = urlsplit(dsn)
        host = parts.hostname or "127.0.0.1"
        try:
            return clickhouse_connect.get_client(
                interface=parts.scheme,
                host=host,
                port=parts.port or (8443 if parts.scheme == "https" else 8123),
                username=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                database=parts.path.strip("/") or None,
                # One session per client would let one query at a time through.
                autogenerate_session_id=False,
                # On loopback compression costs processor time and saves nothing.
                compress=host not in _LOOPBACK,
                connect_timeout=self.connect_timeout,
                send_receive_timeout=self.timeout,
                tz_mode="aware",
                client_name="isthmus",
            )
        except Exception as error:  # noqa: BLE001 (sorted by _typed, which hands back what is not the client's)
            raise _typed(error, unquote(parts.password or "")) from None

    def query_arrow(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """Return the result of ``sql`` as an Arrow table; ``{name:Type}`` in it takes ``parameters``.

        ``settings`` are ClickHouse's, for this query alone.
        """
        table: pa.Table = self._call(
            lambda client: client.query_arrow(
                sql, parameters=dict(parameters or {}), settings=dict(settings or {}), use_strings=True
            ),
            idempotent=True,
        )
        return table

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result of ``sql`` as one dict a row, times as aware datetimes in UTC."""

        def query(client: Client) -> list[dict[str, Any]]:
            result = client.query(sql, parameters=dict(parameters or {}))
            return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

        rows: list[dict[str, Any]] = self._call(query, idempotent=True)
        return rows

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None, *, idempotent: bool = False) -> Any:
        """Run one statement and return its first value or summary.

        Say ``idempotent`` where running it twice does what running it once does: it is then repeated after a lost
        connection too, not only where the request never left.
        """
        return self._call(lambda client: client.command(sql, parameters=dict(parameters or {})), idempotent=idempotent)

    def insert_arrow(
        self, table: str, data: pa.Table, *, token: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Append ``data`` to ``table`` (``database.table``); the columns are matched by name.

        With a ``token`` the same insert repeated is taken once (within the table's deduplication window), so it is
        retried; without one it is retried only where the request never left.
        """
        import pyarrow as pa

        # Measured first: a sink that grows copies what it holds.
        measure = pa.MockOutputStream()
        _write(measure, data)
        body = pa.allocate_buffer(measure.size())
        _write(pa.FixedSizeBufferWriter(body), data)
        self.insert_stream(table, data.schema.names, body, token=token, settings=settings)

    def insert_stream(
        self,
        table: str,
        columns: Sequence[str],
        stream: Any,
        *,
        token: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an Arrow IPC stream (any buffer) that is built already; see :meth:`insert_arrow`."""
        options: dict[str, Any] = {**(settings or {})}
        if token is not None:
            options |= {"insert_deduplicate": 1, "insert_deduplication_token": token}
        body = memoryview(stream)
        self._call(
            lambda client: client.raw_insert(table, list(columns), body, settings=options, fmt="ArrowStream"),
            idempotent=token is not None,
        )

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        """Append ``rows``, one dict each, to ``table``; a column that a row lacks gets its default.

        Datetimes must be aware. For thousands of rows; :meth:`insert_arrow` is the way for more.
        """
        import orjson

        if not rows:
            return
        body = b"\n".join(
            orjson.dumps(dict(row), default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME) for row in rows
        )
        columns = list(dict.fromkeys(name for row in rows for name in row))
        options: dict[str, Any] = {"date_time_input_format": "best_effort", "input_format_skip_unknown_fields": 0}
        if token is not None:
            options |= {"insert_deduplicate": 1, "insert_deduplication_token": token}
        self._call(
            lambda client: client.raw_insert(table, columns, body, settings=options, fmt="JSONEachRow"),
            idempotent=token is not None,
        )

    def _call(self, use: Any, *, idempotent: bool) -> Any:
        def once() -> Any:
            client = self.client()
            try:
                return use(client)
            except Exception as error:  # noqa: BLE001 (sorted by _typed)
                raise _typed(error, getattr(client, "password", "") or "") from None

        return retrying(once, attempts=self.attempts, idempotent=idempotent)


def _write(sink: Any, data: pa.Table) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a datetime without a time zone could mean any instant")
        return value.astimezone(UTC).isoformat()
    return str(value)


def _typed(error: Exception, password: str) -> Exception:
    """Return ``error`` of the client as ours, the password cut out of its text; programming errors as they are."""
    from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
    from urllib3.exceptions import HTTPError, NewConnectionError

    if isinstance(error, WarehouseError):
        return error
    if not isinstance(error, (ClickHouseError, HTTPError, OSError)):
        return error
    text = str(error)
    if password:
        text = text.replace(password, "***")
    code = getattr(error, "code", None)
    if code is not None:
        # A server whose disk ran full in mid-write says so in the text, under the code of whatever it was writing.
        passing = code in RETRYABLE_CODES or "No space left on device" in text
        return WarehouseUnavailable(text, code) if passing else WarehouseError(text, code)
    # A proxy's or a starting server's answer: no ClickHouse code in it.
    if isinstance(error, (OperationalError, HTTPError, OSError)) or re.search(r"HTTP status (429|50[234])\b", text):
        chain: BaseException | None = error
        refused = False
        while chain is not None and not refused:
            refused = isinstance(chain, (NewConnectionError, ConnectionRefusedError))
            if refused:
                text = f"the warehouse does not answer: {chain}"
            chain = chain.__cause__ or chain.__context__ or getattr(chain, "reason", None)
        return WarehouseUnavailable(text, sent=not refused)
    return WarehouseError(text)
