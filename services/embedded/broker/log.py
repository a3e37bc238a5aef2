"""One partition's log: segments, producers' state, readers that wait for more.

What belongs here: append, read, search by time, retention, recovery of one partition. What does not: which topics
exist (``topics``), transactions over several partitions (``transactions``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from services.embedded.broker.configs import TopicConfig
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.journal import replace_file
from services.embedded.broker.producers import EXPIRY_MS, Producers
from services.embedded.broker.records import check, first_at_or_after, is_commit, marker, read_header, stamped
from services.embedded.broker.room import Room
from services.embedded.broker.segment import Segment

logger = logging.getLogger(__name__)
Clock = Callable[[], int]


class Position(NamedTuple):
    """Where a produced batch stands; ``append_time`` is -1 where the records keep their producer's time."""

    offset: int
    append_time: int


class Log:
    """One partition. ``config`` is read at every use, so that a changed setting counts at once."""

    def __init__(self, folder: Path, config: TopicConfig, clock: Clock, room: Room) -> None:
        self.folder = folder
        self._room = room
        self.config = config
        self._clock = clock
        self.producers = Producers()
        self.waiters: set[asyncio.Event] = set()
        self._syncing = asyncio.Lock()
        self._rolled_at = clock()
        self._start_file = folder / "start-offset"
        folder.mkdir(parents=True, exist_ok=True)
        self.start = int(self._start_file.read_text()) if self._start_file.exists() else 0
        self.next = self.start
        self.segments: list[Segment] = []
        self._recover()

    def _recover(self) -> None:
        bases = sorted(int(path.stem) for path in self.folder.glob("*.log"))
        for base in bases or [self.start]:
            segment = Segment(self.folder, base)
            on_disk = os.fstat(segment.fd).st_size
            self.next = max(self.next, base)
            for batch, control in segment.recover(base, truncate=base == bases[-1] if bases else True):
                self.producers.note(batch, commit=bool(control) and is_commit(control))
                self.next = batch.next_offset
            if segment.size < on_disk:
                lost = on_disk - segment.size
                logger.warning(
                    "%s: dropped %d bytes of an unfinished append at offset %d", self.folder, lost, self.next
                )
            self.segments.append(segment)
        self.start = max(self.start, self.segments[0].base)
        self.next = max(self.next, self.start)
        for draft in self.folder.glob("*.draft"):
            draft.unlink()
        self._forget_hidden()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def stable(self) -> int:
        """Offset below which no transaction is undecided (the last stable offset)."""
        return min(self.producers.open.values(), default=self.next)

    # ---- writing

    def append(self, data: memoryview | None) -> Position:
        """Append one produced batch, or return where it already stands; raises :class:`BrokerError`."""
        batch = check(data, self.config.max_message_bytes)
        assert data is not None
        if batch.producer_id >= 0 and (earlier := self.producers.check(batch)):
            return Position(earlier.offset, earlier.timestamp if self.config.append_time else -1)
        self._room.claim(batch.size)
        now = self._clock()
        if self.config.append_time:
            self._write(stamped(data, self.next, now))
            return Position(self.next_base, now)
        if batch.max_timestamp > now + self.config.timestamp_after_max_ms:
            raise BrokerError(Code.INVALID_TIMESTAMP, "the time lies further ahead than message.timestamp.after.max.ms")
        self._write(stamped(data, self.next, None))
        return Position(self.next_base, -1)

    @property
    def next_base(self) -> int:
        """Offset of the first record of the newest batch."""
        return self.segments[-1].offsets[-1]

    def end_transaction(self, producer_id: int, epoch: int, *, commit: bool) -> None:
        """Append the marker that ends a producer's transaction here; nothing where it has none open."""
        if producer_id in self.producers.open:
            data = stamped(memoryview(marker(producer_id, epoch, commit=commit, now=self._clock())), self.next, None)
            self._write(data, commit=commit)

    def _write(self, data: bytearray, *, commit: bool = True) -> None:
        batch = read_header(memoryview(data))
        active = self.segments[-1]
        if active.offsets and (
            active.size + len(data) > self.config.segment_bytes
            # By our clock, not by the records': a replay of old events would start a file with every batch.
            or self._clock() - self._rolled_at > self.config.segment_ms
        ):
            active = self._roll()
        try:
            active.write(data)
        except OSError as problem:
            raise self._room.missing(problem) from problem
        self._room.found()
        active.index(batch)
        self.producers.note(batch, commit=commit)
        self.next = batch.next_offset
        self.wake()

    def _roll(self) -> Segment:
        # What an older file holds is taken as written for good at the next start, so it goes to the disk first.
        try:
            self.segments[-1].sync()
            self.segments.append(Segment(self.folder, self.next))
            self._rolled_at = self._clock()
        except OSError as problem:
            raise self._room.missing(problem) from problem
        return self.segments[-1]

    async def sync(self) -> None:
        """Put everything on the disk; other partitions are served meanwhile."""
        # Behind the lock: a batch that is part of another's ongoing sync must wait for that sync's end too.
        async with self._syncing:
            active = self.segments[-1]  # rolling syncs the ones before
            if active.dirty:
                await asyncio.to_thread(active.sync)

    # ---- reading

    def read(self, offset: int, limit: int, *, committed: bool) -> bytes:
        """Return whole batches from ``offset`` on, at most ``limit`` bytes but at least one batch if there is one."""
        end = self.stable if committed else self.next
        if offset >= end:
            return b""
        at = bisect_right(self.segments, offset, key=lambda segment: segment.base) - 1
        for segment in self.segments[max(at, 0) :]:
            # Offsets above the segment's last record (a file that ended early) are in the next one.
            if data := segment.read(offset, end, limit):
                return data
        return b""

    def offset_at(self, timestamp: int) -> tuple[int, int]:
        """Return (timestamp, offset) of the first record not older than ``timestamp`` (ms), (-1, -1) if none."""
        for segment in self.segments:
            if segment.newest < timestamp:
                continue
            data = segment.batch_at_time(timestamp)
            if data is not None and read_header(data).next_offset > self.start:
                return first_at_or_after(data, timestamp)
            if data is not None:
                break
        return self._first_after_start(timestamp)

    def _first_after_start(self, timestamp: int) -> tuple[int, int]:
        """Search behind deleted records, batch by batch; only reached when the index points in front of the start."""
        offset = self.start
        while data := self.read(offset, 1, committed=False):
            batch = read_header(data)
            if batch.max_timestamp >= timestamp and not batch.is_control:
                return first_at_or_after(data, timestamp)
            offset = batch.next_offset
        return -1, -1

    def newest_record(self) -> tuple[int, int]:
        """Return (timestamp, offset) of the first record with the largest timestamp, (-1, -1) in an empty log."""
        newest = max(segment.newest for segment in self.segments)
        return self.offset_at(newest) if newest >= 0 else (-1, -1)

    def wake(self) -> None:
        """Let waiting readers look again."""
        for waiter in self.waiters:
            waiter.set()

    # ---- removing

    def delete_before(self, offset: int) -> int:
        """Remove everything before ``offset`` (-1: all there is) for good, from the disk too; returns the new start.

        A batch that ``offset`` lies in stays whole on the disk.
        """
        target = self.next if offset == -1 else offset
        if not 0 <= target <= self.next:
            raise BrokerError(Code.OFFSET_OUT_OF_RANGE)
        if target > self.start:
            self._set_start(target)
            while len(self.segments) > 1 and self.segments[1].base <= target:
                self._drop_oldest()
            self._forget_hidden()
        return self.start

    def _forget_hidden(self) -> None:
        """Take what is hidden off the disk; what cannot be now (no room for a copy) is at the next start."""
        end = self.segments[1].base if len(self.segments) > 1 else self.next
        try:
            self.segments[0].forget_before(self.start, end)
        except OSError as problem:
            logger.warning("%s: removed records stay on the disk for now: %s", self.folder, problem.strerror)

    def apply_retention(self) -> None:
        """Delete the oldest segments that ``retention.ms`` or ``retention.bytes`` give up; open transactions stay."""
        now, size = self._clock(), self.size
        while True:
            oldest = self.segments[0]
            too_old = 0 <= self.config.retention_ms < now - oldest.newest and oldest.newest >= 0
            too_big = 0 <= self.config.retention_bytes <= size - oldest.size and bool(oldest.offsets)
            end = self.segments[1].base if len(self.segments) > 1 else self.next
            if not (too_old or too_big) or end > self.stable:
                break
            if len(self.segments) == 1:
                self._roll()
            size -= oldest.size
            self._set_start(max(self.start, end))
            self._drop_oldest()
        self.producers.forget(before_offset=self.start, silent_since=now - EXPIRY_MS)

    def _set_start(self, offset: int) -> None:
        try:
            replace_file(self._start_file, str(offset))
        except OSError as problem:
            raise BrokerError(Code.KAFKA_STORAGE_ERROR, str(problem)) from problem
        self.start = offset

    def _drop_oldest(self) -> None:
        self.segments.pop(0).delete()

    def close(self, *, discard: bool = False) -> None:
        """Close the files, put on the disk unless they are about to be deleted; wakes those who wait."""
        for segment in self.segments:
            if not discard:
                with contextlib.suppress(OSError):
                    segment.sync()
            segment.close()
        self.wake()
