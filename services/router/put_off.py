"""Partitions that wait: the next record's schema cannot be had now, and what stands behind it keeps its order.

What belongs here: leaving a partition at a record, and going back to it. What does not: when a schema cannot be had
(:mod:`services.router.registry.source`). Other partitions go on meanwhile, and the group's news are heard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from events.validation import SchemaUnavailable
from services.router.progress import Batch, Partition

log = logging.getLogger("isthmus.router")


class PutOff:
    """The partitions of one consumer that wait, and until when."""

    def __init__(self, consumer: Consumer, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._clock = clock
        self._until: dict[Partition, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def leave(self, message: Any, batch: Batch, error: SchemaUnavailable) -> int:
        """Go back to this record and wait there; return its partition, of which nothing more may be routed now."""
        place = message.topic(), message.partition()
        at = TopicPartition(*place, message.offset())
        self._consumer.seek(at)
        self._consumer.pause([at])
        batch.offsets[place] = message.offset()
        self._until[place] = self._clock() + error.retry_after
        log.warning("%s/%d/%d waits %.1f s: %s", *place, message.offset(), error.retry_after, error)
        return int(message.partition())

    def again(self) -> None:
        """Take up each partition whose time has come."""
        if not self._until:
            return
        now = self._clock()
        if due := [place for place, until in self._until.items() if until <= now]:
            self._consumer.resume([TopicPartition(*place) for place in due])
            self.forget(due)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Wait no longer for these: they belong to another router now, or go on."""
        for place in partitions:
            self._until.pop(place, None)
