"""One partition's log with a clock of the test's own: retention, search by time, transactions, a clock gone back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.embedded.broker.configs import TopicConfig
from services.embedded.broker.core import Broker, Options
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.log import Log
from services.embedded.broker.records import intact, read_header
from services.embedded.broker.room import Room
from tests.integration.broker.raw import batch

HOUR = 3_600_000


class Clock:
    """A wall clock in milliseconds that stands wherever the test puts it."""

    def __init__(self, now: int = 100 * HOUR) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def log_of(folder: Path, clock: Clock, **settings: str) -> Log:
    config = TopicConfig({name.replace("_", "."): value for name, value in settings.items()})
    return Log(folder / "0", config, clock, Room(folder))


def put(log: Log, *values: bytes, timestamp: int = 1000) -> int:
    return log.append(memoryview(batch(*values, timestamp=timestamp))).offset


def test_retention_by_age_follows_the_clock(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, message_timestamp_type="LogAppendTime", retention_ms=str(HOUR), segment_bytes="1024")
    for _ in range(4):
        put(log, b"x" * 900)
        clock.now += HOUR // 2
    log.apply_retention()
    # Written at 0, 30, 60 and 90 minutes; it is 120 now: the first two are older than an hour.
    assert (log.start, log.next) == (2, 4)
    clock.now += 10 * HOUR
    log.apply_retention()
    assert (log.start, log.next, log.size) == (4, 4, 0)
    assert put(log, b"next") == 4
    log.close()
    again = log_of(tmp_path, clock)
    assert (again.start, again.next) == (4, 5)
    again.close()


def test_retention_by_size_keeps_at_least_that_much(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, retention_bytes="2500", segment_bytes="1024")
    for _ in range(6):
        put(log, b"x" * 900)
    before = log.size
    log.apply_retention()
    assert 2500 <= log.size < before
    assert log.read(log.start, 1 << 20, committed=False)
    log.close()


def test_retention_leaves_an_open_transaction_alone(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, message_timestamp_type="LogAppendTime", retention_ms="1000", segment_bytes="1024")
    log.append(memoryview(batch(b"x" * 900, producer=(1, 0), sequence=0, transactional=True)))
    put(log, b"y" * 900)
    clock.now += HOUR
    log.apply_retention()
    assert log.start == 0
    log.end_transaction(1, 0, commit=True)
    clock.now += HOUR
    log.apply_retention()
    assert log.start == log.next == 3
    log.close()


def test_a_clock_that_goes_back_loses_nothing_and_finds_everything(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, message_timestamp_type="LogAppendTime", retention_ms=str(HOUR), segment_bytes="1024")
    put(log, b"a" * 900)
    clock.now -= 50 * HOUR
    put(log, b"b" * 900)
    log.apply_retention()
    assert (log.start, log.next) == (0, 2)
    assert log.offset_at(clock.now) == (100 * HOUR, 0)  # the first that is not older, in the log's order
    assert log.offset_at(100 * HOUR + 1) == (-1, -1)
    clock.now = 102 * HOUR
    log.apply_retention()
    assert log.start == 2  # each file is judged by its own newest time
    log.close()


def test_append_time_is_stamped_under_a_new_checksum(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, message_timestamp_type="LogAppendTime")
    position = log.append(memoryview(batch(b"x", b"y", timestamp=5)))
    assert position == (0, clock.now)
    data = log.read(0, 1 << 20, committed=False)
    header = read_header(data)
    assert intact(memoryview(data))
    assert header.max_timestamp == clock.now
    assert header.attributes & 0x08
    # A repeat is answered with the time of the first append, not with now.
    once = memoryview(batch(b"z", producer=(1, 0), sequence=0))
    stamp = log.append(once).append_time
    clock.now += 1000
    assert log.append(once) == (2, stamp)
    log.close()


def test_search_by_time_skips_deleted_records(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock)
    for stamp in (1000, 2000, 3000):
        put(log, b"x", timestamp=stamp)
    log.delete_before(1)
    assert log.offset_at(0) == (2000, 1)
    assert log.offset_at(2500) == (3000, 2)
    assert log.newest_record() == (3000, 2)
    log.close()


def test_reads_never_return_less_than_a_batch_nor_more_than_asked(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, segment_bytes="4096")
    for _ in range(10):
        put(log, b"x" * 500)
    size = len(batch(b"x" * 500))
    assert len(log.read(0, 1, committed=False)) == size
    assert len(log.read(3, 2 * size + 1, committed=False)) == 2 * size
    assert read_header(log.read(9, 1 << 20, committed=False)).base_offset == 9
    assert log.read(10, 1 << 20, committed=False) == b""
    log.close()


def test_a_client_may_not_write_markers_or_gaps(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock)
    whole = bytearray(batch(b"x"))
    whole[22] |= 0x20  # control
    with pytest.raises(BrokerError) as refused:
        log.append(memoryview(bytes(whole)))
    assert refused.value.code == Code.CORRUPT_MESSAGE  # the checksum covers the attributes
    assert log.next == 0
    log.close()


def test_an_outcome_that_was_decided_before_a_kill_is_carried_out(tmp_path: Path, clock: Clock) -> None:
    """The kill falls between the journal's outcome and the markers: the next start finishes it, and only once."""

    async def first() -> tuple[int, int]:
        broker = Broker(tmp_path, Options(), clock)
        broker.topics.create("t", 2, {})
        producer_id, epoch = broker.transactions.initialise("id", 60_000, -1, -1)
        transaction = broker.transactions.get("id", producer_id, epoch)
        broker.transactions.add(transaction, {("t", 0), ("t", 1)}, ("g", {}))
        for index in (0, 1):
            data = batch(b"x", producer=(producer_id, epoch), sequence=0, transactional=True)
            broker.topics.all["t"].logs[index].append(memoryview(data))
        # What `end` does before the kill: the outcome, and one of two markers.
        transaction.outcome = "commit"
        broker.transactions.journal.write(transaction.entry())
        broker.topics.all["t"].logs[0].end_transaction(producer_id, epoch, commit=True)
        await broker.close()
        return producer_id, epoch

    async def second() -> list[tuple[int, int]]:
        broker = Broker(tmp_path, Options(), clock)
        state = [(log.next, log.stable) for log in broker.topics.all["t"].logs]
        assert not broker.topics.all["t"].logs[1].producers.aborted
        await broker.close()
        return state

    asyncio.run(first())
    assert asyncio.run(second()) == [(2, 2), (2, 2)]
    assert asyncio.run(second()) == [(2, 2), (2, 2)]


