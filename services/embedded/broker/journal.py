"""Small durable state beside the logs: a file of JSON lines that is replayed at start, and files replaced whole.

What belongs here: appending, torn ends, compaction. What does not: what a line means (``offsets``, ``transactions``).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from services.embedded.broker.errors import BrokerError, Code, StartError

MANY = 20_000  # lines at which a file that is mostly superseded is written anew


def replace_file(path: Path, text: str) -> None:
    """Replace a file's content; whoever reads, at whatever moment of a crash, finds the old or the new, whole."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Journal:
    """Lines of JSON; ``live`` returns those that still count, for the file's next compaction."""

    def __init__(self, path: Path, live: Callable[[], Iterable[Any]]) -> None:
        self._path = path
        self._live = live
        self._fd = -1
        self._size = 0
        self._lines = 0
        self._dirty = False
        self._syncing = asyncio.Lock()

    def replay(self) -> Iterable[Any]:
        """Yield the lines in order, then open the file for appending; a torn last line is dropped.

        Raises :class:`StartError` where an earlier line is damaged.
        """
        raw = self._path.read_bytes() if self._path.exists() else b""
        whole, _, _ = raw.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                yield json.loads(line)
            except ValueError as problem:
                raise StartError(f"{self._path} is damaged in line {number}; remove the line to start") from problem
        self._compact()

    def write(self, *entries: Any) -> None:
        """Append entries together; raises :class:`BrokerError` (retryable) and keeps the file whole if it cannot."""
        data = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries).encode()
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._size + written)
        except OSError as problem:
            os.ftruncate(self._fd, self._size)
            raise BrokerError(Code.COORDINATOR_NOT_AVAILABLE, str(problem)) from problem
        self._size += len(data)
        self._lines += len(entries)
        self._dirty = True

    def tidy(self) -> None:
        """Write the file anew when most of it is superseded."""
        if self._lines > MANY:
            self._compact()

    def _compact(self) -> None:
        lines = [json.dumps(entry, separators=(",", ":")) + "\n" for entry in self._live()]
        replace_file(self._path, "".join(lines))
        self.close()
        self._fd = os.open(self._path, os.O_RDWR)
        self._size = os.fstat(self._fd).st_size
        # Counted from here: a file whose lines all live is not written anew at every tick.
        self._lines, self._dirty = 0, False

    async def sync(self) -> None:
        """Put the file on the disk, where anything is new; the loop goes on meanwhile."""
        async with self._syncing:
            if self._dirty:
                self._dirty = False
                await asyncio.to_thread(os.fdatasync, self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
