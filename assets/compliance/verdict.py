"""The verdict over all: what stands against it, what should be looked at, and what nobody looked at.

What belongs here: the rules. What does not: reading (``gather``) and the page (``page``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from assets.compliance.gather import Facts
from ml.retention import BREACHES

_OLD: Final = timedelta(hours=50)

#: What this report says nothing of, whatever was found.
NOT_COVERED: Final = (
    "Operational sources themselves (PostgreSQL, MongoDB): their retention and their access are their owners'; only "
    "the copies here are looked at.",
    "Reads of topics: brokers name no reader of records. Dead letters shown by 'isthmus dlq' are "
    "kept; with the broker's own tools nobody is.",
    "Calls of the HTTP interfaces (events, advice): each needs a token; calls are counted in /metrics without the "
    "caller's name. Dagster's and MLflow's own pages have no users of their own: put them behind your sign-on.",
    "Several ClickHouse servers: the log of queries is read on the one that answers.",
    "Backups outside the platform, and what recipients keep.",
    "Numbers in columns of numbers: the inventory reads text.",
    "Checks of dbt, landing and models: the quality part tells of the suites' and contracts', Dagster of all.",
    "Rows that one query read are counted for each table of it.",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``against`` fails, ``look`` should be looked at, ``missing`` was not there to judge."""

    against: tuple[str, ...]
    look: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def word(self) -> str:
        """Return ``failed``, ``warned`` or ``held``."""
        return "failed" if self.against or self.missing else "warned" if self.look else "held"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def judge(facts: Facts) -> Verdict:  # noqa: PLR0912 (a rule each)
    """Return the verdict over all that was read."""
    against, look, missing = [], [], [f"could not be read: {one}" for one in facts.unread]
    checks = facts.rows("checks")
    errors = sum(not row["held"] and row["severity"] != "WARN" for row in checks)
    if errors:
        against.append(f"{_count(errors, 'quality check')} at ERROR failed")
    if warned := sum(not row["held"] and row["severity"] == "WARN" for row in checks):
        look.append(f"{_count(warned, 'quality check')} at WARN failed")
    if undeclared := {row["column"] for row in facts.inventory if row["undeclared"]}:
        against.append(f"{_count(len(undeclared), 'column')} with personal data that nobody declared")
    if breaches := [row["store"] for row in facts.rows("retention") if row["state"] in BREACHES]:
        against.append(
            f"retention is not kept, or not shown, for {_count(len(breaches), 'store')}: {', '.join(breaches[:5])}"
        )
    for row in facts.rows("requests"):
        if row["state"] in ("open", "waiting") and row["due_at"] < facts.at:
            against.append(f"the request {row['request_id'][:8]} is past its month")
        if row["state"] == "completed" and row["remaining"]:
            against.append(f"the proof of request {row['request_id'][:8]} says that something remained")
    if differ := sum(int(row["differ"]) for row in facts.rows("reconciliations")):
        against.append(f"{_count(differ, 'row')} unlike the sources")
    if unusual := sum(bool(row["unusual"]) for row in facts.rows("access")):
        look.append(f"{_count(unusual, 'reader')} of personal data stood out")
    if alarmed := sum(int(row["alarmed"]) for row in facts.rows("monitors")):
        look.append(f"monitors raised an alarm in {_count(alarmed, 'hour')}")
    look += facts.gaps
    for name, rows, asset in (
        ("quality checks", checks, "quality/report"),
        ("an inventory of personal data", facts.inventory, "quality/pii_inventory"),
        ("retention", facts.rows("retention"), "compliance/retention"),
        ("a record of processing", facts.rows("records"), "compliance/record_of_processing"),
        ("an audit of access", facts.rows("access"), "compliance/access_audit"),
    ):
        if not rows:
            missing.append(f"there is no result of {name} in the period: materialize {asset}")
    newest = max((row["at"] for row in checks), default=facts.at)
    if facts.at - newest > _OLD:
        look.append(f"the newest quality check is of {newest:%Y-%m-%d %H:%M} UTC")
    return Verdict(tuple(against), tuple(look), tuple(missing))
