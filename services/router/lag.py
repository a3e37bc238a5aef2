"""Consumer lag: how much of each assigned partition is not read yet.

What belongs here: measuring it without a request to the broker. What does not: how it is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.router.progress import Partition

EVERY: Final = 1.0
"""Seconds between two measurements."""


class Figures(Protocol):
    """Where the lag is kept."""

    lag: dict[Partition, int]


class Lag:
    """Measures in the loop's own thread: a consumer must not be asked by another one while it is closed.

    Watermarks come with each answer to a fetch, and librdkafka keeps them, so nothing here waits for the broker.
    """

    def __init__(self, consumer: Consumer, metrics: Figures, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._metrics = metrics
        self._clock = clock
        self._due = 0.0
        self._begin: dict[Partition, int] = {}

    def begin(self, at: TopicPartition) -> None:
        """Note where a partition that was just assigned will be read from: its committed offset; negative: none."""
        self._begin[at.topic, at.partition] = at.offset
        self._due = 0.0

    def measure(self, assigned: Iterable[Partition]) -> None:
        """Measure the assigned partitions, where the last time is long enough ago."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + EVERY
        lag: dict[Partition, int] = {}
        for at in self._consumer.position([TopicPartition(topic, partition) for topic, partition in assigned]):
            partition = (at.topic, at.partition)
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(at.topic, at.partition), cached=True)
            except KafkaException:  # librdkafka knows nothing of it yet
                continue
            if high < 0:  # nothing was fetched yet
                continue
            # Before the first record there is no position: reading begins at the commit, or at the log's start.
            position = at.offset if at.offset >= 0 else max(self._begin.get(partition, -1), low, 0)
            lag[partition] = max(0, high - position)
        self._metrics.lag = lag
