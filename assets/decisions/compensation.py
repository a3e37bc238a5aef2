"""The past compensations that a saga policy learns from.

What belongs here: reading them, bounded. What does not: what is learned (``ml.compensation``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from resources.warehouse import WarehouseResource

if TYPE_CHECKING:
    from ml.compensation.course import Told

#: The newest compensated sagas: some thousands tell the costs of a few steps, and older ones are of another system.
NEWEST: Final = 5_000

_SQL: Final = """
    SELECT
        saga_id,
        replaceOne(toString(event_type), 'isthmus.saga.', '') AS kind,
        toUnixTimestamp64Micro(event_time) AS us,
        toString(step) AS step,
        toString(participant) AS participant,
        toString(status) AS status,
        toInt64(attempt) AS attempt,
        ifNull(duration_ms, nan)::Float64 AS duration_ms,
        ifNull(amount, nan)::Float64 AS amount,
        if(status = 'compensated', attributes, '') AS attributes
    FROM staging.stg_saga_events
    WHERE saga_type = {saga_type:String}
        AND (event_type = 'isthmus.saga.started' OR status IN ('completed', 'failed', 'timed_out', 'compensated'))
        AND saga_id IN (
            SELECT saga_id FROM staging.stg_saga_events
            WHERE saga_type = {saga_type:String} AND status = 'compensated'
            GROUP BY saga_id ORDER BY max(event_time) DESC, saga_id LIMIT {newest:UInt32})
    ORDER BY saga_id, event_time, length(event_id), event_id, source
"""


def compensation_section(
    warehouse: WarehouseResource, saga_type: str, *, newest: int = NEWEST
) -> dict[str, Any] | None:
    """Return the compensation section of a saga type's policy; None where no compensation was seen."""
    from ml.compensation.course import history
    from ml.compensation.section import learned
    from ml.compensation.semantics import semantics

    return learned(history(semantics(saga_type), read_sagas(warehouse, saga_type, newest=newest)))


def read_sagas(warehouse: WarehouseResource, saga_type: str, *, newest: int = NEWEST) -> Iterator[list[Told]]:
    """Yield the events of the ``newest`` sagas that were compensated, each saga's in order."""
    from ml.compensation.course import Told
    from ml.sagas.spec import SagaEvent

    rows = warehouse.query_arrow(_SQL, {"saga_type": saga_type, "newest": newest}).to_pylist()
    for _, of_one in groupby(rows, key=lambda row: row["saga_id"]):
        yield [Told(SagaEvent(**row), _attributes(text)) for row in of_one for text in (row.pop("attributes"),)]


def _attributes(text: str) -> dict[str, Any]:
    """Return an event's further facts; what is no object says nothing."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
