"""Failures that no repetition cures: the run that ends by one is not run again.

What belongs here: the hook, which assets and jobs of any capability may carry, and which failures it means. What does
not: how often the others are tried again (``dagster/max_retries`` of a job, ``run_retries`` in dagster.yaml).

Dagster's own run retries know no difference: ``allow_retries=False`` ends the retries of a step, and the run is
started again all the same.
"""

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError  # not among the public names

from resources.errors import ResourceError, Unavailable


def is_permanent(error: BaseException | None) -> bool:
    """Return whether ``error`` comes again with the same data: a blocking check that failed, or a final refusal."""
    if isinstance(error, dg.Failure):
        return not error.allow_retries
    if isinstance(error, ResourceError):
        return not isinstance(error, Unavailable)
    return isinstance(error, DagsterAssetCheckFailedError)


@dg.failure_hook(name="no_retry_of_permanent")
def no_retry_of_permanent(context: dg.HookContext) -> None:
    """Where a step failed for good, take the run's retries away before the run ends and Dagster asks for them."""
    if is_permanent(context.op_exception):
        context.instance.add_run_tags(context.run_id, {"dagster/max_retries": "0"})
