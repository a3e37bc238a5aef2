"""A burst of failed saga events explained: read from the topic itself, ranked, written down once.

What belongs here: the order of read, analyse, write. What does not: noticing a burst (``sensors.bursts``), the ranking
(``ml.bursts.blame``). Nothing here waits for landing or a build: the records are the topic's own.
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from resources.kafka import Bus, KafkaResource
from resources.ranges import Span
from resources.warehouse import WarehouseResource

BURSTS = dg.AssetKey(["ops", "saga_bursts"])
TOPIC = "isthmus.sagas"
KIND = "saga_burst"
#: Records of a side that are read at most, over all partitions: a burst is explained by its beginning.
MOST_RECORDS = 30_000


class Reach(dg.Config):
    """Where a burst's records lie in one partition; before it as many are read as it has."""

    partition: int
    from_offset: int
    to_offset: int


class BurstConfig(dg.Config):
    """The burst that a sensor saw; empty: the newest records, beside those before them."""

    burst_id: str = Field("", description="Identity of the burst: noticing it twice writes one incident.")
    ranges: list[Reach] = Field([], description="Offsets of the burst, by partition.")


@dg.asset(
    key=BURSTS,
    deps=[dg.AssetKey(["bus", TOPIC])],
    group_name="incidents",
    owners=["team:platform"],
    kinds={"python", "kafka"},
    description="Who fails in a burst of failed saga events: participant, step and error beside what was before.",
    code_version="1",
    retry_policy=dg.RetryPolicy(max_retries=2, delay=1),
    # It is made when there is a burst; none for a month is good news, not stale data.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=3650), warn_window=timedelta(days=365)),
    check_specs=[
        dg.AssetCheckSpec("explained", asset=BURSTS, description="Some step fails more than before, for certain.")
    ],
)
def saga_bursts(
    context: dg.AssetExecutionContext, config: BurstConfig, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares it with the bare class
    """Explain a burst and write it to ``ops.incidents`` under its identity."""
    import orjson

    from ml.bursts.blame import analyse

    reaches = config.ranges or _newest(kafka)
    recent, before = spans_of(reaches, kafka)
    found = analyse(_endings(kafka, recent), _endings(kafka, before))
    if config.burst_id:
        details = {**found.as_dict(), "ranges": [one._asdict() for one in recent], "run_id": context.run_id}
        row = {
            "at": datetime.now(UTC),
            "incident_id": config.burst_id,
            "kind": KIND,
            "subject": found.subject,
            "summary": found.summary(),
            "details": orjson.dumps(details).decode(),
        }
        warehouse.insert_rows("ops.incidents", [row], token=f"incident/{config.burst_id}")
    context.log.info("%s", found.summary())
    return dg.MaterializeResult(
        metadata={
            "burst": config.burst_id or "none was named",
            "summary": found.summary(),
            "since": _time(found.since_us),
            "sagas": found.sagas,
            "sagas aborted": found.sagas_aborted,
            "to blame": found.subject,
            "suspects": dg.MetadataValue.md(_table(found.suspects)),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=BURSTS,
                check_name="explained",
                passed=bool(found.suspects),
                severity=dg.AssetCheckSeverity.WARN,
                description=found.summary(),
            )
        ],
    )


def spans_of(reaches: Iterable[Reach], kafka: Bus) -> tuple[list[Span], list[Span]]:
    """Return the burst's offsets and those before it, both within what the topic still holds and is read at most."""
    marks = kafka.watermarks_of(kafka.topics([TOPIC]).values())
    recent, before = [], []
    known = [one for one in reaches if (TOPIC, one.partition) in marks]
    most = MOST_RECORDS // max(1, len(known))
    for one in known:
        low, high = marks[TOPIC, one.partition]
        first, last = max(low, one.from_offset), min(high, one.to_offset)
        last = min(last, first + most)
        if first < last:
            recent.append(Span(TOPIC, one.partition, first, last))
        # What was before is worth more than the burst's own length: a quiet minute has few failures.
        if (start := max(low, first - most)) < first:
            before.append(Span(TOPIC, one.partition, start, first))
    return recent, before


def _newest(kafka: Bus) -> list[Reach]:
    marks = kafka.watermarks_of(kafka.topics([TOPIC]).values())
    most = MOST_RECORDS // max(1, len(marks))
    return [
        Reach(partition=partition, from_offset=max(low, high - min(most, (high - low) // 2)), to_offset=high)
        for (_, partition), (low, high) in sorted(marks.items())
    ]


def _endings(kafka: Bus, spans: Sequence[Span]) -> list[Any]:
    from ml.bursts.told import told

    return told(value for _, records in kafka.read_ranges(spans) for value in records.values)


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds") if us else ""


def _table(suspects: Sequence[Any]) -> str:
    head = "| participant | step | now | before | added | errors |\n| --- | --- | --- | --- | --- | --- |\n"
    rows = []
    for one in suspects:
        errors = ", ".join(f"{name} ({count})" for name, count in one.errors[:3]).replace("|", "/")
        now = f"{one.share:.0%} of {one.attempts}"
        rows.append(
            f"| {one.participant} | {one.step} | {now} | {one.share_before:.0%} of {one.attempts_before} "
            f"| {one.added:.0f} | {errors} |"
        )
    return head + "\n".join(rows)
