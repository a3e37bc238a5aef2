"""The catalogue: each event type with its topic, its key and its versions; and the topics with their limits.

What belongs here: names, and what can be said of a type without reading its schema. What does not: schemas
(:mod:`events.schemas`), clients, and the creation of topics (``resources/kafka.py`` does that from :data:`TOPICS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

INGRESS: Final = "isthmus.ingress"
"""Where producers write."""
DEAD_LETTER: Final = "isthmus.dead-letter"
"""Where the router writes what it cannot accept."""

SAGAS: Final = "isthmus.sagas"
METRICS: Final = "isthmus.metrics"
COMPONENTS: Final = "isthmus.components"
CHANGES: Final = "isthmus.changes"
DECISIONS: Final = "isthmus.decisions"
ADVICE: Final = "isthmus.advice"
DOMAIN_TOPICS: Final[tuple[str, ...]] = (SAGAS, METRICS, COMPONENTS, CHANGES, DECISIONS, ADVICE)
"""Where accepted events go, and what landing reads."""

MAX_EVENT_BYTES: Final = 1_000_000
"""Largest record (key, value and headers) that is routed; Kafka's default limit of a batch is a little above it."""

KeyRule = Literal["subject", "row"]
"""How a record's key is made: the event's subject, or store, table and primary key of a data change."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event: where it goes, what keeps its order, and which versions of its schema exist."""

    name: str
    topic: str
    key: KeyRule = "subject"
    versions: tuple[int, ...] = (1,)

    @property
    def latest(self) -> int:
        """Version that an event without ``dataschema`` is read by."""
        return self.versions[-1]


TYPES: Final[dict[str, EventType]] = {
    event_type.name: event_type
    for event_type in (
        EventType("isthmus.saga.started", SAGAS),
        EventType("isthmus.saga.step", SAGAS),
        EventType("isthmus.saga.completed", SAGAS),
        EventType("isthmus.saga.aborted", SAGAS),
        EventType("isthmus.service.metrics", METRICS),
        EventType("isthmus.component.health", COMPONENTS, versions=(1, 2)),
        EventType("isthmus.maintenance.performed", COMPONENTS),
        EventType("isthmus.data.change", CHANGES, key="row"),
        EventType("isthmus.decision", DECISIONS),
        EventType("isthmus.action", DECISIONS),
        EventType("isthmus.saga.advice", ADVICE),
    )
}

ACTIONS: Final[tuple[str, ...]] = ("saga_policy",)
"""Kinds of decision whose ``action`` has a schema of its own (``schemas/actions/<kind>.json``)."""

_DAY_MS: Final = 86_400_000
_COMMON: Final = {"message.timestamp.type": "LogAppendTime"}

TOPICS: Final = MappingProxyType(
    {
        # Ingress takes more than can be routed, so that an event that is a little too large ends as a dead letter with
        # a reason; beyond that the broker refuses it to the producer's face.
        INGRESS: {**_COMMON, "max.message.bytes": "4194304", "retention.ms": str(7 * _DAY_MS)},
        # A dead letter is the original record and the reason, so it may be larger than anything that ingress takes.
        DEAD_LETTER: {**_COMMON, "max.message.bytes": "16777216", "retention.ms": str(30 * _DAY_MS)},
        **{
            topic: {**_COMMON, "max.message.bytes": "1048588", "retention.ms": str(30 * _DAY_MS)}
            for topic in DOMAIN_TOPICS
        },
    }
)
"""Every topic of the platform with its configuration; partitions and replication come from the settings."""
