"""Landing: the domain topics' records, each offset once, in ``raw.events``.

What belongs here: the assets, their configuration and their checks. What does not: which ranges are next
(``planning.py``), how a range gets in (``pipeline.py``), the checks' figures (``checks.py``), and when a run starts
(``sensors/landing``).

Annotations are evaluated here: Dagster reads the configuration's class from them.
"""

from collections.abc import Iterable
from datetime import timedelta

import dagster as dg
from pydantic import Field

from assets.landing import checks
from assets.landing.pipeline import land
from assets.landing.planning import Survey, assess, survey, unlanded
from assets.permanent import no_retry_of_permanent
from events.catalogue import DOMAIN_TOPICS
from resources.errors import RangeGone, Unavailable
from resources.kafka import KafkaResource
from resources.ledger import Landed, Ledger, Range
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

RAW_EVENTS = dg.AssetKey(["raw", "events"])
#: Share of records that cannot become an event from which the check warns.
QUARANTINE_LIMIT = 0.01
#: Age (seconds) from which an offset that is not landed counts as late.
FRESHNESS_SECONDS = 600.0

#: Tag of a run that failed because a service could not take its ranges then; the sensor reads it.
NOT_NOW = "isthmus/not_now"

_RETRIES = 3

bus_topics = [
    dg.AssetSpec(
        key=dg.AssetKey(["bus", topic]),
        group_name="bus",
        owners=["team:platform"],
        kinds={"kafka"},
        description=f"Topic `{topic}`: events that the router accepted, CloudEvents in JSON.",
    )
    for topic in DOMAIN_TOPICS
]


class RangeConfig(dg.Config):
    """Offsets ``[from_offset, to_offset)`` of a partition."""

    topic: str = Field(description="Topic.")
    partition: int = Field(description="Partition.")
    from_offset: int = Field(description="First offset.")
    to_offset: int = Field(description="End, exclusive.")
    generation: int = Field(default=0, description="How often the topic was made anew before.")


class LandingConfig(dg.Config):
    """What one run lands."""

    ranges: list[RangeConfig] = Field(
        default_factory=list, description="Exact ranges; none: everything that is committed now and not landed yet."
    )


@dg.asset(
    key=RAW_EVENTS,
    deps=bus_topics,
    group_name="landing",
    owners=["team:platform"],
    kinds={"clickhouse"},
    hooks={no_retry_of_permanent},
    description="Every record of the domain topics, as it came. Read it through staging: a range that was landed "
    "twice shows twice here until the warehouse merges it.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=13)),
    check_specs=[
        dg.AssetCheckSpec("contiguity", asset=RAW_EVENTS, blocking=True, description="No offset is missing."),
        dg.AssetCheckSpec("rows", asset=RAW_EVENTS, blocking=True, description="The ledger's rows are there, once."),
        dg.AssetCheckSpec("quarantine", asset=RAW_EVENTS, description="Nearly every record can become an event."),
    ],
)
def raw_events(
    context: dg.AssetExecutionContext, config: LandingConfig, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares it with the bare class
    """Read the configured ranges, insert them, note them in the ledger, and check what stands there."""
    ledger = Ledger(warehouse)
    try:
        ranges = [Range(**one.model_dump()) for one in config.ranges] or _everything(kafka, ledger)
        landed = land(
            ranges,
            bus=kafka,
            warehouse=warehouse,
            block_events=get_settings().landing_block_events,
            run_id=context.run_id,
        )
        return dg.MaterializeResult(
            metadata=_metadata(landed, warehouse),
            check_results=[
                result("contiguity", checks.contiguity(survey(DOMAIN_TOPICS, kafka, ledger))),
                result("rows", checks.rows(warehouse, ranges)),
                result(
                    "quarantine",
                    checks.quarantine(warehouse, ranges, limit=QUARANTINE_LIMIT),
                    severity=dg.AssetCheckSeverity.WARN,
                ),
            ],
        )
    except Unavailable as error:
        if context.retry_number >= _RETRIES:
            context.instance.add_run_tags(context.run_id, {NOT_NOW: type(error).__name__})
            raise dg.Failure(str(error), allow_retries=False) from error
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=2.0 ** (context.retry_number + 1)) from error
    except RangeGone as error:
        # No retry brings these offsets back; the sensor's next tick records the gap.
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.asset_check(asset=RAW_EVENTS, description="What the broker took more than ten minutes ago has been landed.")
def freshness(warehouse: WarehouseResource, kafka: KafkaResource) -> dg.AssetCheckResult:
    """Compare what stands on the broker with the ledger."""
    verdict = checks.freshness(DOMAIN_TOPICS, kafka, warehouse, limit_seconds=FRESHNESS_SECONDS)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        description=verdict.description,
        metadata=verdict.figures,
        severity=dg.AssetCheckSeverity.WARN,
    )


def result(
    name: str, verdict: checks.Verdict, *, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """Return ``verdict`` as the result of the check ``name`` of ``raw/events``."""
    return dg.AssetCheckResult(
        asset_key=RAW_EVENTS,
        check_name=name,
        passed=verdict.passed,
        severity=severity,
        description=verdict.description,
        metadata=verdict.figures,
    )


def _everything(kafka: KafkaResource, ledger: Ledger) -> list[Range]:
    """Return every committed offset that is not landed, having noted new partitions and gaps."""
    now: Survey = survey(DOMAIN_TOPICS, kafka, ledger)
    state = assess(now)
    ledger.open_gaps(state.gaps)
    ledger.see(state.new)
    return unlanded(now, state, {at: high for at, (_, high) in now.marks.items()})


def _metadata(landed: Iterable[Landed], warehouse: WarehouseResource) -> dict[str, dg.MetadataValue]:
    done = list(landed)
    touched = warehouse.query_rows(
        "SELECT uniqExact(topic, subject) AS subjects, uniqExact(hour) AS hours FROM raw.touched"
        " WHERE topic IN {topics:Array(String)} AND landing_id IN {ids:Array(String)}",
        {"topics": [one.range.topic for one in done], "ids": [one.range.landing_id for one in done]},
    )[0]
    return {
        "dagster/row_count": dg.MetadataValue.int(sum(one.rows for one in done)),
        "bytes": dg.MetadataValue.int(sum(one.bytes for one in done)),
        "touched_subjects": dg.MetadataValue.int(touched["subjects"]),
        "touched_hours": dg.MetadataValue.int(touched["hours"]),
        "ranges": dg.MetadataValue.table(
            [dg.TableRecord({"range": one.range.landing_id, "rows": one.rows, "bytes": one.bytes}) for one in done],
            schema=dg.TableSchema(
                columns=[
                    dg.TableColumn("range", "string"),
                    dg.TableColumn("rows", "int"),
                    dg.TableColumn("bytes", "int"),
                ]
            ),
        ),
    }
