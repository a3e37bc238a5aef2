"""PostgreSQL as an operational source, as a Dagster resource that works without Dagster too.

What belongs here: connections that read one snapshot, the catalogue's columns, and the driver's errors as ours. What
does not: what is read (``assets.sources``, ``assets.reconcile``). Every transaction is read only, but for the erasure
of persons (:meth:`PostgresResource.writing`), which has a URL of its own.

The driver comes with the extra ``sources``; it is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from resources.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

#: Aggregates and scans that reading relies on (bit_xor, scans of a range of pages).
OLDEST = 140_000


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column by the catalogue; ``type`` is ``format_type``'s name, ``key`` its place in the primary key or 0."""

    name: str
    type: str
    nullable: bool
    key: int
    scale: int | None


class PostgresResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One PostgreSQL database that tables are read from."""

    url: str = Field(description="URL, with user and password where there are any.", repr=False)
    timeout: float = Field(default=5.0, description="Seconds to wait for a connection.")

    @contextmanager
    def reading(self, connections: int = 1) -> Iterator[list[Connection]]:
        """Yield connections that see one and the same snapshot of the database, until the block ends.

        Raises :class:`SourceUnavailable` where the server cannot be reached or the connection is lost inside the
        block, :class:`SourceError` where it refuses.
        """
        with typed(), ExitStack() as stack:
            first = stack.enter_context(self._connection())
            snapshot = _one(first, "SELECT pg_export_snapshot()") if connections > 1 else None
            others = [stack.enter_context(self._connection(snapshot)) for _ in range(connections - 1)]
            yield [first, *others]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection outside of any transaction; raises as :meth:`reading` does."""
        with typed(), self._opened() as connection:
            yield connection

    @contextmanager
    def _connection(self, snapshot: str | None = None) -> Iterator[Connection]:
        with self._opened() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")  # takes no parameter; it is the server's
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        try:
            import psycopg
        except ImportError:
            raise SourceError("the PostgreSQL driver is not installed: install isthmus[sources]") from None
        # Texts of times and numbers are the same whatever the server's or the role's defaults are.
        options = "-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1 -c bytea_output=hex -c jit=off"
        with psycopg.connect(
            self.url, autocommit=True, connect_timeout=int(self.timeout), options=options, application_name="isthmus"
        ) as connection:
            if connection.info.server_version < OLDEST:
                raise SourceError("PostgreSQL 14 or later is needed")
            yield connection


def columns_of(connection: Connection, table: str) -> list[TableColumn]:
    """Return the columns of ``table`` (``schema.table``), in their order; raises :class:`SourceError` where none is."""
    from psycopg import sql

    found = connection.execute(
        """
        SELECT a.attname, format_type(a.atttypid, NULL), NOT a.attnotnull,
            coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0),
            CASE WHEN a.atttypid = 'numeric'::regtype AND a.atttypmod >= 4 THEN (a.atttypmod - 4) & 65535 END
        FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        [sql.Identifier(*table.split(".", 1)).as_string(connection)],
    ).fetchall()
    if not found:
        raise SourceError(f"there is no table {table}, or the source's role may not see it")
    return [TableColumn(*row) for row in found]


def position(connection: Connection) -> str:
    """Return the name of the state that the connection's transaction sees: two that are equal show the same rows."""
    return str(
        _one(
            connection,
            "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database() || '/'"
            " || pg_current_snapshot()",
        )
    )


def _one(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def typed() -> Iterator[None]:
    """Turn the driver's errors into ours; texts that may hold an address or a row are left out."""
    try:
        import psycopg
    except ImportError:
        raise SourceError("the PostgreSQL driver is not installed: install isthmus[sources]") from None
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise SourceUnavailable(f"PostgreSQL: {type(error).__name__} {error.sqlstate or ''}".strip()) from None
    except psycopg.Error as error:
        raise SourceError(f"PostgreSQL: {type(error).__name__} {error.sqlstate or ''}".strip()) from None
