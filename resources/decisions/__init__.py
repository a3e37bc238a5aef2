"""The book of decisions: kept in the warehouse, announced on the bus, approved or refused by people.

Nothing in it is ever changed: where a decision stands is what the events of its life say.
"""

from resources.decisions.record import TERMINAL, DecisionEvent, StoredDecision, status_of, wire_payload
from resources.decisions.store import (
    EVENT_TYPE,
    SOURCE,
    DecisionConflict,
    DecisionError,
    DecisionInvalid,
    DecisionNotAuthorised,
    DecisionNotFound,
    DecisionStore,
    PublishFailed,
)

__all__ = [
    "EVENT_TYPE",
    "SOURCE",
    "TERMINAL",
    "DecisionConflict",
    "DecisionError",
    "DecisionEvent",
    "DecisionInvalid",
    "DecisionNotAuthorised",
    "DecisionNotFound",
    "DecisionStore",
    "PublishFailed",
    "StoredDecision",
    "status_of",
    "wire_payload",
]
