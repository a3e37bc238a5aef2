"""The job that copies the operational sources and compares them, and its schedule.

What belongs here: the two assets together, and when. What does not: which tables (settings), and how
(``assets.sources``).
"""

from __future__ import annotations

import dagster as dg

from jobs.making import asset_job, schedule

sources_job = asset_job(
    "sources",
    dg.AssetSelection.groups("sources"),
    capability="sources",
    retries=2,
    description="Copy the configured sources' tables, and compare the warehouse's with them.",
)

sources_schedule = schedule(sources_job, "0 1 * * *", "One in the morning, when sources are quiet.")
