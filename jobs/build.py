"""The jobs that turn landed events into tables, models, reports and decisions, and their schedules.

What belongs here: which assets run together, when, and how often a run is tried again. What does not: what an asset
does (``assets``), or work that starts on an event (``sensors``).
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.report import COMPLIANCE
from assets.permanent import no_retry_of_permanent
from assets.quality import QUALITY
from assets.refusal import refuse_when_blocked

_GROUPS_OF_THE_HOUR = ("bi", "quality", "decisions")

# A run that fails before its decision still records why there is none; one that failed for good is not repeated.
_HOOKS = {refuse_when_blocked, no_retry_of_permanent}

hourly_build_job = dg.define_asset_job(
    "hourly_build",
    # Predictions for running sagas go stale with the hour, training does not: it has a job of its own.
    selection=dg.AssetSelection.groups(*_GROUPS_OF_THE_HOUR)
    | dg.AssetSelection.assets(["ml", "saga_predictions"], ["ml", "saga_drift"]),
    hooks=_HOOKS,
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "bi", "dagster/max_retries": "2"},
    description="BI tables by touched saga and hour, quality report, predictions, drift, decisions and outcomes.",
)

daily_train_job = dg.define_asset_job(
    "daily_train",
    selection=dg.AssetSelection.groups("sagas"),
    hooks={no_retry_of_permanent},
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "sagas", "dagster/max_retries": "1"},
    description="Train the failure models; promote a challenger only where it is better on later data.",
)

daily_report_job = dg.define_asset_job(
    "daily_report",
    selection=QUALITY,
    hooks={no_retry_of_permanent},
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "quality", "dagster/max_retries": "2"},
    description="The quality report with its browsable Data Docs.",
)

everything_job = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.groups("landing", *_GROUPS_OF_THE_HOUR, "sagas")
    | dg.AssetSelection.assets(*COMPLIANCE),
    hooks=_HOOKS,
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "demo"},
    description="The whole graph in one run, whatever is on the bus landed first: what `make demo` materializes.",
)

hourly_build_schedule = dg.ScheduleDefinition(
    name="hourly_build",
    job=hourly_build_job,
    cron_schedule="5 * * * *",  # five past, so that the hour's last events have landed
    execution_timezone="UTC",
    description="Five past every hour.",
)
daily_train_schedule = dg.ScheduleDefinition(
    name="daily_train",
    job=daily_train_job,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    description="Half past two, when traffic is low.",
)
daily_report_schedule = dg.ScheduleDefinition(
    name="daily_report",
    job=daily_report_job,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Six in the morning, before people read it.",
)
