"""Tables of PostgreSQL in pages of their primary key, all of one snapshot.

What belongs here: the statements. What does not: where the pages go (``snapshot.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.sources.snapshot import Page
from ml.reconcile.postgres import quoted
from resources.errors import SourceError
from resources.postgres import PostgresResource, TableColumn, columns_of, position

if TYPE_CHECKING:
    from resources.postgres import Connection

# Names whose cast without a length means one character, or one bit.
_WHOLE = {"character": "bpchar", "bit": "varbit"}


@dataclass
class PostgresOrigin:
    """A table as one transaction sees it; the same position is the same state, and so the same pages."""

    connection: Connection
    table: str
    key: list[TableColumn]
    position: str
    consistent: bool = True

    @property
    def identity(self) -> str:
        """The state's name."""
        return self.position

    def pages(self, after: Any, size: int) -> Iterator[Page]:
        """Yield pages of ``size`` rows after a key (its values as texts); the last is shorter, and may be empty."""
        name = ".".join(quoted(part) for part in self.table.split(".", 1))
        names = [quoted(column.name) for column in self.key]
        types = [_WHOLE.get(column.type, column.type) for column in self.key]
        texts = ", ".join(f"{each}::text" for each in names)
        select = f"SELECT json_build_array({texts})::text, row_to_json(row_)::text FROM {name} AS row_"  # noqa: S608
        order = f"ORDER BY {', '.join(names)} LIMIT {int(size)}"
        above = f"({', '.join(names)}) > ({', '.join(f'%s::{type_}' for type_ in types)})"
        while True:
            if after is None:
                rows = self.connection.execute(f"{select} {order}".encode()).fetchall()
            else:
                condition = f"{select.replace('%', '%%')} WHERE {above} {order.replace('%', '%%')}"
                rows = self.connection.execute(condition.encode(), after).fetchall()
            keys, payloads = ([row[0] for row in rows], [row[1] for row in rows])
            after = json.loads(keys[-1]) if len(rows) == size else None
            yield Page(keys, payloads, after)
            if after is None:
                return


@contextmanager
def postgres_origin(resource: PostgresResource, table: str) -> Iterator[PostgresOrigin]:
    """Yield the table's state now; raises :class:`SourceError` where it has no primary key."""
    with resource.reading() as (connection,):
        key = sorted((one for one in columns_of(connection, table) if one.key), key=lambda one: one.key)
        if not key:
            raise SourceError(f"{table} has no primary key: its rows cannot be told apart, give it one")
        yield PostgresOrigin(connection, table, key, position(connection))
