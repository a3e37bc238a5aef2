"""The landing job: exact ranges of a topic into the warehouse.

What belongs here: the job that the landing sensor requests runs of. What does not: when it runs (``sensors.landing``).
"""

from __future__ import annotations

import dagster as dg

from assets.permanent import no_retry_of_permanent

#: One run lands the ranges in its config, so two runs never write the same rows; the in-process executor saves a
#: process start per run, which is most of the time between an event and its row.
landing_job = dg.define_asset_job(
    "landing",
    selection=dg.AssetSelection.assets(["raw", "events"]),
    executor_def=dg.in_process_executor,
    hooks={no_retry_of_permanent},
    tags={"isthmus/capability": "landing", "dagster/max_retries": "3"},
    description="Land exact offset ranges of the domain topics in raw.events.",
)
