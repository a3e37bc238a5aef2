"""How many offsets of a range stand in ``raw.events``: what the warehouse holds, whatever it acknowledged.

What belongs here: the query, and the condition that bounds it. What does not: what follows from it (``pipeline.py``,
``checks.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resources.ledger import Range
from resources.warehouse import Warehouse


def range_condition(work: Range, number: int) -> tuple[str, dict[str, Any]]:
    """Return a condition that holds for the rows of ``work`` and reads only their part of the primary key.

    Its parameters carry ``number`` in their names, so that a query may hold several.
    """
    parameters = {
        f"t{number}": work.topic,
        f"p{number}": work.partition,
        f"g{number}": work.generation,
        f"f{number}": work.from_offset,
        f"e{number}": work.to_offset,
    }
    condition = (
        f"(topic = {{t{number}:String}} AND partition = {{p{number}:Int32}} AND generation = {{g{number}:UInt16}}"
        f" AND offset >= {{f{number}:Int64}} AND offset < {{e{number}:Int64}})"
    )
    return condition, parameters


def standing(warehouse: Warehouse, ranges: Sequence[Range]) -> list[int]:
    """Return the number of distinct offsets in the table for each of ``ranges``."""
    if not ranges:
        return []
    parameters: dict[str, Any] = {}
    selects = []
    for number, work in enumerate(ranges):
        condition, values = range_condition(work, number)
        parameters |= values
        selects.append(f"SELECT {number} AS at, uniqExact(offset) AS rows FROM raw.events WHERE {condition}")  # noqa: S608
    counted = {row["at"]: row["rows"] for row in warehouse.query_rows(" UNION ALL ".join(selects), parameters)}
    return [counted[number] for number in range(len(ranges))]
