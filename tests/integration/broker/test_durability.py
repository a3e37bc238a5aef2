"""Kills, torn files, full disks, restarts: what the embedded broker acknowledged is there, once."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition

from services.embedded.broker.messages.data import PRODUCE
from tests.conftest import ROOT
from tests.integration.broker.conftest import Embedded, collect, eventually
from tests.integration.broker.raw import Raw, batch
from tests.integration.disk import small_disk

COMMITTED = {"isolation_level": "read_committed"}


def send_through_kills(broker: Embedded, topic: str, count: int, kills: int, seed: int) -> tuple[set[int], int]:
    """Send numbers with an idempotent producer while the broker is killed; returns those acknowledged and the kills.

    A kill is dealt while records are in flight: sent, not yet acknowledged.
    """
    acknowledged: set[int] = set()
    producer = broker.producer(
        enable_idempotence=True, queue_buffering_max_messages=20_000, retry_backoff_ms=20, reconnect_backoff_max_ms=200
    )
    chance = random.Random(seed)
    at = sorted(chance.sample(range(count // 10, count - count // 10), kills))
    dealt = 0
    for number in range(count):
        while True:
            try:
                producer.produce(
                    topic,
                    b"%d" % number,
                    partition=0,
                    on_delivery=lambda error, message: error or acknowledged.add(int(message.value())),
                )
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1000 == 0:
            producer.poll(0)
        if dealt < kills and number >= at[dealt]:
            producer.poll(0)
            if len(acknowledged) <= number:  # else: nothing in flight now, the next record will be
                broker.kill()
                broker.start()
                dealt += 1
    assert producer.flush(60) == 0
    return acknowledged, dealt


def assert_exactly(broker: Embedded, topic: str, acknowledged: set[int], count: int) -> None:
    """Everything sent was acknowledged and is there once, in order."""
    assert acknowledged == set(range(count))
    values = [int(one.value()) for one in broker.read(topic, broker.watermarks(topic)[1])]
    assert values == list(range(count))


def test_kills_during_idempotent_sends_lose_and_double_nothing(embedded: Embedded) -> None:
    topic = embedded.topic(segment_bytes="300000", message_timestamp_type="LogAppendTime")
    acknowledged, dealt = send_through_kills(embedded, topic, 60_000, kills=4, seed=1)
    assert dealt == 4
    assert_exactly(embedded, topic, acknowledged, 60_000)
    assert len(list(embedded.partition(topic).glob("*.log"))) > 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_lose_and_double_nothing(embedded: Embedded, seed: int) -> None:
    topic = embedded.topic(segment_bytes="1000000")
    acknowledged, dealt = send_through_kills(embedded, topic, 300_000, kills=10, seed=seed)
    assert dealt == 10
    assert_exactly(embedded, topic, acknowledged, 300_000)


def test_a_repeat_is_known_after_a_restart(embedded: Embedded) -> None:
    """The acknowledgement was lost with the broker: the client sends again, the log knows better."""
    topic = embedded.topic()
    batches = [batch(b"%d" % number, producer=(5, 0), sequence=number) for number in range(7)]
    with Raw(embedded.port) as raw:
        assert [raw.produce(PRODUCE, topic, one)["base_offset"] for one in batches] == list(range(7))
    embedded.kill()
    embedded.start()
    with Raw(embedded.port) as raw:
        assert [raw.produce(PRODUCE, topic, one)["base_offset"] for one in batches[2:]] == [2, 3, 4, 5, 6]
        following = batch(b"7", producer=(5, 0), sequence=7)
        assert raw.produce(PRODUCE, topic, following)["base_offset"] == 7
    assert embedded.watermarks(topic) == (0, 8)


@pytest.mark.parametrize("commit", [True, False])
def test_an_open_transaction_outlives_a_kill(embedded: Embedded, commit: bool) -> None:
    topic, group = embedded.topic(), embedded.unique("group")
    producer = embedded.producer(transactional_id="t", reconnect_backoff_max_ms=200)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"inside", partition=0)
    producer.flush(30)
    consumer = embedded.consumer(group)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], consumer.consumer_group_metadata(), 30)
    embedded.kill()
    embedded.start()
    producer.commit_transaction(60) if commit else producer.abort_transaction(60)
    embedded.kill()
    embedded.start()
    found = consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset
    assert found == (1 if commit else -1001)
    consumer.close()
    embedded.send(topic, [b"outside"])
    expected = [b"inside", b"outside"] if commit else [b"outside"]
    assert [one.value() for one in embedded.read(topic, len(expected), **COMMITTED)] == expected


def test_topics_settings_and_offsets_outlive_a_kill(embedded: Embedded) -> None:
    topic, group = embedded.topic(3, retention_ms="77777777"), embedded.unique("group")
    embedded.send(topic, [b"x"] * 10, partition=2)
    embedded.admin.delete_records([TopicPartition(topic, 2, 4)])[TopicPartition(topic, 2, 4)].result(30)
    consumer = embedded.consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, 2, 6)], asynchronous=False)
    embedded.kill()
    embedded.start()
    assert consumer.committed([TopicPartition(topic, 2)], timeout=30)[0].offset == 6
    consumer.close()
    assert embedded.watermarks(topic, 2) == (4, 10)
    assert len(embedded.admin.list_topics(topic, timeout=30).topics[topic].partitions) == 3


def test_a_group_member_goes_on_after_a_kill(embedded: Embedded) -> None:
    topic = embedded.topic()
    consumer = embedded.consumer(reconnect_backoff_max_ms=200, heartbeat_interval_ms=300, session_timeout_ms=6000)
    consumer.subscribe([topic])
    embedded.send(topic, [b"before"])
    assert collect(consumer, 1)[0].value() == b"before"
    consumer.commit(asynchronous=False)
    embedded.kill()
    embedded.start()
    embedded.send(topic, [b"after"])
    got: list[bytes] = []

    def after() -> bool:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            got.append(message.value())
        return b"after" in got

    eventually(after, "the member did not come back")
    assert got == [b"after"]
    consumer.close()


@pytest.mark.parametrize("tail", ["cut", "zeroes", "garbage", "flipped"])
def test_an_unfinished_append_is_cut_off(embedded: Embedded, tail: str) -> None:
    topic = embedded.topic()
    for value in (b"a", b"b", b"last"):
        embedded.send(topic, [value])
    embedded.stop()
    (log,) = embedded.partition(topic).glob("*.log")
    data = log.read_bytes()
    damaged = {
        "cut": data[:-3],
        "zeroes": data + bytes(4096),
        "garbage": data + random.Random(1).randbytes(999),
        "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    }[tail]
    log.write_bytes(damaged)
    embedded.start()
    kept = 3 if tail in ("zeroes", "garbage") else 2
    assert embedded.watermarks(topic) == (0, kept)
    assert "unfinished append" in embedded.log.read_text()
    embedded.send(topic, [b"next"])
    assert [one.value() for one in embedded.read(topic, kept + 1)] == [*[b"a", b"b", b"last"][:kept], b"next"]


def test_damage_in_an_older_file_stops_the_start_and_says_where(embedded: Embedded) -> None:
    topic = embedded.topic(segment_bytes="2000")
    for _ in range(4):
        embedded.send(topic, [b"x" * 1500])
    embedded.stop()
    oldest = min(embedded.partition(topic).glob("*.log"))
    oldest.write_bytes(oldest.read_bytes()[:-10])
    failed = embedded.launch()
    assert failed.wait(30) == 1
    assert f"{oldest} is damaged" in embedded.log.read_text()


def test_a_torn_journal_line_is_dropped(embedded: Embedded) -> None:
    topic, group = embedded.topic(), embedded.unique("group")
    consumer = embedded.consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    embedded.kill()
    with (embedded.folder / "offsets.jsonl").open("a") as journal:
        journal.write(f'["{group}","{topic}",0,99')
    embedded.start()
    assert consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset == 3
    consumer.close()


def test_a_failed_write_is_refused_and_tried_again(embedded: Embedded) -> None:
    """The limit on file sizes stands for the disk: the same failing write, on the real file, and it can be lifted."""
    topic = embedded.topic()
    embedded.send(topic, [b"x" * 5000])
    _, most = resource.prlimit(embedded.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(embedded.process.pid, resource.RLIMIT_FSIZE, (8000, most))
    producer = embedded.producer(retry_backoff_ms=50, retry_backoff_max_ms=100)
    results: list[object] = []
    producer.produce(topic, b"y" * 5000, partition=0, on_delivery=lambda error, _: results.append(error))
    eventually(lambda: producer.poll(0.05) >= 0 and "cannot append" in embedded.log.read_text(), "nothing was refused")
    assert results == []  # the client keeps trying
    with Raw(embedded.port) as raw:
        assert raw.produce(PRODUCE, topic, batch(b"z" * 5000))["error_code"] == 56  # KAFKA_STORAGE_ERROR
    assert embedded.read(topic, 1)[0].value() == b"x" * 5000  # reading goes on
    resource.prlimit(embedded.process.pid, resource.RLIMIT_FSIZE, (most, most))
    assert producer.flush(30) == 0
    assert results == [None]
    embedded.kill()
    embedded.start()
    assert [one.value()[:1] for one in embedded.read(topic, 2)] == [b"x", b"y"]


def test_a_full_disk_refuses_and_recovers(tmp_path: Path, unique: Callable[[str], str]) -> None:
    """Records leave room; the broker's own state may use it; full to the last byte, nothing is lost or doubled."""
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        broker = Embedded(disk.path, unique, "--keep-free-mb", "4")
        try:
            topic, group = broker.topic(segment_bytes="1000000"), broker.unique("group")
            results: list[object] = []
            producer = broker.producer(enable_idempotence=True, retry_backoff_ms=50, retry_backoff_max_ms=100)
            for number in range(15_000):
                value = b"%d:" % number + bytes(1000)
                producer.produce(topic, value, partition=0, on_delivery=lambda error, _: results.append(error))
            eventually(lambda: producer.poll(0.05) >= 0 and "is full" in broker.log.read_text(), "it did not run full")
            disk.fill(leaving_mb=4)
            with Raw(broker.port) as raw:
                refused = raw.produce(PRODUCE, topic, batch(b"z" * 900_000))
                assert refused["error_code"] == 56  # KAFKA_STORAGE_ERROR, which clients retry
                assert f"the disk of {disk.path}/data is full" in refused["error_message"]
            consumer = broker.consumer(group)
            consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
            broker.topic()
            disk.fill()
            with pytest.raises(KafkaException, match="No space left on device"):
                broker.topic()
            acknowledged = broker.watermarks(topic)[1]
            assert [one.value().split(b":")[0] for one in broker.read(topic, 3, offset=acknowledged - 3)] == [
                b"%d" % number for number in range(acknowledged - 3, acknowledged)
            ]
            assert broker.log.read_text().count("is full") == 1, "one line, however often clients try"
            assert broker.process.poll() is None
            broker.kill()
            failed = broker.launch()
            assert failed.wait(30) == 1
            assert f"with {broker.folder}: [Errno 28] No space left on device" in broker.log.read_text()
            disk.free()
            subprocess.run(["mount", "-o", "remount,size=64m", disk.path], check=True)
            broker.start()
            assert producer.flush(60) == 0
            assert results == [None] * 15_000
            assert consumer.committed([TopicPartition(topic, 0)], timeout=30)[0].offset == 7
            consumer.close()
            values = [int(one.value().split(b":")[0]) for one in broker.read(topic, broker.watermarks(topic)[1])]
            assert values == list(range(15_000))
        finally:
            broker.kill()


