"""A snapshot of a source's table into ``raw.source_rows``, each row once, whatever is killed meanwhile.

What belongs here: pages, their digests and tokens, and the order of writes that makes rows count. What does not:
reading a source (``postgres.py``, ``mongo.py``), Dagster.

A page is inserted under a token of its snapshot, number and digest, then noted; the snapshot is noted after its last
page. A run that comes after a killed one goes on after the last noted page if it copies the same snapshot. A page that
was inserted and not noted is inserted again: the same rows are dropped by their token, other rows have another digest,
and only the digest that is noted is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

from assets.erased import guard as erased_persons
from ml.privacy.guard import Guard
from resources.errors import WarehouseError
from resources.settings import get_settings
from resources.warehouse import Warehouse

#: Whole snapshots of a table that are kept.
KEEP = 2


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order of their keys: JSON texts, as many keys as payloads; ``last`` is where the next page begins."""

    keys: Sequence[str]
    payloads: Sequence[str]
    last: Any


class Origin(Protocol):
    """A state of a table that can be read in pages."""

    #: What the source calls the state; empty where it has no name for it.
    position: str
    #: Whether all rows are of one moment.
    consistent: bool

    @property
    def identity(self) -> str:
        """Name of what is copied: copies of one name are one."""

    def pages(self, after: Any, size: int) -> Iterator[Page]:
        """Yield the pages after a place (None: from the beginning), the same ones for the same state."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying a snapshot came to; ``resumed`` pages stood there already."""

    snapshot_id: str
    rows: int
    pages: int
    resumed: int


def copy(
    origin: Origin, warehouse: Warehouse, *, source: str, table: str, run_id: str, page_rows: int = 20_000
) -> Copied:
    """Copy the state ``origin`` of a table; the same state copied again changes nothing.

    Raises the errors of either side; what was copied until then is used by the next run where the state is the same.
    """
    name = f"{source}\x1f{table}\x1f{page_rows}\x1f{origin.identity}"
    snapshot = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    done = warehouse.query_rows(
        "SELECT rows, pages FROM raw.source_snapshots FINAL WHERE snapshot_id = {id:String}", {"id": snapshot}
    )
    if done and _standing(warehouse, snapshot) == done[0]["rows"]:
        return Copied(snapshot, done[0]["rows"], done[0]["pages"], done[0]["pages"])
    noted = [] if done else _noted(warehouse, snapshot)
    rows, number = sum(page["rows"] for page in noted), len(noted)
    resumed = number
    after = json.loads(noted[-1]["last_key"]) if noted else None
    guard = erased_persons(warehouse, get_settings())
    if not noted or after is not None:
        for whole in origin.pages(after, page_rows):
            page = without(whole, guard)
            _insert(warehouse, (source, table, snapshot), number, page)
            rows, number = rows + len(page.keys), number + 1
    warehouse.insert_rows(
        "raw.source_snapshots",
        [
            {
                "source": source,
                "table_name": table,
                "snapshot_id": snapshot,
                "position": origin.position,
                "consistent": origin.consistent,
                "rows": rows,
                "pages": number,
                "run_id": run_id,
            }
        ],
        token=token_hex(8),
    )
    _forget(warehouse, source, table)
    return Copied(snapshot, rows, number, resumed)


def without(page: Page, guard: Guard) -> Page:
    """Return ``page`` without the rows of persons who were erased here and still stand in the source."""
    if not guard or not page.keys:
        return page
    import pyarrow as pa

    theirs = guard.mentions([pa.array(page.keys, pa.string()), pa.array(page.payloads, pa.string())])
    kept = (~theirs).nonzero()[0].tolist()
    return Page([page.keys[at] for at in kept], [page.payloads[at] for at in kept], page.last)


def _noted(warehouse: Warehouse, snapshot: str) -> list[dict[str, Any]]:
    """Return the noted pages from the first on, up to the first that is missing."""
    pages = warehouse.query_rows(
        "SELECT page, rows, last_key FROM raw.source_pages FINAL WHERE snapshot_id = {id:String} ORDER BY page",
        {"id": snapshot},
    )
    return [page for at, page in enumerate(pages) if page["page"] == at]


