"""The room on the data directory's disk: what a refusal says about it, and merges that stop before it is used up.

What belongs here: measuring and acting on it. What does not: refusing inserts, which the engine does by itself from
``keep_free`` bytes on (``config.py``).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from services.embedded.warehouse.errors import NOT_ENOUGH_SPACE, Fault

log = logging.getLogger(__name__)

_LOOK = 0.1  # seconds: what fills a disk at 1 GB/s needs longer for half of the usual 256 MB


class Space:
    """Watches the disk of ``path`` from a thread of its own until :meth:`stop`.

    ``control`` runs a statement. Merges reserve room before they begin, but from the engine only: where another program
    takes it, chDB 4.4 commits a merged part with empty files, and deletes the whole ones it was made of eight minutes
    later. So merges are stopped, and what runs of them is given up, while less than half of ``keep_free`` is left.
    """

    def __init__(self, path: Path, keep_free: int, control: Callable[[str], None]) -> None:
        self._path, self._keep_free, self._control = path, keep_free, control
        self._over = threading.Event()
        self._merges = True
        self._thread = threading.Thread(target=self._watch, name="space", daemon=True)
        self._thread.start()

    def free(self) -> int:
        """Return the bytes that are left on the disk."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    def explain(self, fault: Fault) -> Fault:
        """Return ``fault`` with where the room is missing and what to do, if that is what it is about."""
        if fault.code != NOT_ENOUGH_SPACE[0] and "No space left on device" not in str(fault):
            return fault
        return Fault(
            NOT_ENOUGH_SPACE,
            f"The disk of {self._path} is full: {self.free() >> 20} MB are left and {self._keep_free >> 20} MB are kept"
            " free (--keep-free-mb). Make room on it; what was acknowledged is kept, what was refused can be sent"
            " again",
        )

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            enough = self.free() >= (self._keep_free if not self._merges else self._keep_free // 2)
            if enough != self._merges:
                try:
                    self._control(f"SYSTEM {'START' if enough else 'STOP'} MERGES")
                except Fault as fault:
                    log.error("merges could not be %s: %s", "started" if enough else "stopped", fault)
                    continue
                self._merges = enough
                log.warning(
                    "%s has %d MB left: merges %s", self._path, self.free() >> 20, "go on" if enough else "stop"
                )

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()
