"""Events to the figures of each mart, by Polars, from the definitions in ``_sagas.yml`` and ``_kpis.yml``.

Every function takes the events (one row an event, see ``COLUMNS``) or the frames before it and returns a mart in the
mart's own columns, sorted by its key.
"""

from __future__ import annotations

import polars as pl

COLUMNS = {
    "saga_type": pl.String,
    "saga_id": pl.String,
    "source": pl.String,
    "event_id": pl.String,
    "event_type": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "step": pl.String,
    "participant": pl.String,
    "attempt": pl.Int64,
    "status": pl.String,
    "worker": pl.String,
    "error": pl.String,
    "duration_ms": pl.Float64,
    "load": pl.Float64,
    "amount": pl.Float64,
    "currency": pl.String,
    "reason": pl.String,
    "outcome": pl.String,
    "attributes": pl.String,
}
SAGA = ["saga_type", "saga_id"]
STEP = [*SAGA, "step"]
RANKS = {"scheduled": 0, "started": 1, "completed": 2, "failed": 2, "timed_out": 2, "retried": 3, "compensated": 4}
KEYS = {
    "stg_saga_events": ["source", "event_id"],
    "fct_saga_steps": ["saga_type", "saga_id", "step_number"],
    "fct_sagas": SAGA,
    "kpi_hourly": ["saga_type", "hour"],
    "saga_funnel": ["saga_type", "step"],
    "saga_rework": ["saga_type", "step"],
    "dim_saga_type": ["saga_type"],
    "dim_participant": ["participant"],
}
_MS = 1000  # microseconds


