"""Outcomes of decisions: the rows of ``ops.outcomes``, read and written once.

What belongs here: rows. What does not: the estimate (``ml.outcomes``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from resources.decisions.record import dump, utc, uuid_of

if TYPE_CHECKING:
    from resources.decisions.store import Tables


@dataclass(frozen=True, slots=True)
class Outcome:
    """One figure of one decision; ``low`` and ``high`` bound the difference of actual and counterfactual."""

    decision_id: UUID
    measured_at: datetime
    metric: str
    actual: float
    counterfactual: float
    low: float
    high: float
    expected: float
    method: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """Return actual less counterfactual."""
        return self.actual - self.counterfactual


def read_outcomes(tables: Tables, decision_id: UUID) -> list[Outcome]:
    """Return the outcomes of a decision, by metric; none while its horizon has not ended."""
    rows = tables.query_rows(
        "SELECT * FROM ops.outcomes FINAL WHERE decision_id = {id:UUID} ORDER BY metric", {"id": str(decision_id)}
    )
    return [
        Outcome(
            uuid_of(row["decision_id"]),
            utc(row["measured_at"]),
            str(row["metric"]),
            actual=float(row["actual"]),
            counterfactual=float(row["counterfactual"]),
            low=float(row["low"]),
            high=float(row["high"]),
            expected=float(row["expected"]),
            method=str(row["method"]),
            details=orjson.loads(row["details"] or "{}"),
        )
        for row in rows
    ]


def measured(tables: Tables, decision_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the decisions that have outcomes."""
    ids = [str(one) for one in decision_ids]
    rows = tables.query_rows(
        "SELECT DISTINCT decision_id FROM ops.outcomes WHERE decision_id IN {ids:Array(UUID)}", {"ids": ids}
    )
    return {uuid_of(row["decision_id"]) for row in rows}


def write_outcomes(tables: Tables, outcomes: Sequence[Outcome]) -> None:
    """Append the outcomes of one decision, all together: half of them never stand alone, and a repeat is dropped."""
    if not outcomes:
        return
    rows = [
        {
            "decision_id": str(one.decision_id),
            "measured_at": one.measured_at,
            "metric": one.metric,
            "actual": one.actual,
            "counterfactual": one.counterfactual,
            "low": one.low,
            "high": one.high,
            "expected": one.expected,
            "method": one.method,
            "details": dump(one.details),
        }
        for one in outcomes
    ]
    tables.insert_rows("ops.outcomes", rows, token=f"outcome/{outcomes[0].decision_id}")
