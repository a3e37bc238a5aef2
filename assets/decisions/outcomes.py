"""Outcomes of saga policies as an asset: once a policy is no longer in force, what came of it is written down.

What belongs here: when a policy was in force, and the order of read, estimate, write. What does not: the estimate
(``ml.outcomes``), the rows (``resources.decisions``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
from pydantic import Field

from assets.refusal import SAGA_POLICY
from resources.decisions import DecisionStore, StoredDecision
from resources.decisions.outcomes import Outcome, measured, write_outcomes
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.warehouse import WarehouseResource

OUTCOMES = dg.AssetKey(["ops", "outcomes"])
KIND = "saga_policy"
#: Decisions of a saga type that are looked at, the newest.
NEWEST = 400
BIN_S = 600

#: Figure, its sum and its count among the columns of the bins; the names of the first three are those of `expected`.
METRICS = {
    "failed_steps_share": ("failed", "steps"),
    "attempts_cut_share": ("cut", "attempts"),
    "mean_wait_ms": ("waited_ms", "completed"),
    "saga_failures_share": ("sagas_failed", "sagas_ended"),
}
_STEPS = """
    SELECT toInt64(intDiv(toUnixTimestamp(opened), {bin:UInt32}) * {bin:UInt32}) AS start, count() AS steps,
        countIf(done = 0) AS failed, sum(tries) AS attempts, sum(timed_out) AS cut, sum(done) AS completed,
        sum(waited) AS waited_ms
    FROM (
        SELECT saga_id, step, toDateTime(min(opened_at)) AS opened, count() AS tries,
            countIf(status = 'timed_out') AS timed_out, countIf(status = 'completed') AS done,
            sumIf(dateDiff('microsecond', coalesce(scheduled_at, started_at), ended_at) / 1000,
                  status = 'completed' AND isNotNull(coalesce(scheduled_at, started_at))) AS waited
        FROM marts.fct_saga_steps
        WHERE saga_type = {type:String} AND opened_at >= {from:DateTime64(3)} AND opened_at < {to:DateTime64(3)}
        GROUP BY saga_id, step HAVING countIf(isNotNull(ended_at)) > 0
    ) GROUP BY start ORDER BY start
"""
_SAGAS = """
    SELECT
        toInt64(intDiv(toUnixTimestamp(toDateTime(assumeNotNull(started_at))), {bin:UInt32}) * {bin:UInt32}) AS start,
        countIf(status != 'running') AS sagas_ended, countIf(abort_reason = 'technical') AS sagas_failed
    FROM marts.fct_sagas
    WHERE saga_type = {type:String} AND started_at >= {from:DateTime64(3)} AND started_at < {to:DateTime64(3)}
    GROUP BY start ORDER BY start
