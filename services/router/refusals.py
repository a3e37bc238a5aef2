"""The log of refusals: enough to see what is wrong, never so much that a flood of bad records fills a disk.

What belongs here: which refusals are worth a line. What does not: the dead letters themselves, which are complete.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from services.router.dead_letter import Source
from services.router.routing import Refused

WINDOW: Final = 10.0
"""Seconds in which one reason is logged once."""


class Windows:
    """Which of many things alike are worth telling: the first of each kind in a window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def enter(self, kind: str) -> int | None:
        """Return how many of ``kind`` were kept silent about since the last one that was told; None: keep silent."""
        now = self._clock()
        if now < self._quiet_until.get(kind, 0.0):
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return None
        self._quiet_until[kind] = now + WINDOW
        return self._silent.pop(kind, 0)


class RefusalLog:
    """Logs the first refusal of each reason in a window, with the number of those that it kept silent about before."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._windows = Windows(clock)

    def note(self, source: Source, refused: Refused) -> None:
        """Log a refusal, or count it; names of fields and topics only, never a value, a key or a header."""
        silent = self._windows.enter(refused.reason)
        if silent is None:
            return
        self._log.warning(
            "refused %s/%d/%d: %s at %s; %d more of this reason since the last such line",
            source.topic,
            source.partition,
            source.offset,
            refused.reason,
            refused.schema_path or "no schema",
            silent,
            extra={
                "topic": source.topic,
                "partition": source.partition,
                "offset": source.offset,
                "reason": refused.reason,
                "schema_path": refused.schema_path,
            },
        )
