"""faust-streaming, the same work: ``BOOTSTRAP=… GROUP=… python -m benchmarks.bus.faust_app``."""

from __future__ import annotations

import os
import sys
from typing import Any

import faust  # type: ignore[import-not-found,unused-ignore]  # in an environment of its own

from benchmarks.bus.work import work
from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS

app = faust.App(
    os.environ["GROUP"],
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    value_serializer="raw",
    key_serializer="raw",
    topic_disable_leader=True,
    broker_commit_interval=1.0,
    consumer_auto_offset_reset="earliest",
    producer_linger_ms=0,
    producer_acks=-1,
    datadir=os.environ["FOLDER"],
    web_enabled=False,
    stream_buffer_maxsize=16384,
)
_topics = {name: app.topic(name, value_type=bytes, key_type=bytes) for name in (*DOMAIN_TOPICS, DEAD_LETTER)}


@app.agent(app.topic(INGRESS, value_type=bytes, key_type=bytes))  # type: ignore[untyped-decorator,unused-ignore]
async def router(stream: Any) -> None:
    """Route each event."""
    async for event in stream.events():
        topic, key, value = work(event.value, event.key)
        await _topics[topic].send(key=key, value=value)


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "error"]
    app.main()
