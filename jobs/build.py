"""The jobs that turn landed events into tables, models, reports and decisions, and their schedules.

What belongs here: which assets run together, when, and how often a run is tried again. What does not: what an asset
does (``assets``), or work that starts on an event (``sensors``).
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.report import COMPLIANCE
from assets.quality import QUALITY
from assets.refusal import refuse_when_blocked
from jobs.making import asset_job, schedule

_GROUPS_OF_THE_HOUR = ("bi", "quality", "decisions")

# A run that fails before its decision still records why there is none.
_REFUSING = frozenset({refuse_when_blocked})

hourly_build_job = asset_job(
    "hourly_build",
    # Predictions for running sagas go stale with the hour, training does not: it has a job of its own.
    dg.AssetSelection.groups(*_GROUPS_OF_THE_HOUR)
    | dg.AssetSelection.assets(["ml", "saga_predictions"], ["ml", "saga_drift"]),
    capability="bi",
    retries=2,
    hooks=_REFUSING,
    description="BI tables by touched saga and hour, quality report, predictions, drift, decisions and outcomes.",
)

daily_train_job = asset_job(
    "daily_train",
    dg.AssetSelection.groups("sagas"),
    capability="sagas",
    retries=1,
    description="Train the failure models; promote a challenger only where it is better on later data.",
)

daily_report_job = asset_job(
    "daily_report",
    QUALITY,
    capability="quality",
    retries=2,
    description="The quality report with its browsable Data Docs.",
)

everything_job = asset_job(
    "everything",
    dg.AssetSelection.groups("landing", *_GROUPS_OF_THE_HOUR, "sagas") | dg.AssetSelection.assets(*COMPLIANCE),
    capability="demo",
    hooks=_REFUSING,
    description="The whole graph in one run, whatever is on the bus landed first: what `make demo` materializes.",
)

# Five past, so that the hour's last events have landed.
hourly_build_schedule = schedule(hourly_build_job, "5 * * * *", "Five past every hour.")
daily_train_schedule = schedule(daily_train_job, "30 2 * * *", "Half past two, when traffic is low.")
daily_report_schedule = schedule(daily_report_job, "0 6 * * *", "Six in the morning, before people read it.")
