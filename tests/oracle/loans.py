"""BPI Challenge 2012's file as the events that it stands for (`data/README.md`: "How the fields map to events")."""

from __future__ import annotations

from pathlib import Path

import polars as pl

WORK = {"SCHEDULE": "scheduled", "START": "started", "COMPLETE": "completed"}
ENDS = {
    "A_APPROVED": ("isthmus.saga.completed", None, "approved"),
    "A_REGISTERED": ("isthmus.saga.completed", None, "approved"),
    "A_ACTIVATED": ("isthmus.saga.completed", None, "approved"),
    "A_DECLINED": ("isthmus.saga.aborted", "business", "declined"),
    "A_CANCELLED": ("isthmus.saga.aborted", "business", "cancelled"),
}


def events(folder: Path) -> pl.DataFrame:
    """Return one row an event, in the columns that ``tests.oracle.marts`` reads."""
    log = pl.read_parquet(folder / "events.parquet").select(
        pl.col("event_index").cast(pl.Int64).alias("index"),
        pl.col("case:concept:name").alias("saga_id"),
        pl.col("case:REG_DATE").alias("registered"),
        pl.col("case:AMOUNT_REQ").cast(pl.Float64).alias("amount"),
        pl.col("concept:name").alias("step"),
        pl.col("lifecycle:transition").alias("lifecycle"),
        pl.col("org:resource").alias("worker"),
        pl.col("time:timestamp").alias("event_time"),
    )
    is_work = pl.col("step").str.starts_with("W_")
    status = (
        pl.when(is_work)
        .then(pl.col("lifecycle").replace_strict(WORK))
        .when(pl.col("step") == "O_CANCELLED")
        .then(pl.lit("compensated"))
        .otherwise(pl.lit("completed"))
    )
    steps = log.sort("saga_id", "step", "index").with_columns(status=status)
    # The attempt of a piece of work is counted by its starts; a schedule announces the next one.
    starts = (pl.col("status") == "started").cum_sum().over("saga_id", "step")
    steps = steps.select(
        "saga_id",
        "event_time",
        "step",
        "status",
        "worker",
        event_id=pl.format("{}/{}", "saga_id", "index"),
        event_type=pl.lit("isthmus.saga.step"),
        participant=pl.col("step")
        .str.slice(0, 1)
        .replace_strict({"A": "orchestrator", "O": "offer", "W": "workforce"}),
        attempt=pl.when(is_work)
        .then(pl.max_horizontal(1, starts + (pl.col("status") == "scheduled").cast(pl.Int64)))
        .otherwise(pl.int_range(1, pl.len() + 1).over("saga_id", "step")),
    )
    started = log.unique("saga_id", keep="first", maintain_order=True).select(
        "saga_id",
        "amount",
        event_id=pl.format("{}/started", "saga_id"),
        event_type=pl.lit("isthmus.saga.started"),
        event_time=pl.col("registered"),
    )
    last = log.filter(pl.col("step").is_in(list(ENDS))).sort("index").group_by("saga_id").last()
    ended = last.select(
        "saga_id",
        "event_time",
        event_id=pl.format("{}/ended", "saga_id"),
        event_type=pl.col("step").replace_strict({step: end[0] for step, end in ENDS.items()}),
        reason=pl.col("step").replace_strict({step: end[1] for step, end in ENDS.items()}, return_dtype=pl.String),
        outcome=pl.col("step").replace_strict({step: end[2] for step, end in ENDS.items()}),
    )
    return pl.concat([started, steps, ended], how="diagonal").with_columns(
        saga_type=pl.lit("loan_application"),
        source=pl.lit("/datasets/bpic2012"),
        error=pl.lit(None, pl.String),
        duration_ms=pl.lit(None, pl.Float64),
        load=pl.lit(None, pl.Float64),
        currency=pl.lit(""),
        attributes=pl.lit("{}"),
    )
