"""Bytes that no good client sends: the embedded broker refuses them one by one and serves the others on."""

from __future__ import annotations

import random
import secrets
import struct
from collections.abc import Iterator

import pytest

from services.embedded.broker.api import APIS
from services.embedded.broker.errors import Code
from services.embedded.broker.messages.data import API_VERSIONS, FETCH, METADATA, PRODUCE
from services.embedded.broker.server import HANDLERS, LARGEST_REQUEST
from tests.integration.broker.conftest import Embedded
from tests.integration.broker.raw import Raw, batch, request


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One broker for all of this file: none of it may end it."""
    broker = Embedded(tmp_path_factory.mktemp("broker"), lambda stem: f"{stem}-{secrets.token_hex(4)}")
    yield broker
    assert broker.process.poll() is None
    broker.stop()


@pytest.fixture
def raw(embedded: Embedded) -> Iterator[Raw]:
    with Raw(embedded.port) as connection:
        yield connection


def test_every_message_has_a_handler() -> None:
    assert set(APIS) == set(HANDLERS)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">i", -1),
        struct.pack(">i", LARGEST_REQUEST + 1),
        struct.pack(">i", 3) + b"abc",
        struct.pack(">ihhi", 8, 999, 0, 1),  # no such request type
        struct.pack(">ihhi", 8, 3, 99, 1),  # no such version
        struct.pack(">ihhih", 10, 3, 1, 1, 500),  # a client id longer than the request
        struct.pack(">ihhihi", 14, 3, 1, 1, -1, 1 << 30),  # a billion topics
    ],
)
def test_what_is_no_request_ends_its_connection_and_no_other(embedded: Embedded, raw: Raw, data: bytes) -> None:
    with Raw(embedded.port) as bad:
        bad.send(data)
        assert bad.receive() == b""
    assert raw.ask(METADATA, 1, {"topics": []})["brokers"][0]["host"] == "127.0.0.1"
    assert embedded.process.poll() is None


def test_mangled_requests_of_every_kind_do_no_harm(embedded: Embedded, raw: Raw) -> None:
    topic = embedded.topic()
    chance = random.Random(7)
    good = {api.key: [request(api, version, {}) for version in range(api.first, api.last + 1)] for api in APIS.values()}
    fetch = {
        "max_wait_ms": 0,
        "topics": [{"name": topic, "partitions": [{"index": 0, "partition_max_bytes": 1 << 20}]}],
    }
    good[FETCH.key] += [request(FETCH, version, fetch) for version in range(FETCH.first, FETCH.last + 1)]
    for frames in good.values():
        for frame in frames:
            # The head stays: else nearly everything would end at "no such request type".
            body = bytearray(frame)
            for _ in range(3):
                if len(body) > 8:
                    body[chance.randrange(8, len(body))] = chance.randrange(256)
            body = body[: chance.randint(8, len(body))] + chance.randbytes(chance.choice((0, 0, 5, 50)))
            with Raw(embedded.port) as bad:
                bad.frame(bytes(body))
    assert raw.produce(PRODUCE, topic, batch(b"still here"))["error_code"] == Code.NONE
    assert embedded.read(topic, 1)[0].value() == b"still here"


def test_a_client_that_goes_away_in_mid_request_takes_nothing_with_it(embedded: Embedded, raw: Raw) -> None:
    topic = embedded.topic()
    with Raw(embedded.port) as gone:
        gone.send(struct.pack(">i", 100_000) + b"half")
    with Raw(embedded.port) as gone:
        wait = {"max_wait_ms": 60_000, "min_bytes": 1}
        part = {"index": 0, "partition_max_bytes": 1 << 20}
        gone.frame(request(FETCH, 11, wait | {"topics": [{"name": topic, "partitions": [part]}]}))
    assert raw.produce(PRODUCE, topic, batch(b"x"))["base_offset"] == 0


def test_a_version_of_the_future_is_told_ours(raw: Raw) -> None:
    raw.frame(struct.pack(">hhih", API_VERSIONS.key, 99, 7, -1))
    correlation, code, count = struct.unpack_from(">ihi", raw.receive())
    assert (correlation, code, count) == (7, Code.UNSUPPORTED_VERSION, len(APIS))


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, Code.CORRUPT_MESSAGE),
        (b"", Code.CORRUPT_MESSAGE),
        (batch(b"x")[:40], Code.CORRUPT_MESSAGE),
        (batch(b"x" * 100)[:-1], Code.CORRUPT_MESSAGE),
        (_flip(batch(b"x" * 100), 90), Code.CORRUPT_MESSAGE),
        (_flip(batch(b"x"), 18), Code.CORRUPT_MESSAGE),
        (struct.pack(">qi", 0, -12) + batch(b"x")[12:], Code.CORRUPT_MESSAGE),
        (batch(b"x") + batch(b"y"), Code.INVALID_RECORD),
        (batch(b"x" * 2_000_000), Code.MESSAGE_TOO_LARGE),
        (batch(b"x")[:16] + b"\1" + batch(b"x")[17:], Code.UNSUPPORTED_FOR_MESSAGE_FORMAT),
    ],
)
def test_a_bad_batch_is_refused_with_kafkas_code(embedded: Embedded, raw: Raw, data: bytes | None, code: Code) -> None:
    topic = embedded.topic()
    result = raw.produce(PRODUCE, topic, data)
    assert result["error_code"] == code
    assert result["error_message"]
    assert raw.produce(PRODUCE, topic, batch(b"good"))["base_offset"] == 0


def test_a_refused_batch_without_acknowledgement_ends_the_connection(embedded: Embedded) -> None:
    with Raw(embedded.port) as quiet:
        parts = [{"index": 0, "records": b"rubbish"}]
        message = {"acks": 0, "topics": [{"name": embedded.topic(), "partitions": parts}]}
        quiet.frame(request(PRODUCE, 8, message))
        assert quiet.receive() == b""


def test_sequences_are_kept_in_order(embedded: Embedded, raw: Raw) -> None:
    topic = embedded.topic()
    ours = {"producer": (4711, 0)}
    first = batch(b"0", b"1", sequence=0, **ours)
    assert raw.produce(PRODUCE, topic, first)["base_offset"] == 0
    assert raw.produce(PRODUCE, topic, batch(b"2", sequence=2, **ours))["base_offset"] == 2
    assert raw.produce(PRODUCE, topic, first)["base_offset"] == 0  # a repeat, answered as the first time
    gap = raw.produce(PRODUCE, topic, batch(b"9", sequence=9, **ours))
    assert gap["error_code"] == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert raw.produce(PRODUCE, topic, batch(b"new", producer=(4711, 1), sequence=0))["base_offset"] == 3
    old = raw.produce(PRODUCE, topic, batch(b"3", sequence=3, **ours))
    assert old["error_code"] == Code.INVALID_PRODUCER_EPOCH
    assert embedded.watermarks(topic) == (0, 4)


def test_sequence_numbers_wrap(embedded: Embedded, raw: Raw) -> None:
    topic = embedded.topic()
    last = (1 << 31) - 1
    assert raw.produce(PRODUCE, topic, batch(b"a", b"b", producer=(1, 0), sequence=last))["base_offset"] == 0
    assert raw.produce(PRODUCE, topic, batch(b"c", producer=(1, 0), sequence=1))["base_offset"] == 2


def test_a_late_transactional_batch_opens_nothing(embedded: Embedded, raw: Raw) -> None:
    topic = embedded.topic()
    late = batch(b"late", producer=(99, 0), sequence=0, transactional=True)
    result = raw.produce(PRODUCE, topic, late, transactional_id="nobody")
    assert result["error_code"] == Code.INVALID_PRODUCER_ID_MAPPING
    assert embedded.watermarks(topic) == (0, 0)


def test_compaction_is_refused_with_the_reason(embedded: Embedded) -> None:
    with pytest.raises(Exception, match="does not compact"):
        embedded.topic(cleanup_policy="compact")
