"""The job that carries out requests of erasure, and its schedule.

What belongs here: the asset, and when. What does not: the work (``assets.compliance``).
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.erasures import ERASURES
from assets.permanent import no_retry_of_permanent

privacy_job = dg.define_asset_job(
    "privacy",
    selection=dg.AssetSelection.assets(ERASURES),
    executor_def=dg.in_process_executor,
    hooks={no_retry_of_permanent},
    tags={"isthmus/capability": "compliance", "dagster/max_retries": "2"},
    description="Carry out requests of erasure that are open.",
)

privacy_schedule = dg.ScheduleDefinition(
    name="privacy",
    job=privacy_job,
    cron_schedule="20 * * * *",
    execution_timezone="UTC",
    description="Every hour; a request that waits for a store is tried again.",
)
