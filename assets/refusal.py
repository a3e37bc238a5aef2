"""What becomes of a decision whose run fails before it: a recorded refusal, never silence.

What belongs here: the hook, which steps and jobs of any capability may carry. What does not: judging and recording
(``assets.decisions``), which is imported when the hook runs: the quality report carries the hook, and decisions read
the quality report's suites.
"""

import dagster as dg

SAGA_POLICY = dg.AssetKey(["ops", "saga_policy"])


@dg.failure_hook(name="refuse_when_blocked", required_resource_keys={"warehouse"})
def refuse_when_blocked(context: dg.HookContext) -> None:
    """Where a step fails that a decision of the same run waits for, record the decision as refused, with the reason.

    A failed blocking check makes Dagster skip what is downstream: nobody would learn why there is no new decision.
    """
    if context.op.name == SAGA_POLICY.to_python_identifier():
        return  # the decision's own step: it is tried again, or its run's failure says why
    planned = context.instance.get_records_for_run(
        context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ).records
    events = [record.event_log_entry.dagster_event for record in planned]
    if any(event is not None and event.asset_key == SAGA_POLICY for event in events):
        from assets.decisions.saga_policy import refuse_for

        error = context.op_exception
        cause = f"step {context.step_key} of the run failed" + (f": {type(error).__name__}" if error else "")
        refuse_for(context.instance, context.resources.warehouse, run_id=context.run_id, cause=cause)
