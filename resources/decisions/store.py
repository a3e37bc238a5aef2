"""The store: decisions appended to the warehouse, announced on the bus, approved or refused by people.

What belongs here: reading and appending the rows of ``ops.decisions``, ``ops.decision_events`` and ``ops.audit``, and
the announcement. What does not: how a decision comes about and is judged (``ml.decisions``, ``assets.decisions``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import orjson

from resources.decisions.record import (
    TERMINAL,
    DecisionEvent,
    StoredDecision,
    dump,
    fields_of,
    is_whole_id,
    row_of,
    stored,
    traceparent,
    utc,
    uuid_of,
    wire_payload,
)

SOURCE = "/isthmus/decisions"
EVENT_TYPE = "isthmus.decision"
_PAGE = 200


class DecisionError(Exception):
    """A request that the book of decisions turns down for good; the text says why, for a person."""


class DecisionNotFound(DecisionError):
    """No decision has this id."""


class DecisionConflict(DecisionError):
    """The decision's state, or its content, does not allow what was asked."""


class DecisionNotAuthorised(DecisionError):
    """The person may not approve or refuse."""


class DecisionInvalid(DecisionError):
    """The decision breaks the schema that its announcement has to keep; it is not recorded."""


class PublishFailed(DecisionError):
    """The broker did not acknowledge the announcement; the decision is kept, and may be published again."""


