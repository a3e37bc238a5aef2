"""What a run of faults left on the broker, and what follows: lost, doubled, out of order, in flight at a kill.

What belongs here: snapshots of offsets and the reading of all that was written, by clients that the router does not
use. What does not: the faults (``faults``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
from tests.load.bench import until
from tests.load.router.traffic import KEYS, Traffic

GROUP: Final = "isthmus-router"
OUTPUTS: Final = (*DOMAIN_TOPICS, DEAD_LETTER)

Place = tuple[str, int]


@dataclass(slots=True)
class Snapshot:
    """Offsets right after a kill: what the group had committed, and where the topics ended (uncommitted included)."""

    committed: dict[int, int]
    ends: dict[Place, int]


class Broker:
    """Offsets, asked of the broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        options = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500}
        self._options = options
        self._admin = AdminClient(options)
        # Not read_committed: such a one waits for a killed router's transaction to be ended by its successor.
        self._asker = Consumer({**options, "group.id": GROUP, "isolation.level": "read_uncommitted"})
        topics = self._admin.list_topics(timeout=30).topics
        self.outputs = [(topic, number) for topic in OUTPUTS for number in topics[topic].partitions]
        self._ingress = [(INGRESS, number) for number in topics[INGRESS].partitions]

    def ends(self, places: list[Place]) -> dict[Place, int]:
        """Return the next offset of each, records of open transactions included; waits for a broker that starts."""
        return until(lambda: self._ends(places), "the broker answers", seconds=60)  # type: ignore[no-any-return]

    def _ends(self, places: list[Place]) -> dict[Place, int] | None:
        futures = self._admin.list_offsets(
            {TopicPartition(*place): OffsetSpec.latest() for place in places},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=10,
        )
        try:
            return {(at.topic, at.partition): future.result().offset for at, future in futures.items()}
        except KafkaException:
            # After a restart librdkafka asks with the leader's old epoch until it looks again, minutes later.
            self._admin = AdminClient(self._options)
            return None

    def committed(self) -> dict[int, int]:
        """Return the group's offset of each partition of ingress; 0 where it has none."""
        answer = self._asker.committed([TopicPartition(*place) for place in self._ingress], timeout=10)
        return {at.partition: max(0, at.offset) for at in answer}

    def snapshot(self) -> Snapshot:
        """Return both. Ends first, so that a commit on its way makes fewer records count as in flight, never more."""
        ends = self.ends(self.outputs)
        return Snapshot(self.committed(), ends)

    def lag(self) -> int:
        """Return how many offsets of ingress are not committed."""
        committed, ends = self.committed(), self.ends(self._ingress)
        return sum(end - committed[number] for (_, number), end in ends.items())

    def written(self) -> int:
        """Return the sum of the output topics' ends: it rises when a router works."""
        return sum(self.ends(self.outputs).values())

    def close(self) -> None:
        self._asker.close()


@dataclass(slots=True)
class Verdict:
    """What is wrong; nothing is what should be."""

    sent: int = 0
    ids: int = 0
    dead: int = 0
    written: int = 0
    repeated: int = 0
    lost: list[int] = field(default_factory=list)
    made_up: list[str] = field(default_factory=list)
    misplaced: list[int] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every event is there, once by id, in its place and order."""
        return not (self.lost or self.made_up or self.misplaced or self.disorder)


def judge(broker: Broker, traffic: Traffic, begin: dict[Place, int], kills: list[Snapshot]) -> Verdict:
    """Compare what was written since ``begin`` with what was sent, and say what was in flight at each kill."""
    verdict = Verdict(sent=len(traffic.ref), ids=len({ref for ref in traffic.ref if ref >= 0}))
    times = np.zeros(verdict.sent, np.int32)
    last: dict[int, int] = {}
    seen = np.zeros(verdict.sent, np.bool_)
    for message, number in _records(broker, traffic, begin, "read_committed"):
        times[number] += 1
        verdict.written += 1
        dead = message.topic() == DEAD_LETTER
        verdict.dead += dead
        if dead != (traffic.ref[number] < 0):
            verdict.misplaced.append(number)
        if dead:
            continue
        ref = int(orjson.loads(message.value())["id"])
        if ref != traffic.ref[number]:
            verdict.made_up.append(f"record {number} came out with id {ref}")
        elif not seen[ref]:
            seen[ref] = True
            if last.get(ref % KEYS, -1) > ref:
                verdict.disorder.append(f"key {ref % KEYS}: {ref} after {last[ref % KEYS]}")
            last[ref % KEYS] = ref
    verdict.lost = np.flatnonzero(times == 0).tolist()
    verdict.repeated = int((times - 1).clip(min=0).sum())
    if int(seen.sum()) != verdict.ids:
        verdict.made_up.append(f"{int(seen.sum())} ids came out, {verdict.ids} were sent")
    verdict.in_flight = _in_flight(broker, traffic, begin, kills)
    return verdict


def _in_flight(broker: Broker, traffic: Traffic, begin: dict[Place, int], kills: list[Snapshot]) -> list[int]:
    """Return of each kill how many records the killed life had written beyond the group's commit.

    They stand in the output topics between the previous kill's ends and this one's; what a transaction did not commit
    stands there too.
    """
    if not kills:
        return []
    rows: dict[Place, list[tuple[int, int]]] = {place: [] for place in broker.outputs}
    for message, number in _records(broker, traffic, begin, "read_uncommitted"):
        rows[message.topic(), message.partition()].append((message.offset(), number))
    partitions, offsets = np.array(traffic.partition), np.array(traffic.offset)
    columns = {place: np.array(found, np.int64).reshape(-1, 2) for place, found in rows.items()}
    counts, previous = [], begin
    for kill in kills:
        committed = np.array([kill.committed[number] for number in sorted(kill.committed)])
        count = 0
        for place, column in columns.items():
            first, last = np.searchsorted(column[:, 0], [previous[place], kill.ends[place]])
            numbers = column[first:last, 1]
            count += int((offsets[numbers] >= committed[partitions[numbers]]).sum())
        counts.append(count)
        previous = kill.ends
    return counts


def _records(broker: Broker, traffic: Traffic, begin: dict[Place, int], isolation: str) -> Iterator[tuple[Any, int]]:
    """Yield (record, its number) of this traffic in the output topics from ``begin`` to their ends."""
    left = {place: end for place, end in broker.ends(broker.outputs).items() if end > begin[place]}
    run = traffic.run.encode()
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": f"judge-{secrets.token_hex(4)}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )
    try:
        consumer.assign([TopicPartition(*place, begin[place]) for place in left])
        while left:
            messages = consumer.consume(10_000, timeout=0.2)
            for message in messages:
                place = (message.topic(), message.partition())
                if message.error() is not None:
                    # The end of a partition, transaction markers and all; another error is one of ours.
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    left.pop(place, None)
                    continue
                headers = dict(message.headers() or ())
                if headers.get("run") == run:
                    yield message, int(headers["number"])
    finally:
        consumer.close()
