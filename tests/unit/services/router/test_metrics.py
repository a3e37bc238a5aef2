"""Counters, their text, and the consumer's lag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaException, TopicPartition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from services.router.exposition import Exposition
from services.router.health import Health
from services.router.lag import EVERY, Lag
from services.router.metrics import STAGES, Histogram, Metrics
from tests.conftest import ROOT

STEP = "isthmus.saga.step"


@pytest.fixture
def health() -> Health:
    health = Health(Metrics())
    metrics = health.metrics
    metrics.routed[STEP] += 2
    metrics.refused["malformed-json"] += 1
    metrics.consumer_errors["_TRANSPORT"] += 1
    metrics.spans["failed"] += 1
    metrics.lag = {("isthmus.ingress", 0): 7}
    for seconds in (0.0005, 0.003, 100.0):
        metrics.observe_latency(seconds)
    metrics.stage("decode_validate", 0.01, 1000)
    metrics.ingest.request("accepted", 0.002)
    metrics.ingest.refused["invalid-data"] += 1
    return health


def samples(text: str, read: Any = parse) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("accept", "read"), [("", parse), ("application/openmetrics-text; version=1.0.0", parse_openmetrics)]
)
def test_the_text_can_be_read_in_both_forms(health: Health, accept: str, read: Any) -> None:
    body, content_type = Exposition(health).text(accept)
    assert content_type.startswith(accept.split(";", maxsplit=1)[0] or "text/plain; version=0.0.4")
    found = samples(body.decode(), read)

    def value(name: str, **labels: str) -> float:
        return found["isthmus_router_" + name, frozenset(labels.items())]

    assert value("routed_total", type=STEP) == 2
    assert value("refused_total", reason="malformed-json") == 1
    assert value("lag", topic="isthmus.ingress", partition="0") == 7
    assert value("latency_seconds_bucket", le="0.001") == 1
    assert value("latency_seconds_bucket", le="60.0") == 2
    assert value("latency_seconds_bucket", le="+Inf") == value("latency_seconds_count") == 3
    assert value("latency_seconds_sum") == pytest.approx(100.0035)
    assert value("stage_seconds_bucket", stage="decode_validate", le="5e-06") == 0
    assert value("stage_seconds_bucket", stage="decode_validate", le="1e-05") == 1000
    assert value("stage_seconds_count", stage="acknowledge") == 0
    assert value("ingest_seconds_count", outcome="accepted") == 1
    assert value("routing") == 0
    assert found["process_resident_memory_bytes", frozenset()] > 1e6


def test_a_strange_accept_header_gets_the_plain_form(health: Health) -> None:
    for accept in ("*/*", "application/openmetrics-text; version=x", "text/plain; version=1.x", "ü"):
        assert Exposition(health).text(accept)[1].startswith("text/plain")


def named() -> Iterator[tuple[str, str]]:
    """Yield (where, metric) of what the rules and the dashboard ask for; what a rule records is not asked for."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/router.rules.yml").read_text())
    expressions = [(rule.get("alert") or rule["record"], rule["expr"]) for g in rules["groups"] for rule in g["rules"]]
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    dashboard = json.loads((ROOT / "deploy/grafana/router.json").read_text())
    expressions += [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    for where, expression in expressions:
        for name in re.findall(r"\b(?:isthmus|process)_[a-z0-9_:]+", expression):
            if name not in recorded:
                yield where, name


def test_every_metric_of_the_rules_and_the_dashboard_exists(health: Health) -> None:
    there = {name for name, _ in samples(Exposition(health).text()[0].decode())}
    asked = list(named())
    assert len(asked) > 20
    assert [(where, name) for where, name in asked if name not in there] == []


def test_a_batch_counts_as_often_as_it_has_events() -> None:
    histogram = Histogram((0.1, 1.0))
    histogram.observe(5.0, 10)
    histogram.observe(0.1)
    histogram.observe(7.0)
    assert (histogram.counts, histogram.total) == ([1, 10, 1], pytest.approx(12.1))
    assert (
        set(Metrics().stages) == set(STAGES) == {"consume", "decode_validate", "rules_route", "produce", "acknowledge"}
    )


class FakeConsumer:
    """Positions and watermarks as librdkafka keeps them; what is not there raises, as it does."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.marks: dict[int, tuple[int, int]] = {}
        self.asked = 0

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        self.asked += 1
        return [TopicPartition(at.topic, at.partition, self.positions.get(at.partition, -1001)) for at in partitions]

    def get_watermark_offsets(self, at: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "a request to the broker could hang"
        if at.partition not in self.marks:
            raise KafkaException(SimpleNamespace(name=lambda: "_UNKNOWN_PARTITION"))
        return self.marks[at.partition]


def test_lag_is_what_was_not_read() -> None:
    now, consumer, metrics = [10.0], FakeConsumer(), Metrics()
    lag = Lag(consumer, metrics, clock=lambda: now[0])  # type: ignore[arg-type]
    assigned = [("t", partition) for partition in range(5)]
    lag.begin(TopicPartition("t", 0, 40))
    lag.begin(TopicPartition("t", 1, -1001))
    consumer.marks = {0: (0, 100), 1: (30, 100), 2: (0, 100), 3: (-1001, -1001)}
    consumer.positions = {2: 90}
    lag.measure(assigned)
    # Read from the commit, from the log's start, from the position; not fetched yet; unknown.
    assert metrics.lag == {("t", 0): 60, ("t", 1): 70, ("t", 2): 10}
    lag.measure(assigned)
    assert consumer.asked == 1, "it was measured a moment ago"
    now[0] += EVERY
    consumer.positions[2] = 130  # ahead of the watermark that came with the last fetch
    lag.measure([("t", 2)])
    assert metrics.lag == {("t", 2): 0}