class Tables(Protocol):
    """What the store needs of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        """Append rows."""


class Bus(Protocol):
    """What the store needs of Kafka."""

    def producer(self, **overrides: Any) -> Any:
        """Return a librdkafka producer."""


@dataclass(frozen=True)
class DecisionStore:
    """The book of decisions over a warehouse and, to announce them, a bus.

    ``approvers`` names who may approve and refuse; empty means whoever holds the warehouse's write password.
    """

    warehouse: Tables
    bus: Bus | None = None
    approvers: tuple[str, ...] = ()
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def record(
        self,
        decision: Mapping[str, Any],
        *,
        allowed: bool,
        reasons: Sequence[str] = (),
        actor: str = "isthmus",
        rung: str = "advise",
    ) -> StoredDecision:
        """Write down a decision with the gate's verdict; the same one again changes nothing.

        ``reasons`` are what refused it, which must be said, or what allowed it.

        ``decision`` has the columns of ``ops.decisions``, evidence as plain data (``ml.decisions.Decision.as_record``).
        Raises :class:`DecisionConflict` where its id stands for another content, :class:`DecisionInvalid` where one
        that is allowed breaks its schema, or names no check that it rests on.
        """
        if not allowed and not reasons:
            raise ValueError("a refusal says why")
        identity = UUID(str(decision["decision_id"]))
        row = row_of(decision)
        existing = self._load([identity])
        if existing and row_of(fields_of(existing[0])) != row:
            raise DecisionConflict(f"decision {identity} is recorded with another content")
        if not existing:
            if allowed:
                if not decision["checks"]:
                    raise DecisionInvalid(f"decision {identity} names no check that it rests on")
                _validated(stored(row, (), self.clock()))
            self._insert(row)
        made_at: datetime = decision["made_at"]
        # A crash may lie between two of these rows: whichever is missing is written now, at the same time, so that
        # a row that is there already collapses.
        events = [
            DecisionEvent(
                made_at,
                "proposed",
                actor,
                f"{decision['kind']} for {decision['subject']}",
                {"reasons": list(reasons)} if allowed and reasons else {},
            ),
            DecisionEvent(made_at, "rung", actor, f"{decision['kind']} stands on {rung}", {"rung": rung}),
        ]
        if not allowed:
            events.append(DecisionEvent(made_at, "refused", actor, "; ".join(reasons), {"reasons": list(reasons)}))
        seen = {event.event for event in existing[0].events} if existing else set()
        missing = [event for event in events if event.event not in seen]
        if missing:
            self._append(identity, missing)
            self._audit(actor, "decision.record", str(identity), {"allowed": allowed, "reasons": list(reasons)})
        return self.show(identity)

    def list(
        self, *, kind: str | None = None, subject: str | None = None, status: str | None = None, limit: int = 20
    ) -> Sequence[StoredDecision]:
        """Return decisions, newest first."""
        found: list[StoredDecision] = []
        for decision in self._newest(kind, subject):
            if len(found) >= limit:
                break
            if status is None or decision.status == status:
                found.append(decision)
        return found

    def show(self, decision_id: UUID | str) -> StoredDecision:
        """Return one decision; a unique beginning of its id (8 characters or more) is enough."""
        found = self._load([uuid_of(decision_id)]) if is_whole_id(decision_id) else self._find(str(decision_id))
        if not found:
            raise DecisionNotFound(f"no decision has the id {decision_id}")
        return found[0]

    def events(self, decision_id: UUID | str) -> tuple[DecisionEvent, ...]:
        """Return the life of a decision, oldest first."""
        return self.show(decision_id).events

    def in_force(self, kind: str, subject: str, *, at: datetime | None = None) -> StoredDecision | None:
        """Return the last good decision: the newest that was published or applied, and neither refused nor undone.

        With ``at`` it must also be valid then; without, the last good one is returned though its validity has ended,
        for it is what stands until another replaces it.
        """
        for decision in self._newest(kind, subject):
            seen = {event.event for event in decision.events}
            if not seen & {"published", "applied"} or seen & {"refused", "rolled_back"}:
                continue
            if at is None or decision.valid_from <= at < decision.valid_to:
                return decision
        return None

    def approve(self, decision_id: UUID | str, *, actor: str, note: str) -> StoredDecision:
        """Approve as a person; ``note`` says on whose authority and why. Approving twice changes nothing.

        Raises :class:`DecisionConflict` for one that is refused, expired or undone, :class:`DecisionNotAuthorised`.
        """
        decision = self._by_person(decision_id, actor, note, "decision.approve")
        if any(event.event == "approved" for event in decision.events) and decision.status not in TERMINAL:
            return decision
        if decision.status not in {"proposed", "published"}:
            raise DecisionConflict(f"decision {decision.decision_id} is {decision.status}; it cannot be approved")
        self._append(decision.decision_id, [DecisionEvent(self.clock(), "approved", actor, note, {})])
        self._audit(actor, "decision.approve", str(decision.decision_id), {"note": note})
        return self.show(decision.decision_id)

    def refuse(self, decision_id: UUID | str, *, actor: str, reason: str) -> StoredDecision:
        """Refuse as a person; a published decision is withdrawn, and the one before it is in force again."""
        decision = self._by_person(decision_id, actor, reason, "decision.refuse")
        if decision.status == "refused":
            return decision
        if decision.status not in {"proposed", "approved", "published"}:
            raise DecisionConflict(f"decision {decision.decision_id} is {decision.status}; it cannot be refused")
        was_published = any(event.event == "published" for event in decision.events)
        self._append(decision.decision_id, [DecisionEvent(self.clock(), "refused", actor, reason, {})])
        self._audit(actor, "decision.refuse", str(decision.decision_id), {"reason": reason})
        refused = self.show(decision.decision_id)
        if was_published and self.bus is not None:
            self._announce(refused)  # whoever took the announcement up learns that it is withdrawn
        return refused

    def publish(self, decision_id: UUID | str, *, actor: str = "isthmus") -> StoredDecision:
        """Announce a decision on the bus: dry-run, nothing is changed. Publishing twice announces once.

        Raises :class:`DecisionConflict` for one that is refused, expired or undone, :class:`PublishFailed` where the
        broker does not acknowledge it.
        """
        decision = self.show(decision_id)
        if any(event.event == "published" for event in decision.events) and decision.status not in TERMINAL:
            return decision
        if decision.status not in {"proposed", "approved"}:
            raise DecisionConflict(f"decision {decision.decision_id} is {decision.status}; it is never published")
        # A crash before the next line's row announces again under the same event id: consumers see it once.
        place = self._announce(decision, status="published")
        self._append(
            decision.decision_id,
            [DecisionEvent(self.clock(), "published", actor, "dry-run: nothing was changed", place)],
        )
        self._audit(actor, "decision.publish", str(decision.decision_id), place)
        return self.show(decision.decision_id)

    def expire(self, *, actor: str = "isthmus") -> Sequence[UUID]:
        """Write down which decisions have expired since the last time, and return their ids."""
        now = self.clock()
        due = [
            decision
            for decision in self._newest(None, None)
            if decision.status == "expired" and not any(event.event == "expired" for event in decision.events)
        ]
        for decision in due:
            reason = f"its validity ended at {decision.valid_to.isoformat()}"
            self._append(
                decision.decision_id, [DecisionEvent(max(now, decision.valid_to), "expired", actor, reason, {})]
            )
            self._audit(actor, "decision.expire", str(decision.decision_id), {})
        return [decision.decision_id for decision in due]

    def assert_applicable(self, decision_id: UUID | str, *, actuation: str = "dry-run") -> StoredDecision:
        """Return the decision where an actuator may apply it now, raise :class:`DecisionConflict` where not.

        Refused, undone and expired ones never; others with an approval, or where ``actuation`` of their kind is apply.
        """
        decision = self.show(decision_id)
        if decision.status not in {"proposed", "approved", "published", "applied"}:
            raise DecisionConflict(f"decision {decision.decision_id} is {decision.status}; it is never applied")
        now = self.clock()
        if not decision.valid_from <= now < decision.valid_to:
            raise DecisionConflict(f"decision {decision.decision_id} is not valid now; it is never applied")
        if actuation != "apply" and not any(event.event == "approved" for event in decision.events):
            raise DecisionConflict(f"{decision.kind} is in dry-run and decision {decision.decision_id} has no approval")
        return decision

    def applied(self, decision_id: UUID | str, *, actor: str, details: Mapping[str, Any]) -> StoredDecision:
        """Write down that an actuator carried the decision out; ``details`` say what it did. Again changes nothing."""
        decision = self.show(decision_id)
        if not any(event.event == "applied" for event in decision.events):
            self._append(decision.decision_id, [DecisionEvent(self.clock(), "applied", actor, "carried out", details)])
            self._audit(actor, "decision.apply", str(decision.decision_id), details)
        return self.show(decision.decision_id)

    def _by_person(self, decision_id: UUID | str, actor: str, note: str, action: str) -> StoredDecision:
        if not actor.strip() or not note.strip():
            raise DecisionConflict("a person's name and a note that says why are needed")
        if self.approvers and actor not in self.approvers:
            self._audit(actor, f"{action}.denied", str(decision_id), {"note": note})
            raise DecisionNotAuthorised(f"{actor} is not among those who may decide: {', '.join(self.approvers)}")
        return self.show(decision_id)

    def _announce(self, decision: StoredDecision, *, status: str | None = None) -> dict[str, Any]:
        """Send the decision as a CloudEvent and return where it stands: topic, partition, offset."""
        from events.catalogue import TYPES

        if self.bus is None:
            raise PublishFailed("no bus is configured")
        value = _event(decision, status or decision.status, self.clock())
        answers: list[tuple[Any, Any]] = []
        producer = self.bus.producer()
        topic = TYPES[EVENT_TYPE].topic
        producer.produce(
            topic,
            value=value,
            key=decision.subject.encode(),
            on_delivery=lambda error, message: answers.append((error, message)),
        )
        producer.flush(30)
        if not answers:
            raise PublishFailed(f"the broker did not acknowledge decision {decision.decision_id} within 30 s")
        error, message = answers[0]
        if error is not None:
            raise PublishFailed(f"the broker refused decision {decision.decision_id}: {error}")
        return {"mode": "dry-run", "topic": topic, "partition": message.partition(), "offset": message.offset()}

    def _insert(self, row: Mapping[str, Any]) -> None:
        self.warehouse.insert_rows("ops.decisions", [row], token=f"decision/{row['decision_id']}")

    def _append(self, decision_id: UUID, events: Sequence[DecisionEvent]) -> None:
        rows = [
            {
                "decision_id": str(decision_id),
                "at": event.at,
                "event": event.event,
                "actor": event.actor,
                "reason": event.reason,
                "details": dump(event.details),
            }
            for event in events
        ]
        token = f"{decision_id}/" + ",".join(f"{event.event}@{event.at.isoformat()}" for event in events)
        self.warehouse.insert_rows("ops.decision_events", rows, token=token)

    def _audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
        row = {"at": self.clock(), "actor": actor, "action": action, "subject": subject, "details": dump(details)}
        self.warehouse.insert_rows("ops.audit", [row])

    def _newest(self, kind: str | None, subject: str | None) -> Iterator[StoredDecision]:
        """Yield decisions, newest first, a page at a time."""
        offset = 0
        while True:
            rows = self.warehouse.query_rows(
                """
                SELECT * FROM ops.decisions FINAL
                WHERE ({kind:String} = '' OR kind = {kind:String})
                  AND ({subject:String} = '' OR subject = {subject:String})
                ORDER BY made_at DESC, decision_id DESC
                LIMIT {page:UInt32} OFFSET {offset:UInt32}
                """,
                {"kind": kind or "", "subject": subject or "", "page": _PAGE, "offset": offset},
            )
            yield from self._with_events(rows)
            if len(rows) < _PAGE:
                return
            offset += _PAGE

    def _load(self, ids: Sequence[UUID]) -> Sequence[StoredDecision]:
        sql = "SELECT * FROM ops.decisions FINAL WHERE decision_id IN {ids:Array(UUID)}"
        return self._with_events(self.warehouse.query_rows(sql, {"ids": [str(identity) for identity in ids]}))

    def _find(self, beginning: str) -> Sequence[StoredDecision]:
        if not re.fullmatch(r"[0-9a-fA-F-]{8,36}", beginning):
            raise DecisionNotFound(f"{beginning!r} is no decision id, nor a beginning of one of 8 characters or more")
        sql = "SELECT * FROM ops.decisions FINAL WHERE startsWith(toString(decision_id), {beginning:String}) LIMIT 2"
        found = self._with_events(self.warehouse.query_rows(sql, {"beginning": beginning.lower()}))
        if len(found) > 1:
            raise DecisionConflict(f"more than one decision begins with {beginning}")
        return found

    def _with_events(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[StoredDecision]:
        if not rows:
            return []
        sql = "SELECT * FROM ops.decision_events FINAL WHERE decision_id IN {ids:Array(UUID)} ORDER BY at, event"
        lives: dict[UUID, list[DecisionEvent]] = {}
        for row in self.warehouse.query_rows(sql, {"ids": [str(row["decision_id"]) for row in rows]}):
            event = DecisionEvent(
                utc(row["at"]),
                str(row["event"]),
                str(row["actor"]),
                str(row["reason"]),
                orjson.loads(row["details"] or "{}"),
            )
            lives.setdefault(uuid_of(row["decision_id"]), []).append(event)
        now = self.clock()
        return [stored(row, tuple(lives.get(uuid_of(row["decision_id"]), ())), now) for row in rows]


def _event(decision: StoredDecision, status: str, at: datetime) -> bytes:
    """Return the announcement; its id is the decision and its status, so that repeating it announces nothing new."""
    from events import codec

    return codec.encode(
        EVENT_TYPE,
        wire_payload(decision, status=status),
        subject=decision.subject,
        source=SOURCE,
        id=f"{decision.decision_id}/{status}",
        time=at,
        traceparent=traceparent(decision),
    )


def _validated(decision: StoredDecision) -> None:
    """Raise :class:`DecisionInvalid` where the announcement would not be a valid event of its type."""
    from events.validation import InvalidEvent, validate

    try:
        validate(_event(decision, "proposed", decision.made_at), received=decision.made_at)
    except InvalidEvent as error:
        raise DecisionInvalid(f"decision {decision.decision_id} breaks its schema: {error}") from error
