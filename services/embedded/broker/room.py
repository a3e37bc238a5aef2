"""The room on the data folder's disk: produced records leave some of it, the broker's own state may use that.

What belongs here: measuring, the refusal and its one line in the log. What does not: what is written (``segment``).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from services.embedded.broker.errors import BrokerError, Code

logger = logging.getLogger(__name__)


class Room:
    """Room on the disk of ``folder``, ``keep_free`` bytes of which are kept from produced records."""

    def __init__(self, folder: Path, keep_free: int = 0) -> None:
        self._folder, self._keep_free = folder, keep_free
        self._refusing = False

    def claim(self, size: int) -> None:
        """Raise :class:`BrokerError`, which clients retry, where ``size`` bytes more would leave too little."""
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free - size < self._keep_free:
            raise self.missing(f"{free >> 20} MB are left and {self._keep_free >> 20} MB are kept free")

    def missing(self, reason: object) -> BrokerError:
        """Return the refusal for ``reason``; logged once until :meth:`found`, since clients try again and again."""
        text = (
            f"the disk of {self._folder} is full: {reason}. Make room on it; producers try again by themselves until"
            " their time is over"
        )
        if not self._refusing:
            self._refusing = True
            logger.error("cannot append: %s", text)
        return BrokerError(Code.KAFKA_STORAGE_ERROR, text)

    def found(self) -> None:
        """Note that records were written."""
        if self._refusing:
            self._refusing = False
            logger.warning("there is room on the disk of %s again", self._folder)
