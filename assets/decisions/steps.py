"""The attempts that a saga policy is computed from.

What belongs here: reading them, bounded. What does not: the computation (``ml.policy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.warehouse import WarehouseResource

if TYPE_CHECKING:
    from ml.policy import Attempts

#: The newest attempts of a step; a quantile of 0.99 needs some thousands, and older ones tell of another system.
NEWEST = 20_000

# Time as the orchestrator sees it: from handing the step out to hearing of its end, queue included.
_SQL = """
    SELECT
        toString(step) AS step,
        toString(participant) AS participant,
        reinterpretAsInt64(cityHash64(saga_id)) AS saga,
        toInt64(attempt) AS attempt,
        multiIf(status = 'completed', 0, status = 'failed', 1, 2)::Int64 AS outcome,
        dateDiff('microsecond', coalesce(scheduled_at, started_at), ended_at) / 1000 AS seen_ms,
        ifNull(coalesce(seen_ms, run_ms), nan)::Float64 AS waited_ms,
        ifNull(load, nan)::Float64 AS load
    FROM marts.fct_saga_steps
    WHERE saga_type = {saga_type:String} AND status IN ('completed', 'failed', 'timed_out') AND isNotNull(ended_at)
    ORDER BY ended_at DESC, saga_id, step_number
    LIMIT {newest:UInt32} BY step, participant
"""


def read_attempts(warehouse: WarehouseResource, saga_type: str, *, newest: int = NEWEST) -> list[Attempts]:
    """Return the newest attempts that ended, one entry a step and participant, at most ``newest`` in each."""
    import numpy as np

    from ml.policy import Attempts

    table = warehouse.query_arrow(_SQL, {"saga_type": saga_type, "newest": newest})
    columns = {name: table.column(name).to_numpy() for name in ("saga", "attempt", "outcome", "load")}
    columns["run_ms"] = table.column("waited_ms").to_numpy()
    steps, participants = table.column("step").to_pylist(), table.column("participant").to_pylist()
    keys = np.array(
        [f"{step}\x1f{participant}" for step, participant in zip(steps, participants, strict=True)], dtype=object
    )
    found = []
    for key in dict.fromkeys(keys.tolist()):
        chosen = keys == key
        step, participant = key.split("\x1f")
        found.append(
            Attempts(step, participant, **{name: np.asarray(column[chosen]) for name, column in columns.items()})
        )
    return found
