"""The burst sensor's cursor: where it stands in the topic, what is usual, and the burst that it is in.

What belongs here: its form in JSON. What does not: the bus. Losing it loses what is usual, which takes some hundred
sagas to learn again; meanwhile nothing is called a burst.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ml.bursts.detector import Detector

_VERSION = 1
Offsets = dict[int, int]


@dataclass(slots=True)
class Awaited:
    """A burst whose events are to be landed before a policy is requested; ``at`` is when it was seen, s since 1970."""

    burst_id: str
    upto: Offsets
    at: float


@dataclass(slots=True)
class Cursor:
    """Next offset to look at by partition; ``start`` is where the evidence was last as good as none."""

    next: Offsets = field(default_factory=dict)
    start: Offsets = field(default_factory=dict)
    detector: Detector = field(default_factory=Detector)
    #: Until then, s since 1970, what goes wrong belongs to the burst that began at ``since``; 0 outside of one.
    quiet_at: float = 0.0
    since: float = 0.0
    awaited: Awaited | None = None

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """Return the cursor that ``text`` holds; an empty one where it holds none that can be read."""
        try:
            document: dict[str, Any] = json.loads(text or "")
            if document["version"] != _VERSION:
                return cls()
            awaited = document["awaited"]
            return cls(
                _offsets(document["next"]),
                _offsets(document["start"]),
                Detector.of(document["detector"]),
                float(document["quiet_at"]),
                float(document["since"]),
                Awaited(str(awaited["burst_id"]), _offsets(awaited["upto"]), float(awaited["at"])) if awaited else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self) -> str:
        """Return the cursor as text."""
        return json.dumps(
            {
                "version": _VERSION,
                "next": self.next,
                "start": self.start,
                "detector": self.detector.as_dict(),
                "quiet_at": self.quiet_at,
                "since": self.since,
                "awaited": asdict(self.awaited) if self.awaited else None,
            }
        )


def _offsets(document: dict[str, Any]) -> Offsets:
    return {int(partition): int(offset) for partition, offset in document.items()}
