"""How long something may be kept, and whether it was: the words people write, ClickHouse's TTL, and the verdict.

What belongs here: reading a limit, judging what is held. What does not: asking the stores (``assets.compliance``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

State = Literal["kept", "empty", "overdue", "undeclared", "criterion", "endless", "unlike", "unreachable"]

#: States that fail the check.
BREACHES: Final = frozenset({"overdue", "undeclared", "unlike", "unreachable"})

_DAYS: Final = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}
_WORDS: Final = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(hour|day|week|month|quarter|year)s?\b\s*$", re.IGNORECASE)
_TTL: Final = re.compile(
    r"\bTTL (?P<time>.+?) \+ toInterval(?P<unit>Hour|Day|Week|Month|Quarter|Year)\((?P<count>\d+)\)(?P<rest>.*)"
)
_NOT_DELETING: Final = re.compile(r"^\s*(TO DISK|TO VOLUME|RECOMPRESS|GROUP BY|WHERE|,)", re.IGNORECASE)


def period(words: str) -> timedelta | None:
    """Return the period that ``words`` name (``400 days``, ``3 years``), None where they name none."""
    found = _WORDS.match(words)
    return timedelta(days=float(found[1]) * _DAYS[found[2].lower()]) if found else None


@dataclass(frozen=True, slots=True)
class Ttl:
    """A table's TTL that deletes whole rows: its time as an expression of SQL, and how long after it a row may stay."""

    time: str
    limit: timedelta


def ttl_of(engine_full: str) -> Ttl | None:
    """Return the TTL in a table's full engine clause (``system.tables.engine_full``).

    None where there is none, and where it moves, recompresses or has conditions: such a one promises no deletion.
    """
    found = _TTL.search(engine_full.split(" SETTINGS ", maxsplit=1)[0])
    if found is None or _NOT_DELETING.match(found["rest"]):
        return None
    return Ttl(found["time"], timedelta(days=int(found["count"]) * _DAYS[found["unit"].lower()]))


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds, and what is declared of it.

    ``limit`` is the declared period, None where a ``criterion`` in words stands in its place, or nothing. ``grace`` is
    how long the store may take to remove what has passed it. ``differs`` says where the store's own setting is not
    what is declared, in words.
    """

    store: str
    personal: bool
    limit: timedelta | None = None
    criterion: str = ""
    grace: timedelta = timedelta(days=1)
    oldest: datetime | None = None
    items: int = 0
    past: int = 0
    differs: str = ""
    unreachable: str = ""


def state_of(held: Held, now: datetime) -> State:
    """Return how a store stands at ``now``; the worst that is true of it."""
    if held.unreachable:
        return "unreachable"
    if held.limit is None:
        if held.criterion:
            return "criterion"
        return "undeclared" if held.personal else "endless"
    if held.oldest is not None and now - held.oldest > held.limit + held.grace:
        return "overdue"
    if held.differs:
        return "unlike"
    return "kept" if held.items else "empty"


def words_of(held: Held, state: State) -> str:
    """Return what is to be done about a breach, in one sentence."""
    said = {
        "unreachable": f"could not be looked at ({held.unreachable})",
        "undeclared": "holds personal data and no retention is declared: add it to assets/compliance/retention.yml, "
        "or a TTL by a migration",
        "overdue": f"{held.past:,} of {held.items:,} are past {days(held.limit)} days"
        if held.past
        else f"the oldest is past {days(held.limit)} days",
        "unlike": held.differs,
    }
    return f"{held.store}: {said[state]}" if state in said else ""


def days(limit: timedelta | None) -> str:
    """Return a period in days as people write it."""
    return "" if limit is None else f"{limit / timedelta(days=1):g}"