def all_marts(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return staging's events and every mart by name."""
    steps = fct_saga_steps(events)
    sagas = fct_sagas(events, steps)
    return {
        "stg_saga_events": stg_saga_events(events),
        "fct_saga_steps": steps,
        "fct_sagas": sagas,
        "kpi_hourly": kpi_hourly(sagas),
        "saga_funnel": saga_funnel(steps, sagas),
        "saga_rework": saga_rework(steps),
        "dim_saga_type": dim_saga_type(steps, sagas),
        "dim_participant": dim_participant(steps),
    }


def stg_saga_events(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events, with the defaults of the columns that only steps have."""
    return (
        events.select(*COLUMNS)
        .with_columns(
            pl.col("step", "participant", "status", "currency").fill_null(""),
            pl.col("attempt").fill_null(0),
            pl.col("attributes").fill_null("{}"),
        )
        .sort(KEYS["stg_saga_events"])
    )


def fct_saga_steps(events: pl.DataFrame) -> pl.DataFrame:
    """Return the step executions."""
    order = ["event_time", "attempt", "rank", "id_bytes", "event_id", "source"]
    steps = (
        events.filter(pl.col("event_type") == "isthmus.saga.step")
        .with_columns(rank=pl.col("status").replace_strict(RANKS), id_bytes=pl.col("event_id").str.len_bytes())
        .sort(*STEP, *order)
        .with_row_index("place")
        .with_columns(pl.col("place").cast(pl.Int64), is_lifecycle=pl.col("rank") < 3)
    )
    group = [*STEP, "attempt"]
    before = pl.col("rank").shift(1).over(group)
    opens = (
        pl.when(pl.col("rank") == 0)
        .then(True)
        .when(pl.col("rank") == 1)
        .then(before.is_null() | (before != 0))
        .otherwise(before.is_null() | (before > 1))
    )
    # The number of the row that opened an execution names the execution.
    lifecycle = steps.filter("is_lifecycle").with_columns(
        owner=pl.when(opens).then(pl.col("place")).forward_fill().over(group)
    )
    known = lifecycle.select(*group, "place", "owner").sort("place")
    notes = steps.filter(~pl.col("is_lifecycle")).sort("place")
    same_attempt = notes.join_asof(known, on="place", by=group, strategy="backward", check_sortedness=False)
    any_attempt = notes.join_asof(
        known.drop("attempt"), on="place", by=STEP, strategy="backward", check_sortedness=False
    )
    notes = notes.with_columns(owner=pl.coalesce(same_attempt["owner"], any_attempt["owner"], notes["place"]))
    owned = pl.concat([lifecycle, notes.select(lifecycle.columns)]).sort("place")

    def last_known(column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col("is_lifecycle")).drop_nulls().last()

    def time_of(*statuses: str) -> pl.Expr:
        return pl.col("event_time").filter(pl.col("status").is_in(statuses)).min()

    executions = owned.group_by([*STEP, "owner"], maintain_order=True).agg(
        pl.col("participant", "attempt", "id_bytes", "event_id", "source").first(),
        opened_at=pl.col("event_time").first(),
        scheduled_at=time_of("scheduled"),
        started_at=time_of("started"),
        ended_at=time_of("completed", "failed", "timed_out"),
        status=pl.coalesce(pl.col("status").filter(pl.col("is_lifecycle")).last(), pl.col("status").last()),
        reported_ms=last_known("duration_ms"),
        load=pl.col("load").filter(pl.col("is_lifecycle")).drop_nulls().first(),
        worker=last_known("worker"),
        error=pl.col("error").drop_nulls().last(),
        retries=(pl.col("status") == "retried").sum(),
        compensations=(pl.col("status") == "compensated").sum(),
        compensated_at=time_of("compensated"),
        events=pl.len(),
        last_event_at=pl.col("event_time").max(),
    )
    numbered = executions.sort("opened_at", "id_bytes", "event_id", "source")
    return (
        numbered.with_columns(
            step_number=pl.int_range(1, pl.len() + 1).over(SAGA),
            execution=pl.int_range(1, pl.len() + 1).over(STEP),
            queue_ms=_micros("scheduled_at", "started_at") / _MS,
            run_ms=_micros("started_at", "ended_at") / _MS,
            is_compensated=(pl.col("compensations") > 0).cast(pl.Int64),
        )
        .drop("owner", "id_bytes", "event_id", "source")
        .sort(KEYS["fct_saga_steps"])
    )


def fct_sagas(events: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """Return the sagas."""
    rank = pl.col("event_type").replace_strict({"isthmus.saga.started": 0, "isthmus.saga.step": 1}, default=2)
    ordered = events.with_columns(rank=rank, id_bytes=pl.col("event_id").str.len_bytes()).sort(
        "event_time", "rank", "id_bytes", "event_id", "source"
    )
    ending = pl.col("rank") == 2
    is_start = pl.col("rank") == 0
    sagas = ordered.group_by(SAGA, maintain_order=True).agg(
        started_at=pl.col("event_time").first(),
        ended_at=pl.col("event_time").filter(ending).first(),
        ending=pl.col("event_type").filter(ending).first(),
        abort_reason=pl.col("reason").filter(ending).first(),
        outcome=pl.col("outcome").filter(ending).first(),
        amount=pl.col("amount").drop_nulls().first(),
        currency=pl.col("currency").filter(pl.col("currency") != "").first().fill_null(""),
        attributes=pl.col("attributes").filter(is_start).first().fill_null("{}"),
        events=pl.len(),
        retries=(pl.col("status") == "retried").sum(),
        compensations=(pl.col("status") == "compensated").sum(),
        last_event_at=pl.col("event_time").last(),
        has_started_event=is_start.any().cast(pl.Int64),
        ending_events=ending.sum(),
    )
    work = (
        steps.sort("step_number")
        .group_by(SAGA)
        .agg(
            steps=pl.len(),
            distinct_steps=pl.col("step").n_unique(),
            participants=pl.col("participant").n_unique(),
            failures=pl.col("status").is_in(["failed", "timed_out"]).sum(),
            queue_us=_micros("scheduled_at", "started_at").sum(),
            run_us=_micros("started_at", "ended_at").sum(),
            last_step=pl.col("step").last(),
        )
    )
    counted = ["steps", "distinct_steps", "participants", "failures", "queue_us", "run_us"]
    return (
        sagas.join(work, on=SAGA, how="left")
        .with_columns(
            pl.col(*counted).fill_null(0),
            pl.col("last_step").fill_null(""),
            status=pl.col("ending").str.strip_prefix("isthmus.saga.").fill_null("running"),
            duration_ms=_micros("started_at", "ended_at") / _MS,
        )
        .with_columns(
            repeats=pl.col("steps").cast(pl.Int64) - pl.col("distinct_steps").cast(pl.Int64),
            queue_ms=pl.col("queue_us") / _MS,
            run_ms=pl.col("run_us") / _MS,
        )
        .drop("ending", "queue_us", "run_us")
        .sort(SAGA)
    )


def kpi_hourly(sagas: pl.DataFrame) -> pl.DataFrame:
    """Return the key figures by hour; what is in flight is counted saga by saga, not carried from hour to hour."""
    sagas = sagas.with_columns(
        micros=(pl.col("amount").fill_null(0) * 1_000_000).round().cast(pl.Int64),
        start_hour=pl.col("started_at").dt.truncate("1h"),
        end_hour=pl.col("ended_at").dt.truncate("1h"),
        us=_micros("started_at", "ended_at"),
    )
    is_completed, is_aborted = pl.col("status") == "completed", pl.col("status") == "aborted"
    began = sagas.group_by("saga_type", hour="start_hour").agg(sagas_started=pl.len(), started=pl.col("micros").sum())
    ended = (
        sagas.filter(pl.col("end_hour").is_not_null())
        .group_by("saga_type", hour="end_hour")
        .agg(
            sagas_ended=pl.len(),
            sagas_completed=is_completed.sum(),
            sagas_aborted=is_aborted.sum(),
            aborted_business=(pl.col("abort_reason") == "business").sum(),
            aborted_technical=(pl.col("abort_reason") == "technical").sum(),
            duration_mean_ms=pl.col("us").sum() / pl.len() / _MS,
            completed=pl.col("micros").filter(is_completed).sum(),
            aborted=pl.col("micros").filter(is_aborted).sum(),
            **{
                f"duration_p{share}_ms": pl.col("us").sort().get(pl.len() * share // 100) / _MS
                for share in (50, 90, 95, 99)
            },
        )
    )
    hours = pl.concat([began.select("saga_type", "hour"), ended.select("saga_type", "hour")])
    spine = (
        hours.group_by("saga_type")
        .agg(hour=pl.datetime_ranges(pl.col("hour").min(), pl.col("hour").max(), "1h").first())
        .explode("hour")
    )
    counts = ["sagas_started", "sagas_ended", "sagas_completed", "sagas_aborted", "aborted_business"]
    counts += ["aborted_technical", "started", "completed", "aborted"]
    filled = (
        spine.join(began, on=["saga_type", "hour"], how="left")
        .join(ended, on=["saga_type", "hour"], how="left")
        .with_columns(pl.col(counts).fill_null(0))
        .sort("saga_type", "hour")
    )
    in_flight = _in_flight(spine, sagas)

    def rate(column: str) -> pl.Expr:
        return pl.when(pl.col("sagas_ended") > 0).then(pl.col(column) / pl.col("sagas_ended"))

    return (
        filled.join(in_flight, on=["saga_type", "hour"])
        .with_columns(
            success_rate=rate("sagas_completed"),
            failure_rate=rate("sagas_aborted"),
            business_failure_rate=rate("aborted_business"),
            technical_failure_rate=rate("aborted_technical"),
            amount_started=pl.col("started") / 1e6,
            amount_completed=pl.col("completed") / 1e6,
            amount_aborted=pl.col("aborted") / 1e6,
        )
        .drop("started", "completed", "aborted")
        .sort(KEYS["kpi_hourly"])
    )


def _in_flight(spine: pl.DataFrame, sagas: pl.DataFrame) -> pl.DataFrame:
    """Return sagas and money in flight at each hour's end: begun by then and not ended by then."""
    parts = []
    for (saga_type,), own_hours in spine.group_by("saga_type"):
        own = sagas.filter(pl.col("saga_type") == saga_type)
        hours = own_hours["hour"].sort()
        sums = []
        for at in ("start_hour", "end_hour"):
            happened = own.filter(pl.col(at).is_not_null()).sort(at)
            count = happened[at].search_sorted(hours, side="right")
            money = pl.concat([pl.Series([0], dtype=pl.Int64), happened["micros"].cum_sum()])
            sums.append((count.cast(pl.Int64), money.gather(count)))
        (begun, begun_money), (gone, gone_money) = sums
        parts.append(
            pl.DataFrame(
                {
                    "saga_type": pl.Series([saga_type] * len(hours)),
                    "hour": hours,
                    "sagas_in_flight": begun - gone,
                    "money_in_flight": (begun_money - gone_money) / 1e6,
                }
            )
        )
    return pl.concat(parts)


def saga_funnel(steps: pl.DataFrame, sagas: pl.DataFrame) -> pl.DataFrame:
    """Return how far sagas come."""
    reached = (
        steps.group_by(STEP)
        .agg(first=pl.col("step_number").min(), passed=(pl.col("status") == "completed").any())
        .join(sagas.select(*SAGA, saga_status="status"), on=SAGA)
    )
    totals = steps.group_by("saga_type").agg(sagas=pl.col("saga_id").n_unique())
    after = {
        name: (pl.col("saga_status") == name).sum().alias(f"{name}_after")
        for name in ("completed", "aborted", "running")
    }
    funnel = reached.group_by("saga_type", "step").agg(
        *after.values(),
        median_step_number=pl.col("first").sort().get(pl.len() // 2),
        sagas_reached=pl.len(),
        sagas_passed=pl.col("passed").sum(),
    )
    ended = pl.col("completed_after") + pl.col("aborted_after")
    return (
        funnel.join(totals, on="saga_type")
        .sort("saga_type", "median_step_number", "sagas_reached", "step", descending=[False, False, True, False])
        .with_columns(
            position=pl.int_range(1, pl.len() + 1).over("saga_type"),
            reach_rate=pl.col("sagas_reached") / pl.col("sagas"),
            pass_rate=pl.col("sagas_passed") / pl.col("sagas_reached"),
            completion_rate=pl.when(ended > 0).then(pl.col("completed_after") / ended),
        )
        .sort(KEYS["saga_funnel"])
    )


def saga_rework(steps: pl.DataFrame) -> pl.DataFrame:
    """Return what was done more than once."""
    repeat = pl.col("execution") > 1
    run_us = _micros("started_at", "ended_at")
    return (
        steps.group_by("saga_type", "step")
        .agg(
            sagas=pl.col("saga_id").n_unique(),
            executions=pl.len(),
            sagas_reworked=pl.col("saga_id").filter(repeat).n_unique(),
            repeats=repeat.sum(),
            max_executions=pl.col("execution").max(),
            failures=pl.col("status").is_in(["failed", "timed_out"]).sum(),
            retries=pl.col("retries").sum(),
            compensations=pl.col("compensations").sum(),
            run=run_us.sum(),
            rework=run_us.filter(repeat).sum(),
        )
        .with_columns(
            rework_rate=pl.col("sagas_reworked") / pl.col("sagas"),
            repeat_rate=pl.col("repeats") / pl.col("executions"),
            run_ms=pl.col("run") / _MS,
            rework_run_ms=pl.col("rework") / _MS,
            rework_run_share=pl.when(pl.col("run") > 0).then(pl.col("rework") / pl.col("run")),
        )
        .drop("run", "rework")
        .sort(KEYS["saga_rework"])
    )


def dim_saga_type(steps: pl.DataFrame, sagas: pl.DataFrame) -> pl.DataFrame:
    """Return the kinds of saga."""
    work = steps.group_by("saga_type").agg(
        steps=pl.col("step").n_unique(), participants=pl.col("participant").n_unique()
    )
    kinds = sagas.group_by("saga_type").agg(
        sagas=pl.len(),
        running=(pl.col("status") == "running").sum(),
        completed=(pl.col("status") == "completed").sum(),
        aborted=(pl.col("status") == "aborted").sum(),
        currencies=pl.col("currency").filter(pl.col("currency") != "").unique().sort(),
        first_started_at=pl.col("started_at").min(),
        last_event_at=pl.col("last_event_at").max(),
    )
    return (
        kinds.join(work, on="saga_type", how="left")
        .with_columns(pl.col("steps", "participants").fill_null(0))
        .sort("saga_type")
    )


def dim_participant(steps: pl.DataFrame) -> pl.DataFrame:
    """Return who does steps."""
    return (
        steps.group_by("participant")
        .agg(
            saga_types=pl.col("saga_type").unique().sort(),
            steps=pl.struct("saga_type", "step").n_unique(),
            executions=pl.len(),
            failures=pl.col("status").is_in(["failed", "timed_out"]).sum(),
            compensations=pl.col("compensations").sum(),
            first_seen_at=pl.col("opened_at").min(),
            last_seen_at=pl.col("last_event_at").max(),
        )
        .sort("participant")
    )


def _micros(earlier: str, later: str) -> pl.Expr:
    """Return the whole microseconds between two times; null where one is."""
    return (pl.col(later) - pl.col(earlier)).dt.total_microseconds()
