"""Decisions: the record, its identity and the gate that allows or refuses it.

What belongs here: what a decision is made of and the pure rules that judge it. What does not: where the evidence is
read (``assets.decisions``), where decisions are kept and announced (``resources.decisions``), and what a kind of
decision computes (``ml.policy`` for saga policies).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

Severity = Literal["ERROR", "WARN"]


@dataclass(frozen=True, slots=True)
class InputRead:
    """One input as it was when the decision read it.

    ``version`` names the newest materialization (storage id), ``landed_at`` the newest landing that it holds: freshness
    is judged by landing time, so that a replay of old traffic is fresh. ``max_age`` of None sets no limit.
    """

    asset: str
    data_version: str | None
    version: int | None
    run_id: str | None
    materialized_at: datetime | None
    landed_at: datetime | None
    max_age: timedelta | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the part that the decision keeps: JSON types only."""
        return {
            "asset": self.asset,
            "data_version": self.data_version,
            "run_id": self.run_id,
            "materialized_at": _text(self.materialized_at),
            "landed_at": _text(self.landed_at),
        }


@dataclass(frozen=True, slots=True)
class CheckRead:
    """The newest evaluation of one check. ``passed`` is None where there is none that ended.

    ``version`` and ``data_version`` name what the evaluation looked at, None where it did not say.
    """

    asset: str
    check: str
    passed: bool | None
    severity: Severity = "ERROR"
    evaluated_at: datetime | None = None
    run_id: str | None = None
    version: int | None = None
    data_version: str | None = None
    detail: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return the part that the decision keeps: JSON types only."""
        return {
            "asset": self.asset,
            "check": self.check,
            "passed": self.passed,
            "severity": self.severity,
            "evaluated_at": _text(self.evaluated_at),
            "run_id": self.run_id,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class ModelRead:
    """The registered model that a decision rests on; the version number, never an alias alone."""

    name: str
    version: str
    run_id: str
    calibrated: bool

    def as_record(self) -> dict[str, Any]:
        """Return the decision's ``model`` field: JSON types only."""
        return {"name": self.name, "version": self.version, "run_id": self.run_id, "calibrated": self.calibrated}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer; ``reasons`` is empty exactly where ``allowed``."""

    allowed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One proposed action with all that it rests on; never changed once made (``docs/architecture/decisions.md``)."""

    decision_id: UUID
    kind: str
    subject: str
    made_at: datetime
    valid_from: datetime
    valid_to: datetime
    inputs: tuple[InputRead, ...]
    checks: tuple[CheckRead, ...]
    action: Mapping[str, Any]
    expected: tuple[Mapping[str, Any], ...]
    guardrails: tuple[Mapping[str, Any], ...]
    undo: Mapping[str, Any] | None
    model: ModelRead | None = None
    trace_id: str = ""
    run_id: str = ""

    def __post_init__(self) -> None:
        for name in ("made_at", "valid_from", "valid_to"):
            if getattr(self, name).tzinfo is None:
                raise ValueError(f"{name} has no time zone")
        if self.valid_to <= self.valid_from:
            raise ValueError("valid_to does not lie after valid_from")

    def as_record(self) -> dict[str, Any]:
        """Return the decision as plain data: datetimes stay datetimes, evidence becomes JSON types."""
        return {
            "decision_id": str(self.decision_id),
            "kind": self.kind,
            "subject": self.subject,
            "made_at": self.made_at,
            "valid_from": self.valid_from,
            "valid_to": self.valid_to,
            "inputs": [read.as_record() for read in self.inputs],
            "model": self.model.as_record() if self.model else None,
            "checks": [read.as_record() for read in self.checks],
            "action": dict(self.action),
            "expected": [dict(effect) for effect in self.expected],
            "guardrails": [dict(limit) for limit in self.guardrails],
            "undo": dict(self.undo) if self.undo is not None else None,
            "trace_id": self.trace_id,
            "run_id": self.run_id,
        }


def decision_id(made_at: datetime, *seed: str) -> UUID:
    """Return the UUIDv7 of a decision: its time in milliseconds, and 74 bits of a hash over ``seed``.

    The same time and seed give the same id, so that work that is done again writes the same decision again.
    """
    milliseconds = int(made_at.timestamp() * 1000)
    digest = int.from_bytes(hashlib.sha256("\x1f".join(seed).encode()).digest()[:10])
    high, low = digest >> 68, digest & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | ((high & 0xFFF) << 64) | (0b10 << 62) | low)


