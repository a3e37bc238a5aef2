"""The two clients: their options, and what their errors mean.

What belongs here: configuration of librdkafka. What does not: the loop over the clients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

log = logging.getLogger("isthmus.router")

GROUP: Final = "isthmus-router"

CONSUMER_OPTIONS: Final[dict[str, Any]] = {
    "group.id": GROUP,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # When a router comes or goes, the others keep what they have and go on with it.
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 65536,
    # A killed router's partitions are free after this; Kafka's brokers allow no less.
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 2000,
    # A request that a broker took with it when it restarted is given up, and sent anew, after this and not after a
    # minute: without its committed offsets a partition stands still.
    "socket.timeout.ms": 10_000,
    # Longer than any wait for a full queue: to lose the partitions then would only make duplicates.
    "max.poll.interval.ms": 1_800_000,
}
PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    # Without it librdkafka's thread is woken for each record, which doubles the cost of one when there are many.
    "linger.ms": 1,
    # Never give up on a record because time has passed: its offset is not committed before.
    "message.timeout.ms": 0,
    "socket.timeout.ms": 10_000,
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 262_144,
    # A whole dead letter must fit. Batches stay below the topics' limits by batch.size, so that a record that is too
    # large is refused alone and not with its neighbours.
    "message.max.bytes": 16_777_216,
    "batch.size": 1_000_000,
}
TRANSACTION_OPTIONS: Final[dict[str, Any]] = {
    # What a killed router left open keeps readers of committed records waiting for so long, at most.
    "transaction.timeout.ms": 10_000,
    "message.timeout.ms": 10_000,  # never above the transaction's
    "socket.timeout.ms": 9_000,  # below the transaction's
}

# What a broker says of a record rather than of itself: such a record goes to the dead letters, all else is tried again.
RECORD_ERRORS: Final = frozenset({"MSG_SIZE_TOO_LARGE", "INVALID_RECORD", "INVALID_MSG", "POLICY_VIOLATION"})


class ClientsFailed(Exception):
    """The clients cannot go on; made anew they begin again at the last commit."""


class Fenced(Exception):
    """Another router runs under the same instance name; this one must end."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Makes the two clients out of librdkafka options, to which it adds servers and security.

    ``instance``: the router's name in its group, where it has one. It gets its partitions back when it comes again
    within the session's time, without a rebalance, and it is what the broker knows its transactions by.
    """

    consumer: Callable[[dict[str, Any]], Consumer]
    producer: Callable[[dict[str, Any]], Producer]
    instance: str = ""
    batch_bytes: int = 1_000_000
    """Largest batch that every topic takes."""

    def producer_options(self) -> dict[str, Any]:
        """Return the producer's options."""
        return {**PRODUCER_OPTIONS, "batch.size": min(self.batch_bytes, PRODUCER_OPTIONS["batch.size"])}

    def membership(self) -> dict[str, Any]:
        """Return the consumer's options of static membership."""
        return {"group.instance.id": self.instance} if self.instance else {}


def close_within(consumer: Consumer, seconds: float) -> None:
    """Close ``consumer``; leave it behind where that takes longer than ``seconds``.

    The client waits until its last commit is answered, and a broker that hangs does not answer. It is then closed
    whenever the broker comes back; what it still commits is at worst older than its successor's commit, and what is
    read again has the same ids.
    """
    closing = Thread(target=_close, args=(consumer,), name="consumer-close", daemon=True)
    closing.start()
    closing.join(seconds)
    if closing.is_alive():
        log.warning("the consumer was not closed within %g s, it waits for the broker; left behind", seconds)


def _close(consumer: Consumer) -> None:
    try:
        consumer.close()
    except KafkaException as error:
        log.warning("closing the consumer failed: %s", name_of(error.args[0]))


def name_of(error: object) -> str:
    """Return an error's name and its sentence."""
    return f"{error.name()}: {error.str()}"  # type: ignore[attr-defined]  # a KafkaError, of an untyped library


def failure(error: Any) -> Exception:
    """Return what an error of a client means for the loop."""
    # Another process acts under the same name: who goes on would throw the other out, and be thrown out again.
    # A consumer says of a fatal error only that it is one; which, stands in its sentence.
    if error.name() == "FENCED_INSTANCE_ID" or (error.name() == "_FATAL" and "consumer fenced" in error.str()):
        return Fenced(name_of(error))
    return ClientsFailed(name_of(error))
