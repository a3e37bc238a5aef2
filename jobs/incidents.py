"""The jobs that follow a burst of failures.

What belongs here: the jobs that the burst sensor requests. What does not: when they run (``sensors.bursts``).
"""

from __future__ import annotations

import dagster as dg

from assets.refusal import refuse_when_blocked
from jobs.making import asset_job

saga_burst_job = asset_job(
    "saga_burst",
    dg.AssetSelection.groups("incidents"),
    capability="incidents",
    retries=2,
    description="Explain a burst of failed saga events, and record it as an incident.",
)

#: What a policy rests on, and it: the usual gate with fresh tables, without what it does not need.
policy_after_burst_job = asset_job(
    "policy_after_burst",
    dg.AssetSelection.groups("bi", "quality") | dg.AssetSelection.assets(["ops", "saga_policy"]),
    capability="incidents",
    retries=1,
    hooks=frozenset({refuse_when_blocked}),
    description="BI tables, quality report and a new saga policy, right after a burst of failures.",
)
