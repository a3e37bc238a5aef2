"""How many offsets of a range stand in ``raw.events``: what the warehouse holds, whatever it acknowledged.

What belongs here: the one query. What does not: what follows from it (``pipeline.py``, ``checks.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resources.ledger import Range
from resources.warehouse import Warehouse


def standing(warehouse: Warehouse, ranges: Sequence[Range]) -> list[int]:
    """Return the number of distinct offsets in the table for each of ``ranges``."""
    if not ranges:
        return []
    parameters: dict[str, Any] = {}
    selects = []
    for at, work in enumerate(ranges):
        parameters |= {
            f"t{at}": work.topic,
            f"p{at}": work.partition,
            f"g{at}": work.generation,
            f"f{at}": work.from_offset,
            f"e{at}": work.to_offset,
        }
        selects.append(
            f"SELECT {at} AS at, uniqExact(offset) AS rows FROM raw.events"  # noqa: S608 (an index)
            f" WHERE topic = {{t{at}:String}} AND partition = {{p{at}:Int32}} AND generation = {{g{at}:UInt16}}"
            f" AND offset >= {{f{at}:Int64}} AND offset < {{e{at}:Int64}}"
        )
    counted = {row["at"]: row["rows"] for row in warehouse.query_rows(" UNION ALL ".join(selects), parameters)}
    return [counted[at] for at in range(len(ranges))]
