"""Records that a careless producer might send: what the router must set aside, each for another reason.

What belongs here: a few bytes per kind of mistake, for the demonstration of dead letters. What does not: attacks and
limits (the router's own tests have those).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from events.catalogue import INGRESS
from examples.source import Message

_GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "source": "/shop/legacy",
    "type": "isthmus.saga.step",
    "time": "2026-01-01T00:00:00.000000Z",
    "datacontenttype": "application/json",
    "data": {
        "saga_type": "order",
        "step": "charge_payment",
        "participant": "payment",
        "attempt": 1,
        "status": "completed",
    },
}


def _changed(**attributes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: orjson.dumps({**event, **attributes})


def _data(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: orjson.dumps({**event, "data": {**event["data"], **fields}})


def _without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: orjson.dumps({key: value for key, value in event.items() if key != name})


MISTAKES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "cut off": lambda event: orjson.dumps(event)[:-20],
    "not UTF-8": lambda event: orjson.dumps(event).replace(b"/shop/legacy", b"/shop/\xff\xfe"),
    "not an object": lambda event: orjson.dumps([event]),
    "no source": _without("source"),
    "no data": _without("data"),
    "attempt is a word": _data(attempt="first"),
    "attempt is zero": _data(attempt=0),
    "unknown status": _data(status="finished"),
    "unknown field": _data(statsu="completed"),
    "unknown type": _changed(type="isthmus.saga.step.done"),
    "unknown schema version": _changed(dataschema="urn:isthmus:isthmus.saga.step:99"),
    "time without a zone": _changed(time="2026-01-01 00:00:00"),
}


def malformed(*, seed: int = 0) -> list[Message]:
    """Return one record per kind of mistake, in an order drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(MISTAKES)).tolist()
    kinds = list(MISTAKES.items())
    records = []
    for place, (_, break_it) in ((place, kinds[place]) for place in order):
        subject = f"order-broken-{seed}-{place}"
        value = break_it({**_GOOD, "id": f"{subject}/1", "subject": subject})
        records.append(Message(INGRESS, subject.encode(), value))
    return records
