"""What is asked of ``raw.events``: nothing missing, nothing doubled, nothing old, little that cannot be read.

What belongs here: the figures behind the asset checks, each one query or two. What does not: Dagster's decorators.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assets.landing.planning import Survey, assess, contiguous, front, survey
from assets.landing.standing import range_condition, standing
from resources.kafka import KafkaResource
from resources.ledger import Gap, Ledger, Range
from resources.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a check holds, in words, with the figures it rests on."""

    passed: bool
    description: str
    figures: dict[str, Any]


def contiguity(now: Survey) -> Verdict:
    """Return whether each partition is landed without a hole up to its last landed offset, and no gap is open.

    Gaps that the bus shows now but the ledger does not hold yet count as open.
    """
    state = assess(now)
    known = {gap.gap_id for gap in now.gaps}
    gaps = [gap for gap in now.gaps if gap.state == "open"] + [gap for gap in state.gaps if gap.gap_id not in known]
    holes = contiguous(now, state)
    return unbroken(gaps, holes)


def unbroken(gaps: Sequence[Gap], holes: Sequence[Range]) -> Verdict:
    """Return the verdict on these open gaps and missing ranges."""
    words = [f"{gap.gap_id}: {gap.detail}" for gap in gaps]
    if holes:
        words.append(f"{len(holes)} ranges below the last landed offset are missing, {holes[0].landing_id} first")
    figures = {
        "open_gaps": [gap.gap_id for gap in gaps],
        "missing_ranges": [hole.landing_id for hole in holes[:100]],
        "missing_offsets": sum(hole.width for hole in holes),
    }
    return Verdict(not words, "; ".join(words[:10]) or "every offset up to the last landed one is there", figures)


def _within(ranges: Sequence[Range]) -> tuple[str, dict[str, Any]]:
    """Return a condition that holds for the rows of any of ``ranges``, and its parameters."""
    parts = [range_condition(work, number) for number, work in enumerate(ranges)]
    parameters = {name: value for _, values in parts for name, value in values.items()}
    return " OR ".join(condition for condition, _ in parts) or "false", parameters


def rows(warehouse: Warehouse, ranges: Sequence[Range]) -> Verdict:
    """Return whether ``raw.events`` holds as many distinct offsets of each range as the ledger says were read."""
    counted = standing(warehouse, ranges)
    noted = {
        row["landing_id"]: row["rows"]
        for row in warehouse.query_rows(
            "SELECT landing_id, rows FROM raw.landings FINAL WHERE landing_id IN {ids:Array(String)}",
            {"ids": [work.landing_id for work in ranges]},
        )
    }
    wrong = [
        f"{work.landing_id}: {noted.get(work.landing_id)} noted, {rows} there"
        for work, rows in zip(ranges, counted, strict=True)
        if noted.get(work.landing_id) != rows
    ]
    figures = {"rows": sum(counted), "ranges": len(ranges), "differences": wrong[:100]}
    return Verdict(not wrong, "; ".join(wrong[:10]) or "the ledger and the table agree", figures)


def quarantine(warehouse: Warehouse, ranges: Sequence[Range], *, limit: float) -> Verdict:
    """Return whether at most the share ``limit`` of the records of ``ranges`` cannot become an event."""
    condition, parameters = _within(ranges)
    reasons = {
        row["reason"]: row["records"]
        for row in warehouse.query_rows(
            f"SELECT reason, count() AS records FROM raw.quarantine WHERE {condition} GROUP BY reason",  # noqa: S608
            parameters,
        )
    }
    count = warehouse.query_rows(f"SELECT count() AS records FROM raw.events FINAL WHERE {condition}", parameters)  # noqa: S608
    records = count[0]["records"]
    share = sum(reasons.values()) / records if records else 0.0
    words = f"{sum(reasons.values())} of {records} records cannot become an event"
    if reasons:
        words += ": " + ", ".join(f"{reason} ({many})" for reason, many in sorted(reasons.items()))
    return Verdict(share <= limit, words, {"share": share, "records": records, "reasons": reasons})


def freshness(names: Iterable[str], kafka: KafkaResource, warehouse: Warehouse, *, limit_seconds: float) -> Verdict:
    """Return whether everything that the broker took more than ``limit_seconds`` ago has been landed."""
    now = survey(names, kafka, Ledger(warehouse))
    state = assess(now)
    ends = front(now, state)
    old = kafka.offsets_at(now.topics.values(), int((time.time() - limit_seconds) * 1000))
    late = {at: old[at] - end for at, end in ends.items() if old.get(at, 0) > end}
    lag = sum(max(0, now.marks[at][1] - end) for at, end in ends.items())
    words = f"{lag} offsets wait to be landed"
    if late:
        words += f"; {sum(late.values())} of them for more than {limit_seconds:.0f} s"
    figures = {
        "waiting_offsets": lag,
        "late_offsets": {f"{topic}/{part}": many for (topic, part), many in late.items()},
    }
    return Verdict(not late, words, figures)
