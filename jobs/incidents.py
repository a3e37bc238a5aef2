"""The jobs that follow a burst of failures.

What belongs here: the jobs that the burst sensor requests. What does not: when they run (``sensors.bursts``).
"""

from __future__ import annotations

import dagster as dg

from assets.decisions.evidence import INPUTS
from assets.refusal import refuse_when_blocked
from jobs.making import asset_job

#: What the inputs' tests refer to.
_REFERRED = ("marts/dim_participant", "marts/dim_saga_type")

saga_burst_job = asset_job(
    "saga_burst",
    dg.AssetSelection.groups("incidents"),
    capability="incidents",
    retries=2,
    description="Explain a burst of failed saga events, and record it as an incident.",
)

#: What a policy rests on, and it: the usual gate with fresh tables. The other tables are left to the next whole build:
#: one of a part leaves its landings pending (ADR 60), and the hours that it touched marked.
policy_after_burst_job = asset_job(
    "policy_after_burst",
    (
        dg.AssetSelection.assets(*(key.split("/") for key in INPUTS + _REFERRED)).upstream()
        & dg.AssetSelection.groups("bi")
    )
    | dg.AssetSelection.assets(["quality", "report"], ["ops", "saga_policy"]),
    capability="incidents",
    retries=1,
    hooks=frozenset({refuse_when_blocked}),
    description="The tables of sagas, quality report and a new saga policy, right after a burst of failures.",
)
