"""The shapes of the monitors: what an hour's measures are, and the bins that they count in. Light to import.

What belongs here: shapes and their JSON. What does not: taking measures (``measures``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Bins of a number, and the most values that a text has bins for.
BINS, VALUES = 12, 24


@dataclass(frozen=True, slots=True)
class Reference:
    """How a column's values are counted: inner ``edges`` of a number's bins, or the ``values`` of a category.

    A number in bin i is above edge i - 1 and at most edge i; a category's last bin is for all other values.
    """

    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measures:
    """One hour of one table: ``rows``, ``silence`` (longest time without a row, seconds), nulls and counts by bin."""

    rows: int
    silence: float
    nulls: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return a form that JSON holds."""
        return {
            "rows": self.rows,
            "silence": self.silence,
            "nulls": dict(self.nulls),
            "counts": {name: list(c) for name, c in self.counts.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Measures:
        """Return what :meth:`as_json` gave."""
        counts = {str(name): tuple(int(n) for n in values) for name, values in content["counts"].items()}
        return cls(
            int(content["rows"]),
            float(content["silence"]),
            {str(k): int(v) for k, v in content["nulls"].items()},
            counts,
        )
