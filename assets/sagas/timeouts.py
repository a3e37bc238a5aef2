"""Time-outs of steps as an asset: learned from the attempts of all sagas, for the advice service to give turns by.

What belongs here: reading attempts, holding the last of them out, writing what was learned. What does not: the method
(``ml.timeouts``), and giving time-outs (``services.orchestrator.steering``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import orjson

from assets.resting import decides
from resources.warehouse import Warehouse, WarehouseResource

if TYPE_CHECKING:
    from ml.timeouts.learning import History

TIMEOUTS = dg.AssetKey(["ml", "step_timeouts"])
TABLE = "ml.step_timeouts"
TARGET = 0.01
#: Attempts that are learned from, the newest: a quantile of 0.99 needs some thousands a place.
NEWEST = 20_000
MOST = 60_000
FEWEST = 2_000
#: Of the past, what teaches before the rest is held out.
TEACHES = 0.8
#: A share above this many times the target is not given to the service.
TOLERATED = 2.0

# An attempt that failed says nothing about how long one takes; one that timed out has not ended.
_SQL = """
    SELECT
        toString(participant) AS participant,
        toString(step) AS step,
        toUnixTimestamp64Micro(began) / 1e6 AS start,
        if(status = 'completed', dateDiff('microsecond', began, ended_at) / 1000, inf)::Float64 AS ms
    FROM
    (
        SELECT participant, step, status, ended_at, assumeNotNull(coalesce(scheduled_at, started_at)) AS began
        FROM marts.fct_saga_steps
        WHERE status IN ('completed', 'timed_out') AND isNotNull(ended_at)
          AND isNotNull(coalesce(scheduled_at, started_at)) AND coalesce(scheduled_at, started_at) <= ended_at
        ORDER BY began DESC
        LIMIT {newest:UInt32} BY participant, step
    )
    ORDER BY began DESC
    LIMIT {most:UInt32}
"""


class TimeoutsConfig(dg.Config):
    """How much of the past teaches."""

    fewest: int = FEWEST
    newest: int = NEWEST
    most: int = MOST


@dg.asset(
    key=TIMEOUTS,
    deps=[dg.AssetKey(["marts", "fct_saga_steps"])],
    group_name="sagas",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Time-out of each step from its participant's load and recent latency, with a promised share of false "
    "ones; the advice service gives turns by it.",
    code_version="1",
    metadata=decides("step_timeouts", rests_on=[dg.AssetCheckKey(TIMEOUTS, "share_kept")]),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)),
    check_specs=[
        dg.AssetCheckSpec(
            "share_kept", asset=TIMEOUTS, description="Held-out steps were cut about as often as promised."
        )
    ],
)
def step_timeouts(
    context: dg.AssetExecutionContext, config: TimeoutsConfig, warehouse: WarehouseResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Learn; what does not keep its share on held-out steps is not written, and what was known stays in use."""
    from ml.timeouts.holdout import false_share
    from ml.timeouts.learning import learn

    past = attempts(warehouse, config)
    count = len(past.ms)
    if count < config.fewest:
        return _result(True, f"{count} attempts are too few to learn from ({config.fewest}): policies speak", {})
    split = int(count * TEACHES)
    # What is tested is what is given: the newest steps correct it as they come.
    learned = learn([_part(past, 0, split)], target=TARGET)
    held_out, steps = false_share(learned, _part(past, split, count))
    figures = {"attempts": split, "held_out_steps": steps, "false_share": float(held_out)}
    if not held_out <= TOLERATED * TARGET:
        return _result(
            False, f"{held_out:.2%} of held-out steps would have been cut, {TARGET:.0%} is promised", figures
        )
    row = {
        "learned_at": datetime.now(UTC),
        "attempts": split,
        "places": len(learned.figures),
        "target": TARGET,
        "held_out": held_out,
        "learned": orjson.dumps(learned.save()).decode(),
        "run_id": context.run_id,
    }
    warehouse.insert_rows(TABLE, [row], token=f"timeouts/{context.run_id}")
    return _result(True, f"{held_out:.2%} of {steps:,} held-out steps would have been cut", figures)


def attempts(warehouse: Warehouse, config: TimeoutsConfig) -> "History":
    """Return the newest attempts of all sagas in the order of their starts."""
    import numpy as np

    from ml.timeouts.learning import History

    table = warehouse.query_arrow(_SQL, {"newest": config.newest, "most": config.most})
    start = table.column("start").to_numpy()
    order = np.argsort(start, kind="stable")
    names, steps = (table.column(name).take(order).to_pylist() for name in ("participant", "step"))
    return History(names, steps, start[order], table.column("ms").to_numpy()[order])


def _part(past: "History", begin: int, end: int) -> "History":
    from ml.timeouts.learning import History

    return History(past.participant[begin:end], past.step[begin:end], past.start[begin:end], past.ms[begin:end])


def _result(passed: bool, said: str, figures: dict[str, float]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    check = dg.AssetCheckResult(
        asset_key=TIMEOUTS,
        check_name="share_kept",
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
    )
    return dg.MaterializeResult(metadata={"said": said, **figures}, check_results=[check])
