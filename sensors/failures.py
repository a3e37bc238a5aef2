"""The failure sensor: a run that failed for good becomes an incident that people and later models can find.

What belongs here: noticing. What does not: trying again (run retries in dagster.yaml, retry policies of assets).
"""

from datetime import UTC, datetime

import dagster as dg

from resources.warehouse import WarehouseResource


@dg.run_failure_sensor(
    name="run_failures",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Writes each run that failed for good to ops.incidents.",
)
def run_failure_sensor(context: dg.RunFailureSensorContext, warehouse: WarehouseResource) -> None:
    """Record the failed run; one that will be tried again is not an incident yet."""
    import orjson

    run = context.dagster_run
    if run.tags.get("dagster/will_retry") == "true":
        return
    steps = [event.step_key for event in context.get_step_failure_events() if event.step_key]
    warehouse.insert_rows(
        "ops.incidents",
        [
            {
                "at": datetime.now(UTC),
                "incident_id": run.run_id,
                "kind": "run_failure",
                "subject": run.job_name,
                "summary": context.failure_event.message or f"run {run.run_id} failed",
                "details": orjson.dumps({"steps": steps, "tags": dict(run.tags)}, default=str).decode(),
            }
        ],
        token=f"incident/{run.run_id}",
    )
