"""The inventory: what each column was found to hold, beside what is declared of it, and what to change.

What belongs here: declarations, the judgement of a column, and the proposal that follows. What does not: reading tables
and files (``assets.quality``). Nothing here holds a value of a column: counts and shares only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from ml.pii.redaction import Action

#: Entities that say little about a person where they stand alone in a table: they are listed, and block nothing.
SOFT: Final = frozenset({"ORGANIZATION", "LOCATION", "DATE_TIME", "NRP", "TITLE", "URL", "AGE"})
#: Forms with a check digit or one meaning: one in a hundred is no accident.
HARD: Final = frozenset(
    {"CREDIT_CARD", "IBAN_CODE", "EMAIL_ADDRESS", "US_SSN", "CRYPTO", "FR_NIR", "BR_CPF", "ES_NIF", "IT_FISCAL_CODE"}
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a person has said of columns: ``column`` is ``database.table.column``, a JSON path after it where the column
    holds JSON (``raw.events.value$.data.customer``); ``*`` stands for anything.
    """

    column: str
    entities: tuple[str, ...]
    owner: str
    lawful_basis: str
    retention: str
    action: Action | None = None
    because: str = ""

    def covers(self, column: str, entity: str) -> bool:
        """Return whether this declares ``entity`` in ``column``."""
        return fnmatchcase(column, self.column) and (entity in self.entities or "*" in self.entities)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scan saw of one column: how many of the sampled values hold each entity."""

    column: str
    route: str
    sampled: int
    entities: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the inventory: an entity in a column, or a column without one."""

    column: str
    entity: str
    route: str
    sampled: int
    found: int
    confidence: float
    declaration: Declaration | None
    note: str = ""

    @property
    def share(self) -> float:
        """Share of the sampled values that hold it."""
        return self.found / self.sampled if self.sampled else 0.0

    @property
    def undeclared(self) -> bool:
        """Return whether it is personal data for certain that nobody has declared."""
        return bool(self.entity) and self.declaration is None and self.confidence >= 0.5 and self.entity not in SOFT


def judged(seen: Seen, declarations: Iterable[Declaration]) -> list[Entry]:
    """Return the inventory's rows of one column: one an entity, or one that says that nothing was found."""
    rules = tuple(declarations)
    entries = [
        Entry(
            seen.column,
            entity,
            seen.route,
            seen.sampled,
            count,
            confidence(entity, count, seen.sampled),
            next((rule for rule in rules if rule.covers(seen.column, entity)), None),
            seen.note,
        )
        for entity, count in sorted(seen.entities.items())
        if count
    ]
    return entries or [Entry(seen.column, "", seen.route, seen.sampled, 0, 0.0, _named(seen.column, rules), seen.note)]


def _named(column: str, rules: Iterable[Declaration]) -> Declaration | None:
    return next((rule for rule in rules if rule.column == column), None)


def confidence(entity: str, found: int, sampled: int) -> float:
    """Return how sure it is that a column holds ``entity``, 0 to 1.

    A form with a check digit is sure from one value in a hundred, whatever else the column holds; for what has only a
    shape, or comes from a model, it takes half the values to be sure of the column, for single ones may be wrong.
    """
    if not sampled or not found:
        return 0.0
    share = found / sampled
    if entity in HARD:
        return min(1.0, 0.5 + 0.5 * share) if share >= 0.01 or found >= 3 else 0.4
    return min(1.0, share * (5.0 if entity not in {"PERSON", *SOFT} else 2.0))


def proposal(entry: Entry) -> dict[str, Any]:
    """Return the change that would declare ``entry``: a field rule in an event's schema, or an entry of ``pii.yml``."""
    table, path = [*entry.column.split("$", 1), ""][:2]
    action: Action = "drop" if entry.entity in {"EMAIL_ADDRESS", "US_SSN"} else "mask"
    action = "hash" if entry.entity == "PERSON" else "token" if entry.entity in {"CREDIT_CARD", "IBAN_CODE"} else action
    change: dict[str, Any] = {
        "column": entry.column,
        "entity": entry.entity,
        "share": round(entry.share, 4),
        "declare": {
            "column": entry.column,
            "entities": [entry.entity],
            "owner": "",
            "lawful_basis": "",
            "retention": "",
            "action": action,
        },
    }
    if path.startswith(".data."):
        rule = "hash" if action == "token" else action
        pointer = "/properties/" + path.removeprefix(".data.").replace("[]", "/items").replace(".", "/properties/")
        change["schema_patch"] = [{"op": "add", "path": f"{pointer}/x-pii", "value": rule}]
    else:
        change["table"] = table
    return change
