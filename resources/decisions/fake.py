"""The book of decisions in memory, for unit tests only: the real store's rules over dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from resources.decisions.record import DecisionEvent, StoredDecision, stored, uuid_of, wire_payload
from resources.decisions.store import DecisionConflict, DecisionStore, Tables


class _NoTables:
    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        raise AssertionError("the fake asks no warehouse")

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        raise AssertionError("the fake writes to no warehouse")


@dataclass(frozen=True)
class FakeDecisionStore(DecisionStore):
    """Keeps rows, events, audit and announcements as lists that a test may read."""

    warehouse: Tables = field(default_factory=_NoTables)
    rows: dict[UUID, Mapping[str, Any]] = field(default_factory=dict)
    lives: dict[UUID, list[DecisionEvent]] = field(default_factory=dict)
    audit: list[dict[str, Any]] = field(default_factory=list)
    announced: list[dict[str, Any]] = field(default_factory=list)

    def _insert(self, row: Mapping[str, Any]) -> None:
        self.rows[uuid_of(row["decision_id"])] = row

    def _append(self, decision_id: UUID, events: Sequence[DecisionEvent]) -> None:
        life = self.lives.setdefault(decision_id, [])
        life.extend(event for event in events if event not in life)
        life.sort(key=lambda event: (event.at, event.event))

    def _audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
        self.audit.append({"actor": actor, "action": action, "subject": subject, "details": dict(details)})

    def _announce(self, decision: StoredDecision, *, status: str | None = None) -> dict[str, Any]:
        self.announced.append(wire_payload(decision, status=status or decision.status))
        return {"mode": "dry-run", "topic": "isthmus.decisions", "partition": 0, "offset": len(self.announced) - 1}

    def _newest(self, kind: str | None, subject: str | None) -> Iterator[StoredDecision]:
        rows = [row for row in self.rows.values() if kind in (None, row["kind"]) and subject in (None, row["subject"])]
        rows.sort(key=lambda row: (row["made_at"], row["decision_id"]), reverse=True)
        yield from self._load([uuid_of(row["decision_id"]) for row in rows])

    def _load(self, ids: Sequence[UUID]) -> Sequence[StoredDecision]:
        now = self.clock()
        return [stored(self.rows[i], tuple(self.lives.get(i, ())), now) for i in ids if i in self.rows]

    def _find(self, beginning: str) -> Sequence[StoredDecision]:
        ids = [identity for identity in self.rows if str(identity).startswith(beginning.lower())]
        if len(ids) > 1:
            raise DecisionConflict(f"more than one decision begins with {beginning}")
        return self._load(ids)
