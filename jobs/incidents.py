"""The jobs that follow a burst of failures.

What belongs here: the jobs that the burst sensor requests. What does not: when they run (``sensors.bursts``).
"""

from __future__ import annotations

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.refusal import refuse_when_blocked

saga_burst_job = dg.define_asset_job(
    "saga_burst",
    selection=dg.AssetSelection.groups("incidents"),
    hooks={no_retry_of_permanent},
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "incidents", "dagster/max_retries": "2"},
    description="Explain a burst of failed saga events, and record it as an incident.",
)

#: What a policy rests on, and it: the usual gate with fresh tables, without what it does not need.
policy_after_burst_job = dg.define_asset_job(
    "policy_after_burst",
    selection=dg.AssetSelection.groups("bi", "quality") | dg.AssetSelection.assets(["ops", "saga_policy"]),
    hooks={refuse_when_blocked, no_retry_of_permanent},
    executor_def=dg.in_process_executor,
    tags={"isthmus/capability": "incidents", "dagster/max_retries": "1"},
    description="BI tables, quality report and a new saga policy, right after a burst of failures.",
)
