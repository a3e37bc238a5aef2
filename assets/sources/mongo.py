"""Collections of MongoDB in pages of their ``_id``.

What belongs here: pages as JSON texts. What does not: the query (``resources.mongo``), and where the pages go
(``snapshot.py``).

A server may have no snapshots, so none is asked for: each document is as it was at some moment of the copy, and each
that stood there from its beginning to its end is in it once. A copy that was cut off goes on where it was, under the
same name, for it promises no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.sources.snapshot import Page
from resources.mongo import MongoResource, page

if TYPE_CHECKING:
    from pymongo.collection import Collection


@dataclass
class MongoOrigin:
    """A collection, copied under the name of the run that began to."""

    collection: Collection[dict[str, Any]]
    identity: str
    position: str = ""
    consistent: bool = False

    def pages(self, after: Any, size: int) -> Iterator[Page]:
        """Yield pages of up to ``size`` documents after a place (in extended JSON)."""
        from bson import json_util

        options = json_util.CANONICAL_JSON_OPTIONS
        place = json_util.loads(after, json_options=options) if after is not None else None
        while True:
            documents, place = page(self.collection, after=place, limit=size)
            after = json_util.dumps(place, json_options=options) if place is not None else None
            keys = [json_util.dumps(one["_id"], json_options=options) for one in documents]
            relaxed = json_util.RELAXED_JSON_OPTIONS
            yield Page(keys, [json_util.dumps(one, json_options=relaxed) for one in documents], after)
            if place is None:
                return


@contextmanager
def mongo_origin(resource: MongoResource, collection: str, *, run_id: str) -> Iterator[MongoOrigin]:
    """Yield the collection, to be copied under the name of the run (the first of those that try)."""
    with resource.collection(collection) as opened:
        yield MongoOrigin(opened, run_id)
