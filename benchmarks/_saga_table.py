"""Saga events of a source (a data set's adapter, the shop) as columns shaped like staging, without any server.

What belongs here: what the benchmark and the tests of the failure model share. What does not: the way of the events
over the bus, which has tests of its own.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from examples.source import Source
from ml.sagas.stream import RANK

SCHEMA = pa.schema(
    [
        ("saga_type", pa.string()),
        ("saga_id", pa.string()),
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("step", pa.string()),
        ("participant", pa.string()),
        ("attempt", pa.uint32()),
        ("status", pa.string()),
        ("worker", pa.string()),
        ("duration_ms", pa.float64()),
        ("load", pa.float64()),
        ("amount", pa.float64()),
        ("reason", pa.string()),
    ]
)
_TEXTS = ("step", "participant", "status")


def saga_table(source: Source) -> pa.Table:
    """Return the source's saga events in the order of staging: time, kind, length of the id, id, source."""
    rows: list[dict[str, Any]] = []
    for part in source.parts:
        if not part.type.startswith("isthmus.saga."):
            continue
        columns = {name: part.data[name] for name in SCHEMA.names if name in part.data}
        for row, us in enumerate(part.times.tolist()):
            rows.append(
                {
                    **dict.fromkeys(_TEXTS, ""),
                    "attempt": 0,
                    **{name: column[row] for name, column in columns.items()},
                    "saga_id": part.subjects[row],
                    "source": part.source,
                    "event_id": part.ids[row],
                    "event_type": part.type,
                    "event_time": us,
                }
            )
    rows.sort(key=lambda r: (r["event_time"], RANK[r["event_type"]], len(r["event_id"]), r["event_id"], r["source"]))
    return pa.Table.from_pylist(rows, schema=SCHEMA)
