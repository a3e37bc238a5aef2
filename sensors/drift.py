"""The drift sensor: an alarm of a champion's watch asks for a training, once.

What belongs here: noticing a report's alarm, the cooldown, the request. What does not: the report (``assets.sagas``),
the training (``jobs.build``), promotion, which stays the gate's.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import dagster as dg

from jobs.build import daily_train_job
from resources.errors import ResourceError
from resources.warehouse import Warehouse, WarehouseResource

TAG = "isthmus/drift"
#: Hours after a request in which no other is made: a training is for all models, and takes in all that has come.
COOLDOWN_HOURS = 6.0
#: The newest report of each model; an older champion's alarm is nobody's any more.
_NEWEST = """
    SELECT model_name, argMax(model_version, reported_at) AS version, argMax(episode, reported_at) AS open,
        argMax(blamed, reported_at) AS column, argMax(evidence, reported_at) AS e
    FROM ml.drift_reports GROUP BY model_name HAVING open != '' ORDER BY model_name
"""


def evaluate(
    context: dg.SensorEvaluationContext, warehouse: Warehouse, *, clock: Callable[[], float] = time.time
) -> dg.SensorResult | dg.SkipReason:
    """Request one training for the alarms that none was requested for; what is already asked for stays asked once."""
    cursor = _read(context.cursor)
    try:
        rows = warehouse.query_rows(_NEWEST)
    except ResourceError as error:
        return dg.SkipReason(f"the warehouse does not tell: {type(error).__name__}")
    known = [episode for episode in cursor["episodes"] if episode in {row["open"] for row in rows}]
    fresh = [row for row in rows if row["open"] not in known]
    if not fresh:
        return dg.SensorResult(cursor=_write(known, cursor["at"]))
    now = clock()
    if now - cursor["at"] < COOLDOWN_HOURS * 3600:
        return dg.SensorResult(cursor=_write(known, cursor["at"]))
    episodes = [str(row["open"]) for row in fresh]
    reasons = [f"{row['column']} of {row['model_name']} version {row['version']} (e = {row['e']:.3g})" for row in fresh]
    wanted = dg.RunRequest(
        run_key="drift/" + "+".join(episodes),
        tags={TAG: ",".join(episodes), "isthmus/reason": "drift: " + "; ".join(reasons)},
    )
    return dg.SensorResult(run_requests=[wanted], cursor=_write([*known, *episodes], now))


def _read(text: str | None) -> dict[str, Any]:
    try:
        document = json.loads(text or "")
        return {"episodes": [str(one) for one in document["episodes"]], "at": float(document["at"])}
    except (ValueError, KeyError, TypeError):
        return {"episodes": [], "at": 0.0}


def _write(episodes: list[str], at: float) -> str:
    return json.dumps({"episodes": episodes, "at": at})


@dg.sensor(
    name="drift_sensor",
    job=daily_train_job,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests a training when a champion's features, predictions or calibration have drifted; once each.",
)
def drift_sensor(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult | dg.SkipReason:
    """Look at the newest drift reports, and request a training for a new alarm."""
    return evaluate(context, WarehouseResource(url=warehouse.url, attempts=1, timeout=10.0))
