"""``python -m benchmarks.bus.quix BOOTSTRAP GROUP``: the same work in Quix Streams (runs in its own environment)."""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found,unused-ignore]  # in an environment of its own
from quixstreams.models import Serializer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.bus.work import work
from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS


class ValueOfRouted(Serializer):  # type: ignore[misc]  # untyped here
    """The bytes of what :func:`work` returned."""

    def __call__(self, routed: Any, ctx: Any) -> bytes:
        """Return them."""
        value: bytes = routed[2]
        return value


def main(bootstrap: str, group: str) -> None:
    """Route until killed."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        consumer_poll_timeout=0.1,
        auto_create_topics=False,
        loglevel=None,
        producer_extra_config={
            "linger.ms": 1,
            "queue.buffering.max.messages": 500_000,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        },
        consumer_extra_config={"fetch.queue.backoff.ms": 5, "fetch.wait.max.ms": 100},
    )
    topics = {
        name: app.topic(name, value_serializer=ValueOfRouted(), key_serializer="bytes")
        for name in (*DOMAIN_TOPICS, DEAD_LETTER)
    }
    stream = app.dataframe(app.topic(INGRESS, value_deserializer="bytes", key_deserializer="bytes"))
    stream = stream.apply(lambda value, key, _at, _headers: work(value, key), metadata=True)
    stream.to_topic(lambda routed, _key, _at, _headers: topics[routed[0]], key=lambda routed: routed[1])
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
