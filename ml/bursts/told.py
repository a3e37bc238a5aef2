"""Saga events that say how something ended, from the bytes of a topic.

What belongs here: the few fields that bursts are seen and explained by. What does not: validation (the router's).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from events.codec import parse_time

_STEP, _ABORTED, _COMPLETED = "isthmus.saga.step", "isthmus.saga.aborted", "isthmus.saga.completed"
#: How an attempt can end, and whether that is bad.
_ENDS = {"completed": False, "failed": True, "timed_out": True}
#: Stands for a saga's own ending, beside its steps.
ENDING = "(saga)"


class Told(NamedTuple):
    """One ending: of an attempt of a step, or of a saga (step :data:`ENDING`)."""

    us: int
    saga_type: str
    saga: str
    participant: str
    step: str
    status: str
    error: str
    bad: bool


def told(values: Iterable[bytes]) -> list[Told]:
    """Return the endings among records; what does not parse, or ends nothing, is passed over.

    A business abort is no failure of the platform, and a saga's end for a technical reason is one.
    """
    found = []
    for value in values:
        try:
            document = orjson.loads(value)
            data, kind = document["data"], document["type"]
            if kind == _STEP:
                status, step, participant = data["status"], data["step"], data["participant"]
                if status not in _ENDS:
                    continue
                bad, error = _ENDS[status], data.get("error") or ""
            elif kind in (_ABORTED, _COMPLETED):
                status, step, participant = kind.rpartition(".")[2], ENDING, ""
                bad, error = data.get("reason") == "technical", data.get("detail") or ""
            else:
                continue
            us = round(parse_time(document["time"]).timestamp() * 1e6)
            found.append(Told(us, data["saga_type"], document["subject"], participant, step, status, str(error), bad))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found
