"""Classes of differences between a source's row and the warehouse's.

What belongs here: comparing rows as canonical texts. What does not: reading them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

Class = Literal["missing", "extra", "changed", "late", "type_drift"]
Key = int | str
#: Canonical text of each column, None for null.
Row = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs, and in which columns; no value of it, for a report must hold no personal data."""

    key: Key
    kind: Class
    columns: tuple[str, ...] = ()
    detail: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"key": str(self.key), "class": self.kind, "columns": list(self.columns), "detail": self.detail}


def classify(key: Key, source: Row | None, held: Sequence[Row]) -> Difference | None:
    """Return how the warehouse's rows of a key differ from the source's, None where they do not."""
    if source is None:
        return Difference(key, "extra", detail=f"{len(held)} rows" if len(held) > 1 else "") if held else None
    if not held:
        return Difference(key, "missing")
    if len(held) > 1:
        return Difference(key, "extra", detail=f"{len(held)} rows of one key")
    # A document may lack a field, on either side.
    names = tuple(sorted(name for name in source.keys() | held[0].keys() if source.get(name) != held[0].get(name)))
    if not names:
        return None
    if all(_alike(source.get(name), held[0].get(name)) for name in names):
        return Difference(key, "type_drift", names, "the same values in another form")
    return Difference(key, "changed", names)


def _alike(left: str | None, right: str | None) -> bool:
    """Return whether two texts are one value that two types write differently."""
    if left is None or right is None:
        return left is right
    if left.strip() == right.strip():
        return True
    for form in (_number, _truth):
        if (value := form(left)) is not None and value == form(right):
            return True
    return _cut(left, right)


def _cut(left: str, right: str) -> bool:
    """Return whether one time is the other, cut to its milliseconds or seconds."""
    one, other = _moment(left), _moment(right)
    if one is None or other is None:
        return False
    return any(
        each.replace(microsecond=each.microsecond // unit * unit) == whole
        for unit in (1_000, 1_000_000)
        for each, whole in ((one, other), (other, one))
    )


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None


def _truth(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in {"t", "true", "1", "yes"} else False if word in {"f", "false", "0", "no"} else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError:
        return None
