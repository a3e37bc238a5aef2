"""A source of events in memory: columns per event type, one time order over all, bytes made only when asked for.

What belongs here: the form that every producer of examples (the shop, the data-set adapters) gives its events in. What
does not: where the columns come from, and sending them (``examples.replay``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from events.catalogue import TYPES
from events.schemas import urn

Ints = NDArray[np.int64]


class Message(NamedTuple):
    """One record as it goes to the broker."""

    topic: str  # domain topic of its type; the router decides by the catalogue as well
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Events of one type from one producer, as equally long columns."""

    type: str
    source: str  # CloudEvents `source`
    times: Ints  # event time, microseconds since the epoch (UTC)
    ids: Sequence[str]  # CloudEvents `id`; a repeated id is a producer's duplicate and must have equal content
    subjects: Sequence[str]
    data: dict[str, Sequence[Any]]  # payload column by name; None leaves the field out
    attributes: dict[str, Sequence[Any]] = field(default_factory=dict)  # columns of the payload's `attributes`
    order: Ints | None = None  # place among events of equal time; the row's own number where it is None
    traced: bool = False  # whether the events carry a trace of their subject (W3C `traceparent`)

    def render(self, rows: Ints) -> list[Message]:
        """Return the records of ``rows`` (positions in this part), in that order.

        The bytes are those of ``events.codec.encode``, which a test holds; written out here since formatting the times
        of a chunk at once, and not one by one, halves the cost of an event.
        """
        event_type, ids, subjects = TYPES[self.type], self.ids, self.subjects
        schema = urn(self.type, event_type.latest)
        data, attributes = list(self.data.items()), list(self.attributes.items())
        times = np.datetime_as_string(self.times[rows].view("datetime64[us]"), unit="us").tolist()
        messages = []
        for row, time in zip(rows.tolist(), times, strict=True):
            payload = {name: value for name, column in data if (value := column[row]) is not None}
            if attributes:
                payload["attributes"] = {
                    name: value for name, column in attributes if (value := column[row]) is not None
                }
            subject = subjects[row]
            document: dict[str, Any] = {
                "specversion": "1.0",
                "id": ids[row],
                "source": self.source,
                "type": self.type,
                "subject": subject,
                "time": f"{time}Z",
                "datacontenttype": "application/json",
                "dataschema": schema,
            }
            if self.traced:
                document["traceparent"] = _traceparent(subject, ids[row])
            document["data"] = payload
            messages.append(Message(event_type.topic, subject.encode(), orjson.dumps(document)))
        return messages


def _traceparent(subject: str, event_id: str) -> str:
    """Return one trace for a subject and a span in it for an event: equal for equal names."""
    trace = blake2b(subject.encode(), digest_size=16).hexdigest()
    return f"00-{trace}-{blake2b(event_id.encode(), digest_size=8).hexdigest()}-01"


class Source:
    """Events of several parts in time order; a row is a position in that order, from 0."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name = name
        self.parts = tuple(part for part in parts if len(part.times))
        sizes = [len(part.times) for part in self.parts]
        times = np.concatenate([part.times for part in self.parts]) if sizes else np.empty(0, np.int64)
        ties = [part.order if part.order is not None else np.arange(len(part.times)) for part in self.parts]
        order = np.lexsort((np.concatenate(ties), times)) if sizes else np.empty(0, np.int64)
        starts = np.cumsum([0, *sizes])[:-1]
        self.times: Ints = times[order]
        self._part: Ints = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._row: Ints = order - starts[self._part] if sizes else order

    def __len__(self) -> int:
        return len(self.times)

    def render(self, rows: Ints) -> list[Message]:
        """Return the records of ``rows`` in that order; the same row gives the same bytes each time."""
        messages: list[Message] = [None] * len(rows)  # type: ignore[list-item]  # every place is filled below
        part_of = self._part[rows]
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(part_of == number)
            if len(places):
                for place, message in zip(places.tolist(), part.render(self._row[rows[places]]), strict=True):
                    messages[place] = message
        return messages

    def distinct(self, rows: Ints) -> int:
        """Return how many events (CloudEvents source and id) are among ``rows``."""
        seen: dict[str, set[str]] = {}
        for part, own in self._by_part(rows):
            seen.setdefault(part.source, set()).update(map(part.ids.__getitem__, own))
        return sum(map(len, seen.values()))

    def sagas(self, rows: Ints) -> int:
        """Return how many sagas the saga events among ``rows`` belong to."""
        seen: set[str] = set()
        for part, own in self._by_part(rows):
            if part.type.startswith("isthmus.saga."):
                seen.update(map(part.subjects.__getitem__, own))
        return len(seen)

    def _by_part(self, rows: Ints) -> list[tuple[Part, list[int]]]:
        part_of, row = self._part[rows], self._row[rows]
        return [(part, row[part_of == number].tolist()) for number, part in enumerate(self.parts)]
