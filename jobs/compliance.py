"""The job that keeps retention, audits access and writes the compliance report, and its schedule.

What belongs here: the assets together, and when. What does not: requests of persons, which have a job of their own.
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.report import COMPLIANCE
from jobs.making import asset_job, schedule

compliance_job = asset_job(
    "compliance",
    dg.AssetSelection.assets(["quality", "pii_inventory"], *COMPLIANCE),
    capability="compliance",
    retries=2,
    description="Personal data looked for, retention kept, access audited, record of processing and report written.",
)

compliance_schedule = schedule(compliance_job, "0 4 * * *", "Four in the morning, after the copies of the sources.")
