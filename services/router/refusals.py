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


class RefusalLog:
    """Logs the first refusal of each reason in a window, with the number of those that it kept silent about before."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def note(self, source: Source, refused: Refused) -> None:
        """Log a refusal, or count it; names of fields and topics only, never a value, a key or a header."""
        now = self._clock()
        if now < self._quiet_until.get(refused.reason, 0.0):
            self._silent[refused.reason] = self._silent.get(refused.reason, 0) + 1
            return
        self._quiet_until[refused.reason] = now + WINDOW
        self._log.warning(
            "refused %s/%d/%d: %s at %s; %d more of this reason since the last such line",
            source.topic,
            source.partition,
            source.offset,
            refused.reason,
            refused.schema_path or "no schema",
            self._silent.pop(refused.reason, 0),
        )
