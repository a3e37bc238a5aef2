"""A decision as it is kept: its record, its life, and both as rows and as an announcement.

What belongs here: the shapes and their conversions; no connection. What does not: reading and writing them (``store``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

#: States after which a decision is neither approved, refused nor published any more.
TERMINAL = frozenset({"refused", "expired", "rolled_back", "confirmed"})

#: The first of these that a decision's events hold is where it stands: a refusal beats an approval made by somebody
#: else at the same moment.
_STATES = ("refused", "rolled_back", "confirmed", "expired", "applied", "published", "approved", "proposed")
_JSON_FIELDS = ("inputs", "model", "checks", "action", "expected", "guardrails", "undo")


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One point of a decision's life."""

    at: datetime
    event: str
    actor: str
    reason: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision as it was recorded, with its life so far and where it stands at ``status``'s time."""

    decision_id: UUID
    kind: str
    subject: str
    made_at: datetime
    valid_from: datetime
    valid_to: datetime
    inputs: list[dict[str, Any]]
    model: dict[str, Any] | None
    checks: list[dict[str, Any]]
    action: dict[str, Any]
    expected: list[dict[str, Any]]
    guardrails: list[dict[str, Any]]
    undo: dict[str, Any] | None
    trace_id: str
    run_id: str
    events: tuple[DecisionEvent, ...] = ()
    status: str = "proposed"

    @property
    def reasons(self) -> list[str]:
        """Return why it stands where it stands: what refused or ended it, else what allowed it."""
        telling = self.status if self.status in TERMINAL else "proposed"
        for event in reversed(self.events):
            if event.event == telling and event.reason:
                return [str(reason) for reason in event.details.get("reasons", [])] or [event.reason]
        return []

    @property
    def rung(self) -> str:
        """Return how far its kind may go by itself: shadow, advise or apply."""
        rungs = [event.details.get("rung", "advise") for event in self.events if event.event == "rung"]
        return str(rungs[-1]) if rungs else "advise"


def status_of(events: Iterable[DecisionEvent], valid_to: datetime, now: datetime) -> str:
    """Return where a decision stands at ``now``, by the events of its life."""
    seen = {event.event for event in events}
    status = next((state for state in _STATES if state in seen), "proposed")
    if status in {"proposed", "approved", "published"} and now >= valid_to:
        return "expired"
    return status


def wire_payload(decision: StoredDecision, *, status: str) -> dict[str, Any]:
    """Return ``data`` of the announcement: what ``events/schemas/isthmus.decision`` allows, no more."""

    def pick(entry: Mapping[str, Any], *names: str) -> dict[str, Any]:
        return {name: entry[name] for name in names if name in entry}

    return {
        "decision_id": str(decision.decision_id),
        "kind": decision.kind,
        "status": status,
        "rung": decision.rung,
        "reasons": decision.reasons,
        "made_at": decision.made_at.isoformat(),
        "valid_from": decision.valid_from.isoformat(),
        "valid_to": decision.valid_to.isoformat(),
        "inputs": [pick(entry, "asset", "data_version", "landed_at") for entry in decision.inputs],
        "model": pick(decision.model, "name", "version", "run_id") if decision.model else None,
        "checks": [pick(entry, "asset", "check", "passed", "severity", "evaluated_at") for entry in decision.checks],
        "action": decision.action,
        "expected": decision.expected,
        "guardrails": decision.guardrails,
        "undo": decision.undo,
    }


def stored(row: Mapping[str, Any], events: tuple[DecisionEvent, ...], now: datetime) -> StoredDecision:
    """Return a row of ``ops.decisions`` and its events as a decision, with where it stands at ``now``."""
    payload = {name: orjson.loads(row[name] or "null") for name in _JSON_FIELDS}
    valid_to = utc(row["valid_to"])
    return StoredDecision(
        decision_id=uuid_of(row["decision_id"]),
        kind=str(row["kind"]),
        subject=str(row["subject"]),
        made_at=utc(row["made_at"]),
        valid_from=utc(row["valid_from"]),
        valid_to=valid_to,
        trace_id=str(row["trace_id"]),
        run_id=str(row["run_id"]),
        events=events,
        status=status_of(events, valid_to, now),
        **payload,
    )


def row_of(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of ``ops.decisions``: times cut to the column's milliseconds, so that equal stays equal."""
    row = {name: dump(decision[name]) for name in _JSON_FIELDS}
    for name in ("made_at", "valid_from", "valid_to"):
        at: datetime = decision[name]
        row[name] = at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)  # type: ignore[assignment]
    for name in ("kind", "subject", "trace_id", "run_id"):
        row[name] = str(decision[name])
    return {"decision_id": str(decision["decision_id"]), **row}


def fields_of(decision: StoredDecision) -> dict[str, Any]:
    """Return what was recorded of it, without its life."""
    return {name: getattr(decision, name) for name in StoredDecision.__slots__ if name not in {"events", "status"}}


def dump(value: Any) -> str:
    """Return JSON text with sorted keys: equal values give equal text."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def utc(value: Any) -> datetime:
    """Return an aware time in UTC; a time without zone from the warehouse is UTC."""
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is no time")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def uuid_of(value: Any) -> UUID:
    """Return the id as a UUID."""
    return value if isinstance(value, UUID) else UUID(str(value))


def is_whole_id(value: UUID | str) -> bool:
    """Return whether it is a whole id rather than the beginning of one."""
    return (
        isinstance(value, UUID)
        or re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", value) is not None
    )


def traceparent(decision: StoredDecision) -> str | None:
    """Return the W3C header that carries the decision's trace on: its own span is the tail of its id."""
    if not re.fullmatch(r"[0-9a-f]{32}", decision.trace_id):
        return None
    return f"00-{decision.trace_id}-{decision.decision_id.hex[-16:]}-01"