def _standing(warehouse: Warehouse, snapshot: str) -> int:
    """Return how many rows of a snapshot's noted pages stand in the table."""
    found = warehouse.query_rows(
        "SELECT uniqExact(key) AS rows FROM raw.source_rows WHERE snapshot_id = {id:String} AND (page, digest) IN"
        " (SELECT page, digest FROM raw.source_pages FINAL WHERE snapshot_id = {id:String})",
        {"id": snapshot},
    )
    return int(found[0]["rows"])


def _insert(warehouse: Warehouse, of: tuple[str, str, str], number: int, page: Page) -> None:
    """Insert a page of a source's table's snapshot, and note it."""
    import pyarrow as pa

    source, table, snapshot = of

    rows = len(page.keys)
    joined = "\x1e".join(page.payloads) + "\x1d" + "\x1e".join(page.keys)
    digest = hashlib.blake2b(joined.encode(), digest_size=12).hexdigest()
    if rows:
        columns = pa.table(
            {
                "source": pa.array([source], pa.string()).take(pa.array([0] * rows)),
                "table_name": pa.array([table], pa.string()).take(pa.array([0] * rows)),
                "snapshot_id": pa.array([snapshot], pa.string()).take(pa.array([0] * rows)),
                "page": pa.array([number], pa.uint32()).take(pa.array([0] * rows)),
                "digest": pa.array([digest], pa.string()).take(pa.array([0] * rows)),
                "key": pa.array(page.keys, pa.string()),
                "payload": pa.array(page.payloads, pa.string()),
            }
        )
        token = f"{snapshot}/{number}/{digest}"
        warehouse.insert_arrow("raw.source_rows", columns, token=token)
        if _there(warehouse, snapshot, number, digest) != rows:
            # A token that is known though its rows were dropped since, with an older copy of the same state.
            warehouse.insert_arrow("raw.source_rows", columns, token=f"{token}#{token_hex(8)}")
            if (there := _there(warehouse, snapshot, number, digest)) != rows:
                raise WarehouseError(f"raw.source_rows holds {there} of {rows} rows of page {number} of {snapshot}")
    note = {"snapshot_id": snapshot, "page": number, "digest": digest, "rows": rows, "last_key": json.dumps(page.last)}
    warehouse.insert_rows("raw.source_pages", [note], token=token_hex(8))


def _there(warehouse: Warehouse, snapshot: str, number: int, digest: str) -> int:
    found = warehouse.query_rows(
        "SELECT uniqExact(key) AS rows FROM raw.source_rows"
        " WHERE snapshot_id = {id:String} AND page = {page:UInt32} AND digest = {digest:String}",
        {"id": snapshot, "page": number, "digest": digest},
    )
    return int(found[0]["rows"])


def _forget(warehouse: Warehouse, source: str, table: str) -> None:
    """Drop what is neither one of the newest whole snapshots nor anybody's: rows of killed runs among it."""
    old = warehouse.query_rows(
        """
        SELECT DISTINCT toString(snapshot_id) AS id FROM raw.source_rows
        WHERE source = {source:String} AND table_name = {table:String} AND snapshot_id NOT IN (
            SELECT snapshot_id FROM raw.source_snapshots FINAL
            WHERE source = {source:String} AND table_name = {table:String}
            ORDER BY completed_at DESC LIMIT {keep:UInt32})
        """,
        {"source": source, "table": table, "keep": KEEP},
    )
    for one in old:
        # The pages first: notes without rows would be taken for copied ones.
        warehouse.command(
            "ALTER TABLE raw.source_pages DELETE WHERE snapshot_id = {id:String} SETTINGS mutations_sync = 1",
            {"id": one["id"]},
            idempotent=True,
        )
        warehouse.command("ALTER TABLE raw.source_rows DROP PARTITION {id:String}", {"id": one["id"]}, idempotent=True)
