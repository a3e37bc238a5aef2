"""Problems: the answers of ``POST /v1/events`` that are not 202, in the form of RFC 9457.

What belongs here: their kinds and their bodies. What does not: when each is given (:mod:`services.router.ingest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response

from events.validation import InvalidEvent


@dataclass(eq=False)
class Problem(Exception):
    """A request that is not answered with 202: an RFC 9457 problem, and the outcome that it counts as."""

    status: int
    outcome: str
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """Return the answer."""
        body = {
            "type": f"urn:isthmus:problem:{self.outcome}",
            "title": TITLES[self.outcome],
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Response(orjson.dumps(body), self.status, dict(self.headers), "application/problem+json")


TITLES: Final = {
    "unauthorized": "No valid token",
    "unsupported": "Not a form of CloudEvents that is taken",
    "too-large": "The request is too large",
    "malformed": "The request holds no events",
    "refused": "Events were refused, and none was sent",
    "slow": "The request took too long to arrive",
    "unavailable": "Nothing was sent",
    "unknown": "Not every event was acknowledged",
    "error": "The router failed",
}
"""Each outcome of a request but ``accepted`` and ``disconnected``, in words."""


def of_refusal(index: int, refusal: InvalidEvent) -> dict[str, Any]:
    """Return what a problem says of an event that is refused; no value of the event is in it."""
    return {
        "index": index,
        "reason": refusal.reason.value,
        "detail": refusal.detail,
        "schema_path": refusal.schema_path,
        "instance_path": refusal.instance_path,
    }
