"""The ledger of landing: what stands in ``raw``, what could not be landed, and what a person decided about it.

What belongs here: the tables ``raw.landings``, ``raw.topics`` and ``raw.gaps``. What does not: what to land next
(``assets/landing/planning.py``) and the landing itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Literal

from resources.errors import WarehouseError
from resources.warehouse import Warehouse

GapKind = Literal["aged_out", "truncated", "recreated", "deleted", "compacted", "unlandable"]
GapState = Literal["open", "acknowledged", "retried"]

#: Kinds after which the topic's offsets begin anew: nothing of the topic is landed until a person has confirmed it.
ENDS_GENERATION: frozenset[str] = frozenset({"truncated", "recreated", "deleted"})
#: Kinds that name a range which is left out of landing.
NAMES_RANGE: frozenset[str] = frozenset({"aged_out", "unlandable"})

Interval = tuple[int, int]
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Offsets ``[from_offset, to_offset)`` of one partition in one generation of its topic."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int
    generation: int = 0

    @property
    def width(self) -> int:
        """Number of offsets, which is at least the number of records."""
        return self.to_offset - self.from_offset

    @property
    def landing_id(self) -> str:
        """Identity of the work: the same for every run that lands this range."""
        topic = f"{self.topic}@{self.generation}" if self.generation else self.topic
        return f"{topic}/{self.partition}/{self.from_offset}-{self.to_offset}"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where landing of a partition began, in the topic's newest generation."""

    generation: int
    topic_id: str
    start: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be landed; ``partition`` is -1 where it is the whole topic."""

    kind: GapKind
    topic: str
    partition: int
    generation: int
    from_offset: int
    to_offset: int
    detail: str
    state: GapState = "open"
    actor: str = "landing"
    reason: str = ""
    detected_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def gap_id(self) -> str:
        """Identity: seen twice it is one gap."""
        at = Range(self.topic, self.partition, self.from_offset, self.to_offset, self.generation).landing_id
        return f"{self.kind}:{at}"


@dataclass(frozen=True, slots=True)
class Landed:
    """What landing one range came to."""

    range: Range
    rows: int
    bytes: int


class Ledger:
    """Reads and writes of the ledger; every write may be repeated."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def seen(self) -> dict[Partition, Seen]:
        """Return each known partition's newest generation."""
        rows = self._warehouse.query_rows(
            "SELECT topic, partition, max(generation) AS newest, argMax(topic_id, generation) AS topic_id,"
            " argMax(start_offset, generation) AS start FROM raw.topics FINAL GROUP BY topic, partition"
        )
        return {(row["topic"], row["partition"]): Seen(row["newest"], row["topic_id"], row["start"]) for row in rows}

    def see(self, partitions: Mapping[Partition, Seen]) -> None:
        """Note where landing of these partitions begins."""
        self._warehouse.insert_rows(
            "raw.topics",
            [
                {
                    "topic": topic,
                    "partition": partition,
                    "generation": seen.generation,
                    "topic_id": seen.topic_id,
                    "start_offset": seen.start,
                }
                for (topic, partition), seen in partitions.items()
            ],
            # Equal rows collapse, so the insert may be repeated; a token tells that to the retry.
            token=token_hex(8),
        )

    def landed(self) -> dict[tuple[str, int, int], list[Interval]]:
        """Return the landed offsets of each (topic, partition, generation), merged and in order."""
        rows = self._warehouse.query_rows(
            """
            SELECT topic, partition, generation, min(from_offset) AS first, max(to_offset) AS last
            FROM (
                SELECT *, sum(begins) OVER (PARTITION BY topic, partition, generation
                    ORDER BY from_offset, to_offset ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS island
                FROM (
                    SELECT topic, partition, generation, from_offset, to_offset,
                        from_offset > max(to_offset) OVER (PARTITION BY topic, partition, generation
                            ORDER BY from_offset, to_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS begins
                    FROM raw.landings
                )
            )
            GROUP BY topic, partition, generation, island
            ORDER BY topic, partition, generation, first
            """
        )
        merged: dict[tuple[str, int, int], list[Interval]] = {}
        for row in rows:
            merged.setdefault((row["topic"], row["partition"], row["generation"]), []).append(
                (row["first"], row["last"])
            )
        return merged

    def note(self, landings: Iterable[Landed], *, run_id: str) -> None:
        """Write the ranges' rows: from then on they count as landed. Call it when all their records stand in raw."""
        rows = [
            {
                "landing_id": landing.range.landing_id,
                "topic": landing.range.topic,
                "partition": landing.range.partition,
                "generation": landing.range.generation,
                "from_offset": landing.range.from_offset,
                "to_offset": landing.range.to_offset,
                "rows": landing.rows,
                "bytes": landing.bytes,
                "run_id": run_id,
            }
            for landing in landings
        ]
        self._warehouse.insert_rows("raw.landings", rows, token=token_hex(8))

    def gaps(self, *states: GapState) -> list[Gap]:
        """Return the gaps in these states (all without), oldest first."""
        rows = self._warehouse.query_rows("SELECT * EXCEPT (gap_id) FROM raw.gaps FINAL ORDER BY detected_at, gap_id")
        return [Gap(**row) for row in rows if not states or row["state"] in states]

    def open_gaps(self, gaps: Iterable[Gap]) -> list[Gap]:
        """Record those of ``gaps`` that are not known yet and return them; one that a person resolved stays resolved.

        One that was set to be retried, and could not be landed again, is open again.
        """
        found = list(gaps)
        if not found:
            return []
        known = {gap.gap_id: gap for gap in self.gaps()}
        new = [gap for gap in found if gap.gap_id not in known or known[gap.gap_id].state == "retried"]
        self._write(new)
        return new

    def acknowledge(self, gap_id: str, *, actor: str, reason: str) -> Gap:
        """Accept that a gap stays: landing goes on without it, or with the topic's next generation.

        Writes the state and an audit row. Raises :class:`WarehouseError` where there is no such open gap.
        """
        return self._resolve(gap_id, "acknowledged", actor, reason)

    def retry(self, gap_id: str, *, actor: str, reason: str) -> Gap:
        """Have an unlandable range tried again. Writes the state and an audit row; errors as :meth:`acknowledge`."""
        return self._resolve(gap_id, "retried", actor, reason)

    def _resolve(self, gap_id: str, state: GapState, actor: str, reason: str) -> Gap:
        if not actor or not reason:
            raise WarehouseError("who resolves a gap, and why, is part of the record: give an actor and a reason")
        gap = next((gap for gap in self.gaps("open") if gap.gap_id == gap_id), None)
        if gap is None:
            raise WarehouseError(f"there is no open gap {gap_id!r}")
        if state == "retried" and gap.kind != "unlandable":
            raise WarehouseError(f"{gap_id} cannot be landed again: its offsets are gone; acknowledge it")
        resolved = Gap(
            gap.kind,
            gap.topic,
            gap.partition,
            gap.generation,
            gap.from_offset,
            gap.to_offset,
            gap.detail,
            state,
            actor,
            reason,
            gap.detected_at,
        )
        # The audit row first: a state without one could not be explained.
        self._warehouse.insert_rows(
            "ops.audit",
            [
                {
                    "actor": actor,
                    "action": f"landing_gap_{state}",
                    "subject": gap_id,
                    "details": json.dumps({"reason": reason, "detail": gap.detail}),
                }
            ],
        )
        self._write([resolved])
        return resolved

    def _write(self, gaps: Iterable[Gap]) -> None:
        now = datetime.now(UTC)
        self._warehouse.insert_rows(
            "raw.gaps",
            [
                {
                    "gap_id": gap.gap_id,
                    "kind": gap.kind,
                    "topic": gap.topic,
                    "partition": gap.partition,
                    "generation": gap.generation,
                    "from_offset": gap.from_offset,
                    "to_offset": gap.to_offset,
                    "detail": gap.detail,
                    "state": gap.state,
                    "actor": gap.actor,
                    "reason": gap.reason,
                    "detected_at": gap.detected_at or now,
                    "updated_at": now,
                }
                for gap in gaps
            ],
        )


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of half-open intervals, in order and without overlap; empty ones are left out."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if last <= first:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def missing(within: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """Return the parts of ``within`` that no interval of ``covered`` holds."""
    left: list[Interval] = []
    at, end = within
    for first, last in merge(covered):
        if first >= end:
            break
        if first > at:
            left.append((at, first))
        at = max(at, last)
    if at < end:
        left.append((at, end))
    return left
