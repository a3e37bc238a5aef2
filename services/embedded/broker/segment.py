"""One file of a partition's log, with an index of its batches in memory.

What belongs here: bytes on disk and where each batch stands. What does not: which segment an offset is in (``log``).
"""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

from services.embedded.broker.errors import StartError
from services.embedded.broker.records import HEADER, MAGIC, Batch, intact, read_header


class Segment:
    """A file of whole batches, offsets ascending; named by its first offset, 20 digits."""

    def __init__(self, folder: Path, base: int) -> None:
        self.base = base
        self.path = folder / f"{base:020d}.log"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self.size = 0
        self.offsets = array("q")
        self.positions = array("q")
        # The largest timestamp up to each batch: ascending whatever the clock did, so it can be bisected.
        self.times = array("q")
        self.dirty = False

    @property
    def newest(self) -> int:
        """Largest timestamp in the file (ms), -1 where it is empty."""
        return self.times[-1] if self.times else -1

    def recover(self, next_offset: int, *, truncate: bool) -> Iterator[tuple[Batch, memoryview]]:
        """Read the file back, batch by batch, and index it.

        With ``truncate`` (the newest file) checksums are verified too and the file ends behind the last whole batch:
        what a kill or a full disk left half-written was never acknowledged. In an older file every byte was
        once acknowledged, so damage there raises :class:`StartError` instead of losing data silently.
        """
        length = os.fstat(self.fd).st_size
        if length:
            with mmap.mmap(self.fd, length, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                while (batch := self._batch_at(view, next_offset, truncate)) is not None:
                    # A copy of the marker's few bytes, none of data: the view must not outlive the map.
                    start, end = self.size, self.size + batch.size
                    self.index(batch)
                    next_offset = batch.next_offset
                    yield batch, memoryview(bytes(view[start:end])) if batch.is_control else memoryview(b"")
        if self.size < length:
            if not truncate:
                raise StartError(
                    f"{self.path} is damaged at byte {self.size}. Copy the folder if its data matter, then delete "
                    f"this file and the later ones of its folder; the records in them are lost."
                )
            os.ftruncate(self.fd, self.size)

    def _batch_at(self, view: memoryview, next_offset: int, verify: bool) -> Batch | None:
        """Return the batch at the end of what is indexed, None where no whole and plausible one stands."""
        if self.size + HEADER.size > len(view):
            return None
        batch = read_header(view, self.size)
        fits = HEADER.size <= batch.size <= len(view) - self.size
        if batch.magic != MAGIC or not fits or batch.base_offset < next_offset or batch.last_delta < 0:
            return None
        if verify:
            with view[self.size : self.size + batch.size] as whole:
                if not intact(whole):
                    return None
        return batch

    def index(self, batch: Batch) -> None:
        """Take in a batch that stands at the end of the file."""
        self.offsets.append(batch.base_offset)
        self.positions.append(self.size)
        self.times.append(max(batch.max_timestamp, self.newest))
        self.size += batch.size

    def write(self, data: bytes | bytearray) -> None:
        """Append bytes whole or not at all; raises ``OSError`` (disk full and the like)."""
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self.fd, memoryview(data)[written:], self.size + written)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.dirty = True

    def read(self, offset: int, end: int, limit: int) -> bytes:
        """Return whole batches from the one that holds ``offset`` to below ``end``, at most ``limit`` bytes.

        At least one batch where there is one, however large: else a consumer would never get past it.
        """
        first = max(bisect_right(self.offsets, offset) - 1, 0)
        last = bisect_left(self.offsets, end)
        if first >= last:
            return b""
        start = self.positions[first]
        stop = self.positions[last] if last < len(self.positions) else self.size
        if stop - start > limit:
            fitting = bisect_right(self.positions, start + limit) - 1
            last = max(fitting, first + 1)
            stop = self.positions[last] if last < len(self.positions) else self.size
        return os.pread(self.fd, stop - start, start)

    def batch_at_time(self, timestamp: int) -> bytes | None:
        """Return the first batch that has a record not older than ``timestamp`` (ms), None where none has."""
        at = bisect_left(self.times, timestamp)
        if at == len(self.times):
            return None
        stop = self.positions[at + 1] if at + 1 < len(self.positions) else self.size
        return os.pread(self.fd, stop - self.positions[at], self.positions[at])

    def forget_before(self, offset: int, end: int) -> None:
        """Take whole batches below ``offset`` off the disk; ``end`` is where the segment's offsets end.

        The rest is written anew and put in the file's place, so a kill leaves the old file or the new one. Raises
        ``OSError``, the segment then being as it was.
        """
        kept = len(self.offsets) if offset >= end else bisect_right(self.offsets, offset) - 1
        if kept <= 0:
            return
        start = self.positions[kept] if kept < len(self.positions) else self.size
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(os.pread(self.fd, self.size - start, start))
        fresh = os.open(draft, os.O_RDWR)
        try:
            os.fsync(fresh)
            draft.replace(self.path)
            # Onto the number that a sync under way holds, so that it never meets a closed one.
            os.dup2(fresh, self.fd)
        finally:
            os.close(fresh)
        self.size -= start
        self.offsets = self.offsets[kept:]
        self.positions = array("q", (position - start for position in self.positions[kept:]))
        self.times = self.times[kept:]

    def sync(self) -> None:
        """Put the file's bytes on the disk, where any are new; blocks."""
        if self.dirty:
            self.dirty = False  # before, not after: what is written meanwhile may not be part of it
            try:
                os.fdatasync(self.fd)
            except OSError:
                self.dirty = True
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def delete(self) -> None:
        """Close and remove the file; an open read of it goes on."""
        self.close()
        self.path.unlink(missing_ok=True)
