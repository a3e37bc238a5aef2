"""The routing table's file: read at start, and again whenever it changes; a bad one is refused and the old one stays.

What belongs here: the file. What does not: what stands in it (:mod:`services.router.table`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from resources.errors import KafkaError
from services.router.metrics import Metrics
from services.router.table import BadTable, RoutingTable, load

log = logging.getLogger("isthmus.router")

EVERY: Final = 1.0
"""Seconds between two looks at the file."""


class Tables:
    """The table in force. ``file`` None: the catalogue alone, for good.

    Raises :class:`BadTable` where the first table cannot be used: a router that starts says so and ends.
    """

    def __init__(
        self,
        file: Path | None,
        metrics: Metrics,
        *,
        ensure_topics: Callable[[Iterable[str]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._metrics = metrics
        self._ensure_topics = ensure_topics
        self._clock = clock
        self._looked = clock()
        self.current = RoutingTable()
        self._text = ""
        if file is not None:
            try:
                self._text = file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise BadTable(f"{file} cannot be read: {error}") from None
            self.current = load(self._text)

    def refresh(self) -> None:
        """Take the file's present table, where it changed and is good; called by the loop, at most once a second."""
        now = self._clock()
        if self._file is None or now - self._looked < EVERY:
            return
        self._looked = now
        try:
            # The content, not the time of the last change: a copy may keep that, and files are small.
            text = self._file.read_text()
            if text == self._text:
                return
            self._text = text
            table = load(text)
            # A topic that the broker does not make is a reason to stay with the old table, before any event needs it.
            self._ensure_topics(table.topics)
        except (BadTable, OSError, UnicodeDecodeError, KafkaError) as error:
            self._metrics.table_refusals += 1
            log.error("the routing table %s is refused, the old one stays: %s", self._file, error)
            if isinstance(error, OSError | KafkaError):
                self._text = ""  # may pass by itself: look again
            return
        self.current = table
        self._metrics.table_loads += 1
        log.info("the routing table %s is in force: %d topics", self._file, len(table.topics))