def test_old_events_do_not_start_a_file_each(tmp_path: Path, clock: Clock) -> None:
    log = log_of(tmp_path, clock, segment_ms=str(HOUR))
    for _ in range(5):
        put(log, b"1995", timestamp=1000)
    assert len(log.segments) == 1
    clock.now += 2 * HOUR
    put(log, b"later", timestamp=1000)
    assert len(log.segments) == 2
    log.close()


def test_removed_records_leave_the_disk_and_a_start_after_a_kill_removes_what_was_hidden(
    tmp_path: Path, clock: Clock
) -> None:
    log = log_of(tmp_path, clock)
    for value in (b"first secret", b"second secret", b"third", b"fourth"):
        put(log, value)

    def disk() -> bytes:
        return b"".join(path.read_bytes() for path in sorted((tmp_path / "0").glob("*.log")))

    log.delete_before(1)
    assert b"first secret" not in disk()
    assert b"second secret" in disk()
    # Killed between the new start and the new file.
    (tmp_path / "0" / "start-offset").write_text("2")
    (tmp_path / "0" / "00000000000000000000.draft").write_bytes(b"half")
    log.close()
    again = log_of(tmp_path, clock)
    assert b"secret" not in disk()
    assert (again.start, again.next) == (2, 4)
    assert [read_header(memoryview(again.read(at, 1, committed=True))).base_offset for at in (2, 3)] == [2, 3]
    assert put(again, b"fifth") == 4
    again.delete_before(-1)
    assert disk() == b""
    assert put(again, b"sixth") == 5
    again.close()
    last = log_of(tmp_path, clock)
    assert (last.start, last.next) == (5, 6)
    assert not list((tmp_path / "0").glob("*.draft"))
    last.close()
