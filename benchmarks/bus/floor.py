"""``python -m benchmarks.bus.floor BOOTSTRAP GROUP``: consume and produce, nothing between: what no router can beat.

The router's own client options, no validation, one topic out, offsets committed whether acknowledged or not.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from confluent_kafka import Consumer, Producer

from events.catalogue import INGRESS, SAGAS
from services.router.clients import CONSUMER_OPTIONS, PRODUCER_OPTIONS
from services.router.pump import MAX_BATCH


def main(bootstrap: str, group: str) -> None:
    """Pass records on until killed."""
    common: dict[str, Any] = {"bootstrap.servers": bootstrap}
    consumer = Consumer({**CONSUMER_OPTIONS, **common, "group.id": group})
    producer = Producer({**PRODUCER_OPTIONS, **common, "delivery.report.only.error": True})
    consumer.subscribe([INGRESS])
    committed = time.monotonic()
    while True:
        messages = consumer.consume(1, 0.5)
        if messages:
            messages += consumer.consume(MAX_BATCH - 1, 0)
            for message in messages:
                while True:
                    try:
                        producer.produce(SAGAS, message.value(), message.key())
                        break
                    except BufferError:
                        producer.poll(0.05)
            producer.poll(0)
            if time.monotonic() - committed > 0.5:
                consumer.store_offsets(message=messages[-1])
                consumer.commit(asynchronous=True)
                committed = time.monotonic()


if __name__ == "__main__":
    main(*sys.argv[1:])
