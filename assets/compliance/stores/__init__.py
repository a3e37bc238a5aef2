"""Stores: every place where the platform may hold something of a person, each behind the same two calls.

What belongs here: what a store is, and the list of them. What does not: requests, proofs and Dagster
(``assets.compliance``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ml.privacy.matching import Matcher
from resources.errors import Unavailable
from resources.kafka import KafkaResource
from resources.settings import Settings
from resources.warehouse import WarehouseResource


class NotYet(Unavailable):
    """A store cannot let go of the person now; the message says what is waited for, without any value."""


class Item(NamedTuple):
    """A row, document, record, key or file that mentions the person, or (``near``) holds an identifier in a longer
    word; ``kept`` is the legal basis on which it stays, empty for none."""

    place: str
    content: Any
    near: bool = False
    kept: str = ""


@dataclass(slots=True)
class Notes:
    """What a store says of its erasure beside counts, in words that hold no value."""

    how: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Store(Protocol):
    """One store. ``absent`` says why there is none here, ``foreign`` why its erasure is another's to do."""

    name: str
    absent: str
    foreign: str

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield what mentions the person, by a search of all bytes; raises :class:`ResourceError`."""

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Take it away. Repeating it, after a kill at any point too, does what doing it once does."""


def stores(settings: Settings, warehouse: WarehouseResource, kafka: KafkaResource) -> list[Store]:
    """Return every store, in the order of erasure: sources first and the warehouse after all that fills it."""
    from assets.compliance.stores.bus import BusStore
    from assets.compliance.stores.files import FileStore, SqliteStore, TrackingStore
    from assets.compliance.stores.keys import KeyStore
    from assets.compliance.stores.sources import source_store
    from assets.compliance.stores.warehouse import WarehouseStore

    return [
        *(source_store(name, source) for name, source in settings.sources.items()),
        KeyStore(settings),
        BusStore(kafka, warehouse),
        WarehouseStore(warehouse),
        FileStore(settings.home),
        TrackingStore(settings),
        SqliteStore(settings.home),
    ]