def test_a_second_broker_on_the_folder_is_refused(embedded: Embedded) -> None:
    command = [sys.executable, "-m", "services.embedded.broker", "--path", str(embedded.folder), "--port", "1"]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert f"another broker (process {embedded.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_told(embedded: Embedded, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.embedded.broker", "--path", str(tmp_path / "other")]
    command += ["--port", str(embedded.port)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert str(embedded.port) in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.org"])
def test_it_serves_its_own_machine_only(host: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.embedded.broker", "--path", str(tmp_path), "--host", host]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 2
    assert "not a loopback address" in refused.stderr


def test_it_says_what_it_is_for_and_stops_at_once(embedded: Embedded) -> None:
    topic = embedded.topic()
    consumer = embedded.consumer(fetch_wait_max_ms=60_000)
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(0.5) is None  # a long poll is open
    began = time.monotonic()
    embedded.stop()
    assert time.monotonic() - began < 15
    consumer.close()
    assert "for one machine and for development only" in embedded.log.read_text()


@pytest.mark.parametrize(
    "embedded",
    [("--fsync", "always"), ("--fsync", "never"), ("--fsync", "interval", "--fsync-seconds", "0.05")],
    indirect=True,
)
def test_every_fsync_policy_keeps_what_it_acknowledged(embedded: Embedded) -> None:
    topic = embedded.topic(2)
    embedded.send(topic, [b"%d" % number for number in range(200)], linger_ms=0)
    producer = embedded.producer(transactional_id="t")
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"in", partition=1)
    producer.commit_transaction(30)
    embedded.kill()
    embedded.start()
    assert len(embedded.read(topic, 200)) == 200
    assert embedded.read(topic, 1, partition=1, **COMMITTED)[0].value() == b"in"


@pytest.mark.parametrize("embedded", [("--no-auto-create", "--partitions", "4")], indirect=True)
def test_topics_come_only_when_asked_for_where_that_is_wanted(embedded: Embedded) -> None:
    producer = embedded.producer(message_timeout_ms=1000)
    errors: list[object] = []
    producer.produce("never-made", b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors
    assert errors[0] is not None
    with pytest.raises(KafkaException):
        embedded.watermarks("never-made")
    topic = embedded.topic(-1)
    assert len(embedded.admin.list_topics(topic, timeout=30).topics[topic].partitions) == 4
