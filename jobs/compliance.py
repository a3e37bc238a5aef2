"""The job that keeps retention, audits access and writes the compliance report, and its schedule.

What belongs here: the assets together, and when. What does not: requests of persons, which have a job of their own.
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.report import COMPLIANCE
from assets.permanent import no_retry_of_permanent

compliance_job = dg.define_asset_job(
    "compliance",
    selection=dg.AssetSelection.assets(["quality", "pii_inventory"], *COMPLIANCE),
    executor_def=dg.in_process_executor,
    hooks={no_retry_of_permanent},
    tags={"isthmus/capability": "compliance", "dagster/max_retries": "2"},
    description="Personal data looked for, retention kept, access audited, record of processing and report written.",
)

compliance_schedule = dg.ScheduleDefinition(
    name="compliance",
    job=compliance_job,
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    description="Four in the morning, after the copies of the sources.",
)
