"""Reconciliation of a MongoDB collection with its copy in ``raw.source_current``, to the documents that differ.

What belongs here: reading both sides, and what a document's fields are. What does not: the order of looks
(``engine.py``), the driver (``resources.mongo``).

A server computes no hash of a document that the warehouse could compute too, so the collection is streamed, page by
page, and hashed here; the warehouse hashes its payloads by the same MD5. Buckets of the key's hash are the segments.
Of buckets that differ the keys are read in a second pass.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from assets.reconcile.engine import Report, Versions, judged, settled
from assets.reconcile.repair import COPIES
from assets.sources.mongo import MongoOrigin
from assets.sources.snapshot import Page
from ml.reconcile.classify import Key, Row
from ml.reconcile.segments import Sizes, Sums, candidates, differing, gathered
from resources.errors import SourceError
from resources.mongo import MongoResource
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from pymongo.collection import Collection

BUCKETS: Final = 1024
PAGE_ROWS: Final = 20_000
_OF = f"FROM {COPIES} WHERE source = {{source:String}} AND table_name = {{table:String}}"
_BUCKET = f"bitAnd(reinterpretAsUInt64(substring(MD5(key), 1, 8)), {BUCKETS - 1})"
_HASH = "reinterpretAsUInt64(substring(MD5(concat(key, char(31), payload)), 1, 8))"


def _md5(texts: Sequence[str]) -> Sums:
    joined = b"".join(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8] for text in texts)
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def fields(payload: str) -> Row:
    """Return a document's fields, each as JSON; a text that is no document is one field of no name."""
    try:
        found = json.loads(payload)
    except ValueError:
        return {"": payload}
    return {name: json.dumps(value) for name, value in found.items()} if isinstance(found, dict) else {"": payload}


@dataclass
class Documents:
    """A collection, read as it stands."""

    collection: Collection[dict[str, Any]]

    def _pages(self) -> Iterator[Page]:
        return MongoOrigin(self.collection, "").pages(None, PAGE_ROWS)

    def _hashed(self) -> Iterator[tuple[NDArray[np.str_], NDArray[np.intp], Sums]]:
        """Yield keys, buckets and hashes, page by page."""
        for page in self._pages():
            buckets = (_md5(page.keys) & np.uint64(BUCKETS - 1)).astype(np.intp)
            both = [f"{key}\x1f{payload}" for key, payload in zip(page.keys, page.payloads, strict=True)]
            yield np.array(page.keys, np.str_), buckets, _md5(both)

    def sizes(self) -> Sizes:
        """Return the sizes of all buckets."""
        rows, sums = np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.uint64)
        for keys, buckets, hashes in self._hashed():
            part = gathered(BUCKETS, buckets, np.ones(len(keys), np.int64), hashes)
            rows, sums = rows + part.rows, sums ^ part.checksums
        return Sizes(rows, sums)

    def hashes(self, chosen: NDArray[np.intp]) -> tuple[NDArray[np.str_], Sums]:
        """Return keys and hashes of the documents in these buckets."""
        keys: list[NDArray[np.str_]] = [np.array([], np.str_)]
        sums: list[Sums] = [np.array([], np.uint64)]
        for found, buckets, hashes in self._hashed():
            wanted = np.isin(buckets, chosen)
            keys.append(found[wanted])
            sums.append(hashes[wanted])
        return np.concatenate(keys), np.concatenate(sums)

    def rows(self, keys: Sequence[Key]) -> Versions:
        """Return the documents of these keys, each with its digest for a version."""
        from bson import json_util

        options = json_util.CANONICAL_JSON_OPTIONS
        ids = [json_util.loads(str(key), json_options=options) for key in keys]
        found: Versions = {}
        for one in self.collection.find({"_id": {"$in": ids}}):
            payload = json_util.dumps(one, json_options=json_util.RELAXED_JSON_OPTIONS)
            version = hashlib.md5(payload.encode(), usedforsecurity=False).hexdigest()
            found[json_util.dumps(one["_id"], json_options=options)] = (version, fields(payload))
        return found


@dataclass(frozen=True)
class Copies:
    """The warehouse's copies of one collection."""

    warehouse: Warehouse
    source: str
    table: str

    def _ask(self, select: str, more: str = "", **given: Any) -> Any:
        return self.warehouse.query_arrow(
            f"SELECT {select} {_OF} {more}",
            {"source": self.source, "table": self.table, **given},
        )

    def sizes(self) -> Sizes:
        """Return the sizes of all buckets."""
        found = self._ask(f"{_BUCKET} AS bucket_, count() AS rows_, groupBitXor({_HASH}) AS sum_", "GROUP BY bucket_")
        at = found.column("bucket_").to_numpy().astype(np.intp)
        rows = found.column("rows_").to_numpy().astype(np.int64)
        return gathered(BUCKETS, at, rows, found.column("sum_").to_numpy().astype(np.uint64))

    def hashes(self, chosen: NDArray[np.intp]) -> tuple[NDArray[np.str_], Sums]:
        """Return keys and hashes of the copies in these buckets."""
        condition = f"AND {_BUCKET} IN {{chosen:Array(UInt64)}}"
        found = self._ask(f"key AS key_, {_HASH} AS hash_", condition, chosen=chosen.tolist())
        return found.column("key_").to_numpy().astype(np.str_), found.column("hash_").to_numpy()

    def rows(self, keys: Sequence[Key]) -> dict[Key, list[Row]]:
        """Return the copies of these keys."""
        rows: dict[Key, list[Row]] = {}
        found = self._ask("key, payload", "AND key IN {keys:Array(String)}", keys=list(keys)) if keys else None
        for one in found.to_pylist() if found else []:
            rows.setdefault(one["key"], []).append(fields(one["payload"]))
        return rows


def reconcile_collection(
    mongo: MongoResource,
    warehouse: Warehouse,
    source: str,
    collection: str,
    target: str,
    *,
    lag: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Return the documents that differ from their copies; ``lag`` (seconds) is how far these may follow behind.

    Raises :class:`SourceError` where ``target`` is another table than that of the copies.
    """
    if target != COPIES:
        raise SourceError(f"collection {collection} is compared with {target}: only {COPIES} holds documents")
    began = clock()
    held = Copies(warehouse, source, collection)
    with mongo.collection(collection) as opened:
        documents = Documents(opened)
        left, right = documents.sizes(), held.sizes()
        wrong = differing(left, right)
        keys = candidates(*documents.hashes(wrong), *held.hashes(wrong)) if len(wrong) else []
        if lag <= 0:
            found, in_flight = judged(keys, documents.rows(keys) if keys else {}, held.rows(keys)), 0
        else:
            found, in_flight = settled(documents.rows, held.rows, keys, lag=lag, clock=clock, sleep=sleep)
    counts = int(left.rows.sum()), int(right.rows.sum())
    return Report(collection, target, *counts, BUCKETS, len(wrong), tuple(found), in_flight, seconds=clock() - began)
