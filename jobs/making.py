"""What every job and schedule of the platform has: one process a run, no retry of what failed for good, UTC.

What belongs here: these rules. What does not: which assets run, and when.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from assets.permanent import no_retry_of_permanent


def asset_job(
    name: str,
    selection: dg.AssetSelection,
    *,
    capability: str,
    description: str,
    retries: int = 0,
    hooks: frozenset[dg.HookDefinition] = frozenset(),
) -> Any:
    """Return a job over ``selection`` whose run is tried again ``retries`` times unless it failed for good."""
    return dg.define_asset_job(
        name,
        selection=selection,
        # Starting a process for each step costs more than most steps take.
        executor_def=dg.in_process_executor,
        hooks={no_retry_of_permanent, *hooks},
        tags={"isthmus/capability": capability, **({"dagster/max_retries": str(retries)} if retries else {})},
        description=description,
    )


def schedule(job: Any, cron: str, description: str) -> dg.ScheduleDefinition:
    """Return the job's schedule (UTC), which bears its name."""
    return dg.ScheduleDefinition(
        name=job.name, job=job, cron_schedule=cron, execution_timezone="UTC", description=description
    )
