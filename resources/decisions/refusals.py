"""Why decisions were refused: each refusal with its reasons, newest first.

What belongs here: reading them. What does not: which check a reason speaks of (``ml.decisions.cause_of``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import orjson

from resources.decisions.record import utc

MOST: Final = 5_000
_SQL: Final = """
    SELECT toString(e.decision_id) AS decision_id, d.kind AS kind, d.subject AS subject, e.at AS at, e.actor AS actor,
        e.reason AS reason, e.details AS details
    FROM (SELECT * FROM ops.decision_events FINAL WHERE event = 'refused' AND at >= {since:DateTime64(3)}) AS e
    INNER JOIN (SELECT * FROM ops.decisions FINAL) AS d ON d.decision_id = e.decision_id
    WHERE {kind:String} = '' OR d.kind = {kind:String}
    ORDER BY at DESC, decision_id
    LIMIT {most:UInt32}
"""


class Tables(Protocol):
    """What is needed of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused decision; ``reasons`` is empty where a person refused it, whose own words are theirs."""

    decision_id: str
    kind: str
    subject: str
    at: datetime
    actor: str
    reasons: tuple[str, ...]


def read_refusals(warehouse: Tables, *, since: datetime, kind: str = "", most: int = MOST) -> Sequence[Refusal]:
    """Return the refusals since ``since``, newest first, ``most`` at most."""
    rows = warehouse.query_rows(_SQL, {"since": since, "kind": kind, "most": most})
    return [
        Refusal(
            str(row["decision_id"]),
            str(row["kind"]),
            str(row["subject"]),
            utc(row["at"]),
            str(row["actor"]),
            tuple(str(reason) for reason in orjson.loads(row["details"] or "{}").get("reasons", ())),
        )
        for row in rows
    ]
