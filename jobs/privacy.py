"""The job that carries out requests of erasure, and its schedule.

What belongs here: the asset, and when. What does not: the work (``assets.compliance``).
"""

from __future__ import annotations

import dagster as dg

from assets.compliance.erasures import ERASURES
from jobs.making import asset_job, schedule

privacy_job = asset_job(
    "privacy",
    dg.AssetSelection.assets(ERASURES),
    capability="compliance",
    retries=2,
    description="Carry out requests of erasure that are open.",
)

privacy_schedule = schedule(privacy_job, "20 * * * *", "Every hour; a request that waits for a store is tried again.")
