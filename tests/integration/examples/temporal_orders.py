"""An order as a Temporal workflow: what the test of the interceptor runs."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, ApplicationError

CALLS: list[tuple[str, str, int]] = []
"""Each call: workflow, activity, attempt."""
_LIMIT = timedelta(seconds=30)


def _called() -> activity.Info:
    info = activity.info()
    CALLS.append((info.workflow_id or "", info.activity_type, info.attempt))
    return info


@activity.defn
async def reserve(amount: float) -> str:
    _called()
    return "reserved"


@activity.defn
async def charge(amount: float) -> str:
    info = _called()
    if info.workflow_id == "flaky" and info.attempt < 3:
        raise ConnectionResetError("card 4711")
    if info.workflow_id == "dead":
        raise ConnectionResetError("card 4711")
    if amount > 1000:
        raise ApplicationError("CardDeclined", type="Declined")
    return "paid"


@activity.defn
async def release(amount: float) -> str:
    _called()
    return "released"


@workflow.defn(name="order")
class Order:
    @workflow.run
    async def run(self, amount: float) -> str:
        await workflow.execute_activity(reserve, amount, start_to_close_timeout=_LIMIT)
        try:
            return await workflow.execute_activity(charge, amount, start_to_close_timeout=_LIMIT)
        except ActivityError:
            await workflow.execute_activity(release, amount, start_to_close_timeout=_LIMIT)
            raise
