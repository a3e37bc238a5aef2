"""The bytes of a request: in memory up to 64 MB, beyond that in a file of the spool folder, with a name for the engine.

The engine reads the data of an INSERT by itself, from a file's name: memory has one too (``/proc/…/fd/…``).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

_IN_MEMORY = 64 << 20
_CHUNK = 1 << 20


class Body:
    """Written first, then read; :meth:`close` frees it."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._size = 0
        # macOS has no files in memory, and no names for open files.
        self._linux = hasattr(os, "memfd_create")
        self._file: IO[bytes] = os.fdopen(os.memfd_create("isthmus"), "w+b") if self._linux else self._on_disk()

    def _on_disk(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._spool) if self._linux else tempfile.NamedTemporaryFile(dir=self._spool)

    def write(self, data: bytes) -> None:
        """Add to the end."""
        if self._linux and self._size <= _IN_MEMORY < self._size + len(data):
            memory, self._file = self._file, self._on_disk()
            memory.seek(0)
            while chunk := memory.read(_CHUNK):
                self._file.write(chunk)
            memory.close()
        self._size += len(data)
        self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        """Read on from where the last read ended, or :meth:`seek` went."""
        return self._file.read(size)

    def seek(self, position: int) -> None:
        """Go to a position; what was written is flushed, so that it can be read by name too."""
        self._file.flush()
        self._file.seek(position)

    def rest(self, head: bytes) -> Body:
        """Return a body of ``head`` and all that is not read yet."""
        other = Body(self._spool)
        other.write(head)
        while chunk := self.read(_CHUNK):
            other.write(chunk)
        other.seek(0)
        return other

    @property
    def name(self) -> str:
        """A path by which the engine, in this same process, can open it; always from its beginning."""
        return f"/proc/{os.getpid()}/fd/{self._file.fileno()}" if self._linux else str(self._file.name)

    def close(self) -> None:
        """Free it."""
        self._file.close()
