"""Bytewax, the same work: ``BOOTSTRAP=… python -m bytewax.run benchmarks.bus.wax:flow``; it commits no offsets."""

from __future__ import annotations

import os
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found,unused-ignore]  # in an environment of its own
from bytewax.connectors.kafka import (  # type: ignore[import-not-found,unused-ignore]
    KafkaSink,
    KafkaSinkMessage,
    KafkaSource,
)
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found,unused-ignore]

from benchmarks.bus.work import work
from events.catalogue import DEAD_LETTER, INGRESS

_BROKERS = [os.environ["BOOTSTRAP"]]


def routed(message: Any) -> Any:
    """Return the message to write."""
    topic, key, value = work(message.value, message.key)
    return KafkaSinkMessage(key, value, topic=topic)


flow = Dataflow("router")
_source = KafkaSource(
    _BROKERS,
    [INGRESS],
    batch_size=1000,
    starting_offset=int(os.environ["STARTING_OFFSET"]),
    add_config={"fetch.queue.backoff.ms": "5", "fetch.wait.max.ms": "100"},
)
_options = {
    "linger.ms": "1",
    "queue.buffering.max.messages": "500000",
    "partitioner": "murmur2_random",
    "enable.idempotence": "true",
}
op.output(
    "out", op.map("route", op.input("in", flow, _source), routed), KafkaSink(_BROKERS, DEAD_LETTER, add_config=_options)
)
