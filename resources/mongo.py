"""MongoDB as an operational source, as a Dagster resource that works without Dagster too.

What belongs here: the client, pages of a collection, and the driver's errors as ours. What does not: where they go
(``assets.sources``). Only the erasure of persons writes, by a URL of its own.

The driver comes with the extra ``sources``; it is imported when it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic import Field

from resources.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    from pymongo.collection import Collection

#: Types of ``_id`` in their order. A comparison of MongoDB sees values of one type only, so pages go type by type.
ID_TYPES: Final = (
    "null", "number", "string", "object", "binData", "objectId", "bool", "date", "timestamp", "regex",
)  # fmt: skip


class MongoResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One MongoDB database, or what speaks its protocol."""

    url: str = Field(description="URL with the database's name, user and password where there are any.", repr=False)
    timeout: float = Field(default=5.0, description="Seconds to wait for a server.")

    @contextmanager
    def collection(self, name: str) -> Iterator[Collection[dict[str, Any]]]:
        """Yield a collection, read by the majority's state.

        Raises :class:`SourceUnavailable` where the server cannot be reached or is lost inside the block,
        :class:`SourceError` where it refuses or the URL names no database.
        """
        try:
            import pymongo
        except ImportError:
            raise SourceError("the MongoDB driver is not installed: install isthmus[sources]") from None
        # At DEBUG the driver logs commands and answers whole: keys and documents.
        logging.getLogger("pymongo.command").setLevel(logging.WARNING)
        with typed():
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                self.url,
                serverSelectionTimeoutMS=int(self.timeout * 1000),
                appname="isthmus",
                tz_aware=True,
                uuidRepresentation="standard",
            )
            with client:
                try:
                    database = client.get_default_database()
                except pymongo.errors.ConfigurationError:
                    raise SourceError("the source's MongoDB URL names no database (mongodb://host/database)") from None
                yield database[name]


def page(
    collection: Collection[dict[str, Any]], *, after: dict[str, Any] | None, limit: int
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return up to ``limit`` documents in the order of ``_id``, and the place after them; None is the end.

    A place is ``{"type": a type's number, "id": the last _id or absent}``.
    """
    place = after or {"type": 0}
    found: list[dict[str, Any]] = []
    for number in range(place["type"], len(ID_TYPES)):
        condition: dict[str, Any] = {"$type": ID_TYPES[number]}
        if number == place["type"] and "id" in place:
            condition["$gt"] = place["id"]
        found += collection.find({"_id": condition}).sort("_id", 1).limit(limit - len(found))
        if len(found) >= limit:
            return found, {"type": number, "id": found[-1]["_id"]}
    return found, None


@contextmanager
def typed() -> Iterator[None]:
    """Turn the driver's errors into ours; texts that may hold an address or a document are left out."""
    import pymongo.errors

    try:
        yield
    except (pymongo.errors.ConnectionFailure, pymongo.errors.ExecutionTimeout) as error:
        raise SourceUnavailable(f"MongoDB: {type(error).__name__}") from None
    except pymongo.errors.PyMongoError as error:
        raise SourceError(f"MongoDB: {type(error).__name__} {getattr(error, 'code', None) or ''}".strip()) from None
