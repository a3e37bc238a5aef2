"""The events of the stream: what comes from ``isthmus.sagas``, and what goes to ``isthmus.advice``.

What belongs here: records to saga events, advice to records; pure. What does not: clients and memory.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Literal

from events.codec import decode, encode
from ml.sagas.spec import NAN, SagaEvent
from services.orchestrator.advice import Advice

SOURCE: Final = "/isthmus/advice"
TYPE: Final = "isthmus.saga.advice"
KINDS: Final = {
    "isthmus.saga.started": "started",
    "isthmus.saga.step": "step",
    "isthmus.saga.completed": "completed",
    "isthmus.saga.aborted": "aborted",
}
_STATUSES: Final = frozenset({"scheduled", "started", "completed", "failed", "timed_out", "retried", "compensated"})

Trigger = Literal["failed_step", "alarm", "alarm_over", "policy"]


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a saga as it was read: of which type of saga, and its CloudEvents identity."""

    saga_type: str
    source: str
    id: str
    event: SagaEvent


def told(value: bytes | None) -> Told | None:
    """Return the saga event in a record's value; None for an event of another type.

    Raises ValueError, KeyError or TypeError where it is none that the router would have let through.
    """
    read = decode(value or b"")
    kind = KINDS.get(read.type)
    if kind is None:
        return None
    data, us, saga_id = read.data, round(read.time.timestamp() * 1e6), _text(read.subject)
    saga_type = _text(data["saga_type"])
    if kind != "step":
        event = SagaEvent(saga_id, kind, us, amount=_number(data.get("amount")), reason=data.get("reason") or "")
        return Told(saga_type, read.source, read.id, event)
    if data["status"] not in _STATUSES:
        raise ValueError("a status that the contract has not")
    event = SagaEvent(
        saga_id,
        kind,
        us,
        step=_text(data["step"]),
        participant=_text(data["participant"]),
        status=_text(data["status"]),
        attempt=int(data["attempt"]),
        worker=_text(data.get("worker") or ""),
        duration_ms=_number(data.get("duration_ms")),
        load=_number(data.get("load")),
    )
    return Told(saga_type, read.source, read.id, event)


def advice_event(answer: Advice, trigger: Trigger, last: Told, now: datetime) -> bytes:
    """Return the event that tells an advice, given as of a saga's event ``last``.

    Its id follows from that event, the trigger and the decision: told twice, after a crash, it is one event.
    """
    identity = "\0".join((last.source, last.id, trigger, answer.decision_id or ""))
    data: dict[str, Any] = {
        "saga_type": answer.saga_type,
        "trigger": trigger,
        "event": _as_of(last),
        "action": answer.action,
        "because": answer.because,
        "risk": None,
        "steps": [
            {
                "step": one.step,
                "participant": one.participant,
                "timeout_ms": one.timeout_ms,
                "attempts_left": one.attempts_left,
                "retry_ratio": one.retry_ratio,
                "retry_window_seconds": one.retry_window_seconds,
                "backoff_ms": one.backoff_ms,
                "default": one.default,
            }
            for one in answer.steps
        ],
        "compensation": [
            {
                "step": one.step,
                "participant": one.participant,
                "way": one.way,
                "decided_by": one.decided_by,
                "why": one.why,
                "rule": one.rule,
            }
            for one in answer.compensation
        ],
        "decision_id": answer.decision_id,
        "valid_to": _rfc3339(answer.valid_to) if answer.valid_to else None,
        "stale": answer.stale,
        "defaults": list(answer.defaults),
    }
    if (risk := answer.risk) is not None:
        data["risk"] = {
            "outcome": risk.outcome,
            "probability": risk.probability,
            "threshold": risk.threshold,
            "alarm": risk.alarm,
            "model": risk.model,
        }
    return encode(
        TYPE,
        data,
        subject=last.event.saga_id,
        source=SOURCE,
        id=blake2b(identity.encode(), digest_size=16).hexdigest(),
        time=now,
    )


def _as_of(last: Told) -> dict[str, Any]:
    event = last.event
    at = datetime.fromtimestamp(event.us // 1_000_000, UTC).replace(microsecond=event.us % 1_000_000)
    told: dict[str, Any] = {"source": last.source, "id": last.id, "at": _rfc3339(at)}
    if event.kind == "step":
        told |= {"step": event.step, "participant": event.participant}
        told |= {"attempt": event.attempt, "status": event.status}
    return told


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _text(value: object) -> str:
    """Return a text, the one object for all that are equal: they are kept for each event."""
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return sys.intern(value)


def _number(value: object) -> float:
    """Return a number, NaN where there is none."""
    if value is None:
        return NAN
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("a number was expected")
    return float(value)
