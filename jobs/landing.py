"""The landing job: exact ranges of a topic into the warehouse.

What belongs here: the job that the landing sensor requests runs of. What does not: when it runs (``sensors.landing``).
"""

from __future__ import annotations

import dagster as dg

from jobs.making import asset_job

#: One run lands the ranges in its config, so two runs never write the same rows.
landing_job = asset_job(
    "landing",
    dg.AssetSelection.assets(["raw", "events"]),
    capability="landing",
    retries=3,
    description="Land exact offset ranges of the domain topics in raw.events.",
)
