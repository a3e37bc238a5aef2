"""Record batches (message format 2): read the header, check, stamp, write a transaction marker. Records stay opaque.

What belongs here: bytes of one batch. What does not: files, offsets' assignment policy, producers' state.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c

from services.embedded.broker.errors import BrokerError, Code

HEADER = struct.Struct(">qiibIhiqqqhii")
MAGIC = 2
PREFIX = 12  # base offset and length, which the length itself does not count
CRC_FROM = 21  # the CRC covers everything from the attributes on

COMPRESSION = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20


class Batch(NamedTuple):
    """A batch's header; ``size`` counts the whole batch, header included."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + PREFIX

    @property
    def next_offset(self) -> int:
        """Offset behind the last record."""
        return self.base_offset + self.last_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record; numbers wrap to 0 behind 2³¹-1."""
        return (self.base_sequence + self.last_delta) & 0x7FFFFFFF

    @property
    def is_control(self) -> bool:
        """Whether this is a transaction marker."""
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether this belongs to a transaction (a marker does too)."""
        return bool(self.attributes & TRANSACTIONAL)


def read_header(data: bytes | memoryview, at: int = 0) -> Batch:
    """Return the header at ``at``; raises ``struct.error`` where the bytes end before it does."""
    return Batch(*HEADER.unpack_from(data, at))


def intact(data: memoryview) -> bool:
    """Whether the bytes of a whole batch have the checksum that its header says."""
    return bool(google_crc32c.value(bytes(data[CRC_FROM:])) == struct.unpack_from(">I", data, 17)[0])


def check(data: memoryview | None, limit: int) -> Batch:
    """Return the header of a produced batch, or raise :class:`BrokerError` with the code that Kafka answers."""
    if data is None or len(data) < HEADER.size:
        raise BrokerError(Code.CORRUPT_MESSAGE, "no whole record batch")
    batch = read_header(data)
    if batch.magic != MAGIC:
        raise BrokerError(Code.UNSUPPORTED_FOR_MESSAGE_FORMAT, f"message format {batch.magic}, not {MAGIC}")
    if batch.size < HEADER.size or batch.size > len(data):
        raise BrokerError(Code.CORRUPT_MESSAGE, "the batch's length does not fit the request")
    if batch.size < len(data):
        raise BrokerError(Code.INVALID_RECORD, "more than one batch for a partition")
    if batch.size > limit:
        raise BrokerError(Code.MESSAGE_TOO_LARGE, f"batch of {batch.size} bytes, limit {limit} (max.message.bytes)")
    if not intact(data):
        raise BrokerError(Code.CORRUPT_MESSAGE, "checksum does not match")
    if batch.is_control or batch.records < 1 or batch.records != batch.last_delta + 1:
        raise BrokerError(Code.INVALID_RECORD, "a client may send neither control batches nor gaps in offsets")
    return batch


def stamped(data: memoryview, offset: int, append_time: int | None) -> bytearray:
    """Return the batch with its offset, and where ``append_time`` (ms) is given with that as every record's time.

    The offset lies outside the checksum; the time inside it, so the checksum is computed again.
    """
    out = bytearray(data)
    struct.pack_into(">q", out, 0, offset)
    struct.pack_into(">i", out, 12, 0)
    if append_time is not None:
        attributes = struct.unpack_from(">h", out, CRC_FROM)[0] | LOG_APPEND_TIME
        struct.pack_into(">h", out, CRC_FROM, attributes)
        struct.pack_into(">q", out, 35, append_time)
        crc = google_crc32c.value(bytes(memoryview(out)[CRC_FROM:]))
        struct.pack_into(">I", out, 17, crc)
    return out


def marker(producer_id: int, epoch: int, *, commit: bool, now: int) -> bytes:
    """Return the control batch that ends a transaction; its base offset is still 0."""
    key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
    # Zigzag variable-length integers: all are below 64, one byte each. Attributes, time delta and offset delta are 0.
    body = b"\0\0\0" + bytes([len(key) << 1]) + key + bytes([len(value) << 1]) + value + b"\0"
    record = bytes([len(body) << 1]) + body
    covered = struct.pack(">hiqqqhii", TRANSACTIONAL | CONTROL, 0, now, now, producer_id, epoch, -1, 1) + record
    return struct.pack(">qiibI", 0, 9 + len(covered), 0, MAGIC, google_crc32c.value(covered)) + covered


def is_commit(control: memoryview) -> bool:
    """Whether a control batch is a commit marker: the type is the last two bytes of its record's key."""
    # length, attributes, time delta, offset delta, key length: five bytes, then version and type.
    return bool(struct.unpack_from(">h", control, HEADER.size + 7)[0] == 1)


def first_at_or_after(data: bytes, timestamp: int) -> tuple[int, int]:
    """Return (timestamp, offset) of the batch's first record that is not older than ``timestamp`` (ms).

    Kafka answers by record, so the batch is opened here, the only place where it is; a batch whose codec is not
    installed answers with its first record, earlier than asked but never later.
    """
    from aiokafka.errors import UnsupportedCodecError
    from aiokafka.record.memory_records import MemoryRecords

    batch = read_header(data)
    if batch.attributes & LOG_APPEND_TIME:
        return batch.max_timestamp, batch.base_offset
    try:
        parsed = MemoryRecords(data).next_batch()
        for record in parsed or ():
            if record.timestamp >= timestamp:
                return record.timestamp, record.offset
    except UnsupportedCodecError:
        pass
    return batch.base_timestamp, batch.base_offset