def gate(
    inputs: Sequence[InputRead],
    checks: Iterable[CheckRead],
    *,
    as_of: datetime,
    model: ModelRead | None = None,
    model_required: bool = False,
    live_failures: Sequence[str] = (),
) -> Verdict:
    """Judge whether a decision may go ahead; whatever is unknown refuses.

    ``checks`` holds every check that the decision rests on, evaluated or not. ``as_of`` is now, or the time that a
    replay names: ages are taken against it. ``live_failures`` are checks that were tried again on what was read.
    """
    reasons: list[str] = []
    by_asset = {read.asset: read for read in inputs}
    for read in inputs:
        reasons += _judge_input(read, as_of)
    checked: set[str] = set()
    for result in checks:
        if result.severity == "ERROR":
            checked.add(result.asset)
            reasons += _judge_check(result, by_asset.get(result.asset))
    # An input that nothing checks is an input that nothing vouches for.
    reasons += [f"{asset}: no check that blocks stands on it" for asset in by_asset if asset not in checked]
    reasons += list(live_failures)
    if model_required and model is None:
        reasons.append("no registered model, and this decision needs one")
    if model is not None and not model.calibrated:
        reasons.append(f"model {model.name} version {model.version} is not calibrated")
    unique = tuple(dict.fromkeys(reasons))
    return Verdict(allowed=not unique, reasons=unique)


def _judge_input(read: InputRead, as_of: datetime) -> list[str]:
    if read.materialized_at is None:
        return [f"{read.asset}: was never materialized"]
    if read.max_age is None:
        return []
    if read.landed_at is None:
        return [f"{read.asset}: holds no landed data, so its age is unknown"]
    age = as_of - read.landed_at
    if age > read.max_age:
        return [f"{read.asset}: its newest data landed {_span(age)} ago; the limit is {_span(read.max_age)}"]
    return []


def _judge_check(result: CheckRead, read: InputRead | None) -> list[str]:
    name = f"{result.asset}: check {result.check}"
    if result.passed is None:
        return [f"{name} has no evaluation"]
    if not result.passed:
        return [f"{name} failed" + (f": {result.detail}" if result.detail else "")]
    if read is None or read.materialized_at is None:
        return []  # no input of this decision, or one that the input's own rule refuses
    stale = _staleness(result, read)
    return [f"{name} {stale}"] if stale else []


def _staleness(result: CheckRead, read: InputRead) -> str | None:
    """Return in which way an evaluation says nothing about the input as it is now, None where it does."""
    if result.data_version and read.data_version and result.data_version != read.data_version:
        return f"looked at data version {result.data_version}, the input has {read.data_version}"
    if result.run_id is not None and result.run_id == read.run_id:
        return None  # one run materializes an asset once, and checks what it made
    if result.version is not None and read.version is not None:
        return None if result.version == read.version else "looked at an earlier materialization than the newest"
    if result.evaluated_at is None or result.evaluated_at < read.materialized_at:  # type: ignore[operator]
        return "is older than the input's newest materialization"
    return None


def _span(age: timedelta) -> str:
    """Return an age as people say it: 45 s, 12 min, 3 h 5 min, 2 d 4 h."""
    seconds = int(age.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 2 else f"{days} d {hours % 24} h"


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


_CHECK = re.compile(
    r"^(?P<asset>[\w.-]+(?:/[\w.-]+)*): check (?P<check>\w+) "
    r"(?P<how>has no evaluation|failed|fails now|looked at|is older)"
)
_LANDED = re.compile(r"^(?P<asset>[\w.-]+(?:/[\w.-]+)*): (?P<what>was never|holds no landed|its newest data|no check)")
_HOW = {
    "has no evaluation": "not evaluated",
    "failed": "failed",
    "fails now": "failed",
    "looked at": "outdated",
    "is older": "outdated",
}
_WHAT = {
    "was never": "not materialized",
    "holds no landed": "age unknown",
    "its newest data": "too old",
    "no check": "nothing checks it",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """What refused a decision: a check of an asset, an asset's age, or (both empty) something else.

    ``how`` is a word of a few: failed, not evaluated, outdated, too old, age unknown, not materialized, nothing checks
    it, other.
    """

    asset: str
    check: str
    how: str


def cause_of(reason: str) -> Cause:
    """Return which check a reason of :func:`gate` speaks of; its details, which may quote values, are left out."""
    if found := _CHECK.match(reason):
        return Cause(found["asset"], found["check"], _HOW[found["how"]])
    if found := _LANDED.match(reason):
        return Cause(found["asset"], "", _WHAT[found["what"]])
    return Cause("", "", "other")
