"""The Kafka resource against a real broker."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest

from events.catalogue import TOPICS
from resources.errors import KafkaUnavailable, RangeGone
from resources.kafka import KafkaResource
from resources.ranges import Span
from tests.conftest import free_port


@pytest.fixture
def kafka(kafka_bootstrap: str) -> KafkaResource:
    return KafkaResource(bootstrap=kafka_bootstrap, timeout=10.0)


def test_topics_are_made_once_with_append_time(kafka: KafkaResource, unique: Callable[[str], str]) -> None:
    extra = unique("extra")
    assert extra in kafka.ensure_topics([extra])
    assert kafka.ensure_topics([extra]) == []
    there = kafka.topics([*TOPICS, extra, unique("nothing")])
    assert set(there) == {*TOPICS, extra}
    # The catalogue's may be there before, with another number: a shared server makes topics by itself.
    assert len(there[extra].partitions) == 3
    assert {config["message.timestamp.type"] for config in kafka._configs([*TOPICS, extra]).values()} == {
        "LogAppendTime"
    }
    assert kafka.policies([extra]) == {extra: "delete"}


def test_several_ranges_at_once_each_in_order(kafka: KafkaResource, unique: Callable[[str], str]) -> None:
    topics = [unique("many"), unique("many")]
    kafka.ensure_topics(topics)
    producer = kafka.producer()
    for topic in topics:
        for at in range(900):
            producer.produce(topic, b"%d" % at, partition=at % 3)
    assert producer.flush(30) == 0
    spans = [Span(topic, part, 10, 290) for topic in topics for part in range(3)]
    # One partition twice: it is read in two goes.
    spans.append(Span(topics[0], 0, 0, 10))
    found: dict[int, list[int]] = {}
    for at, records in kafka.read_ranges(spans, batch=70):
        found.setdefault(at, []).extend(records.offsets.tolist())
        assert all(stamp > 0 for stamp in records.appended_at.tolist())
    assert found == {at: list(range(span.from_offset, span.to_offset)) for at, span in enumerate(spans)}
    assert kafka.watermarks(topics[0]) == {0: (0, 300), 1: (0, 300), 2: (0, 300)}
    assert kafka.watermarks(unique("nothing")) == {}
    assert set(kafka.offsets_at(kafka.topics(topics[:1]).values(), 1).values()) == {0}


def test_what_is_not_there_is_told_soon(kafka: KafkaResource, unique: Callable[[str], str]) -> None:
    with pytest.raises(RangeGone):
        list(kafka.read_range(unique("nothing"), 0, 0, 5))
    away = KafkaResource(bootstrap=f"127.0.0.1:{free_port()}", timeout=1.0, attempts=2)
    with pytest.raises(KafkaUnavailable):
        away.watermarks("any")
    with pytest.raises(KafkaUnavailable):
        list(away.read_range("any", 0, 0, 5))


def _end(bootstrap: str, topic: str) -> int:
    return KafkaResource(bootstrap=bootstrap).watermarks(topic)[0][1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_have_clients_of_their_own(
    kafka: KafkaResource, kafka_bootstrap: str, unique: Callable[[str], str], method: str
) -> None:
    topic = unique("children")
    kafka.ensure_topics([topic])
    with multiprocessing.get_context(method).Pool(1) as children:
        assert children.apply(_end, (kafka_bootstrap, topic)) == 0


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, kafka: KafkaResource) -> None:
    from resources.settings import Settings

    settings = Settings(kafka_security={"sasl.password": "hidden-one"}, warehouse_url="http://u:hidden-two@h:1")
    assert "hidden" not in repr(settings) + str(settings) + repr(kafka)
