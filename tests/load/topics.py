"""``python -m tests.load.topics``: the platform's topics, empty, on the broker of the settings.

On a real Kafka they are deleted first: the address in ISTHMUS_TEST_KAFKA is a test server's, and an exactness run
counts every record that stands there.
"""

from __future__ import annotations

import time

from events.catalogue import TOPICS
from resources.kafka import KafkaResource


def main() -> None:
    """Delete and create."""
    kafka = KafkaResource()
    there = list(kafka.topics(TOPICS))
    if there:
        for future in kafka.admin().delete_topics(there, operation_timeout=30).values():
            future.result(30)
        deadline = time.monotonic() + 30
        while kafka.topics(TOPICS) and time.monotonic() < deadline:
            time.sleep(0.2)
    # A broker may take a moment to forget a name that it just deleted.
    for _ in range(20):
        kafka.ensure_topics()
        if len(kafka.topics(TOPICS)) == len(TOPICS):
            return
        time.sleep(0.5)
    raise SystemExit("the topics cannot be made")


if __name__ == "__main__":
    main()