"""


class OutcomesConfig(dg.Config):
    """How long a policy's sagas get to end, and how far back its past reaches."""

    settle_minutes: float = Field(60.0, ge=0, description="Minutes after its end before a policy is judged.")
    past_days: float = Field(7.0, gt=0, description="Days before a policy that it is compared with.")


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy and when it was in force."""

    decision: StoredDecision
    begin: datetime
    end: datetime


def in_force(decisions: Sequence[StoredDecision]) -> list[InForce]:
    """Return when each published policy of one subject was in force: to the next one, its withdrawal or its end."""
    published = []
    for decision in decisions:
        at = {event.event: event.at for event in decision.events}
        if begin := min((at[name] for name in ("published", "applied") if name in at), default=None):
            ends = [decision.valid_to, *(at[name] for name in ("refused", "rolled_back") if name in at)]
            published.append(InForce(decision, begin, min(ends)))
    published.sort(key=lambda one: one.begin)
    following = [one.begin for one in published[1:]] + [datetime.max.replace(tzinfo=UTC)]
    return [
        InForce(one.decision, one.begin, min(one.end, later)) for one, later in zip(published, following, strict=True)
    ]


@dg.asset(
    key=OUTCOMES,
    deps=[SAGA_POLICY, dg.AssetKey(["marts", "fct_sagas"]), dg.AssetKey(["marts", "fct_saga_steps"])],
    group_name="decisions",
    owners=["team:platform"],
    kinds={"python", "clickhouse"},
    description="What came of each saga policy, beside what would have by the time before, once it has ended.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec("measured", asset=OUTCOMES, description="Each policy whose time has ended has its outcome."),
        dg.AssetCheckSpec(
            "as_expected", asset=OUTCOMES, description="No new outcome is worse than expected, for sure."
        ),
    ],
)
def outcomes(
    context: dg.AssetExecutionContext, config: OutcomesConfig, warehouse: WarehouseResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares it with the bare class
    """Write the outcome of each policy that has ended and has none; the same again writes nothing."""
    store, now = DecisionStore(warehouse), datetime.now(UTC)
    written: list[Outcome] = []
    waiting, left = 0, []
    for subject in _subjects(warehouse):
        reached = _reached(warehouse, subject)
        periods = in_force(store.list(kind=KIND, subject=subject, limit=NEWEST))
        known = measured(warehouse, [one.decision.decision_id for one in periods])
        for one in periods:
            if one.decision.decision_id in known or one.end <= one.begin:
                continue
            ready = one.end + timedelta(minutes=config.settle_minutes)
            # A day later than its end nothing more is waited for, though traffic may have stopped.
            if now < ready or ((reached is None or reached < ready) and now < ready + timedelta(days=1)):
                waiting += 1
                continue
            try:
                found = outcome_of(warehouse, one, now=now, past=timedelta(days=config.past_days))
            except WarehouseUnavailable:
                raise
            except WarehouseError as error:
                left.append(f"{one.decision.decision_id}: {type(error).__name__}")
                continue
            write_outcomes(warehouse, found)
            written += found
    worse = [one for one in written if one.expected == one.expected and one.low > max(0.0, one.expected)]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(written),
            "decisions measured": len({one.decision_id for one in written}),
            "decisions waiting": waiting,
            "outcomes": dg.MetadataValue.md(_table(written)),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=OUTCOMES,
                check_name="measured",
                passed=not left,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(left[:5]) or f"{waiting} have not ended or settled yet",
            ),
            dg.AssetCheckResult(
                asset_key=OUTCOMES,
                check_name="as_expected",
                passed=not worse,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(f"{one.decision_id} {one.metric}" for one in worse[:5]) or "none is",
            ),
        ],
    )


def outcome_of(warehouse: WarehouseResource, one: InForce, *, now: datetime, past: timedelta) -> list[Outcome]:
    """Return the figures of a policy's time beside their estimate from the time before."""
    import numpy as np

    from ml.outcomes import ASSUMPTIONS, Bins, estimate

    decision = one.decision
    bins = _bins(warehouse, decision.subject, one.begin - past, one.end)
    begin = one.begin.timestamp()
    # A bin that the change falls into is neither before nor after.
    before, during = bins["start"] + BIN_S <= begin, bins["start"] >= begin
    if one.end - one.begin < timedelta(seconds=3 * BIN_S):
        during = bins["start"] + BIN_S > begin
    applied = any(event.event == "applied" for event in decision.events)
    expected = {entry["metric"]: entry["with_action"] - entry["without_action"] for entry in decision.expected}
    found = []
    for metric, (hits, of) in METRICS.items():
        figure = Bins(bins["start"].astype(np.int64), bins[hits], bins[of], bins["attempts"])
        value = estimate(figure.where(before), figure.where(during))
        details = {
            "begin": one.begin.isoformat(),
            "end": one.end.isoformat(),
            "hours_before": value.hours_before,
            "mode": "applied" if applied else "dry-run: nothing was changed by it",
            "assumptions": list(ASSUMPTIONS),
        }
        found.append(
            Outcome(
                decision.decision_id, now, metric, value.actual, value.counterfactual, value.low, value.high,
                expected.get(metric, float("nan")), value.method, details,
            )
        )  # fmt: skip
    return found


def _bins(warehouse: WarehouseResource, subject: str, begin: datetime, end: datetime) -> dict[str, Any]:
    import numpy as np

    parameters = {"type": subject, "from": begin, "to": end, "bin": BIN_S}
    rows: dict[int, dict[str, float]] = {}
    for sql in (_STEPS, _SAGAS):
        for row in warehouse.query_rows(sql, parameters):
            rows.setdefault(int(row["start"]), {}).update(row)
    names = ("start", *dict.fromkeys(name for pair in METRICS.values() for name in pair))
    return {
        name: np.array([float(rows[at].get(name) or 0.0) for at in sorted(rows)], dtype=np.float64) for name in names
    }


def _subjects(warehouse: WarehouseResource) -> list[str]:
    rows = warehouse.query_rows(
        "SELECT DISTINCT subject FROM ops.decisions WHERE kind = {kind:String} ORDER BY subject", {"kind": KIND}
    )
    return [str(row["subject"]) for row in rows]


def _reached(warehouse: WarehouseResource, subject: str) -> datetime | None:
    """Return up to when the marts hold the subject's events; None where they hold none."""
    row = warehouse.query_rows(
        "SELECT count() AS n, max(last_event_at) AS newest FROM marts.fct_sagas WHERE saga_type = {type:String}",
        {"type": subject},
    )[0]
    newest: datetime = row["newest"]
    return (newest if newest.tzinfo else newest.replace(tzinfo=UTC)) if row["n"] else None


def _table(written: Sequence[Outcome]) -> str:
    head = "| decision | metric | actual | counterfactual | difference | expected | method |\n" + "| --- " * 7 + "|\n"
    return head + "\n".join(
        f"| {_short(one.decision_id)} | {one.metric} | {one.actual:.4g} | {one.counterfactual:.4g} "
        f"| {one.difference:.4g} ({one.low:.4g} to {one.high:.4g}) | {one.expected:.4g} | {one.method} |"
        for one in written[:100]
    )


def _short(identity: UUID) -> str:
    return str(identity)[:13]
