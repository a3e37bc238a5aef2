"""The job that copies the operational sources and compares them, and its schedule.

What belongs here: the two assets together, and when. What does not: which tables (settings), and how
(``assets.sources``).
"""

from __future__ import annotations

import dagster as dg

from assets.permanent import no_retry_of_permanent

sources_job = dg.define_asset_job(
    "sources",
    selection=dg.AssetSelection.groups("sources"),
    executor_def=dg.in_process_executor,
    hooks={no_retry_of_permanent},
    tags={"isthmus/capability": "sources", "dagster/max_retries": "2"},
    description="Copy the configured sources' tables, and compare the warehouse's with them.",
)

sources_schedule = dg.ScheduleDefinition(
    name="sources",
    job=sources_job,
    cron_schedule="0 1 * * *",
    execution_timezone="UTC",
    description="One in the morning, when sources are quiet.",
)
