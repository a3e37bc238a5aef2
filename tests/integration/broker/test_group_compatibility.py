"""Consumer groups: what clients rely on, on the embedded broker and, by ``ISTHMUS_TEST_KAFKA``, on Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from tests.integration.broker.conftest import Kafka, collect, eventually, gather

STRATEGIES = ["range", "roundrobin", "cooperative-sticky"]


class Running:
    """A group member, polled by the test's own thread, and what was assigned to it and taken away."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self.consumer = consumer
        self.assigned: list[set[int]] = []
        self.revoked: list[set[int]] = []
        self.values: list[bytes] = []
        consumer.subscribe([topic], on_assign=self._note(self.assigned), on_revoke=self._note(self.revoked))

    @staticmethod
    def _note(to: list[set[int]]) -> Callable[[Consumer, list[TopicPartition]], None]:
        return lambda _, partitions: to.append({one.partition for one in partitions})

    def owned(self) -> set[int]:
        """Poll once, then tell the partitions that are assigned."""
        message = self.consumer.poll(0.05)
        if message is not None and not message.error():
            self.values.append(message.value())
        return {one.partition for one in self.consumer.assignment()}

    def stop(self) -> None:
        self.consumer.close()


@contextmanager
def members(kafka: Kafka, topic: str, group: str, *settings: dict[str, Any]) -> Iterator[list[Running]]:
    """Consumers of a group, one for each dictionary of settings; more may be appended."""
    base = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
    running = [Running(kafka.consumer(group, **base, **one), topic) for one in settings]
    try:
        yield running
    finally:
        for one in running:
            one.stop()


def shared(running: list[Running], count: int) -> bool:
    """Whether the members own all partitions, each one once."""
    owned = [one.owned() for one in running]
    return sum(map(len, owned)) == count and set().union(*owned) == set(range(count)) and all(owned)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_share_partitions_and_take_over_from_one_that_leaves(kafka: Kafka, strategy: str) -> None:
    topic, group = kafka.topic(4), kafka.unique("group")
    setting = {"partition_assignment_strategy": strategy}
    with members(kafka, topic, group, setting, setting) as running:
        eventually(lambda: shared(running, 4), "the partitions are not shared")
        for partition in range(4):
            kafka.send(topic, [b"%d" % partition], partition=partition)
        eventually(lambda: shared(running, 4) and sum(len(one.values) for one in running) == 4, "not all is read")
        assert sorted(value for one in running for value in one.values) == [b"0", b"1", b"2", b"3"]
        running.pop().stop()
        eventually(lambda: shared(running, 4), "nobody took over")


def test_cooperative_rebalance_takes_only_what_moves(kafka: Kafka) -> None:
    topic, group = kafka.topic(4), kafka.unique("group")
    setting = {"partition_assignment_strategy": "cooperative-sticky"}
    with members(kafka, topic, group, setting) as running:
        eventually(lambda: running[0].owned() == {0, 1, 2, 3}, "the first does not own all")
        base = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
        running.append(Running(kafka.consumer(group, **base, **setting), topic))
        eventually(lambda: shared(running, 4), "the partitions are not shared")
        moved = running[1].owned()
        assert running[0].revoked == [moved]
        assert len(moved) == 2


def test_a_static_member_comes_back_without_a_rebalance(kafka: Kafka) -> None:
    topic, group = kafka.topic(2), kafka.unique("group")
    settings = [{"group_instance_id": "one"}, {"group_instance_id": "two"}]
    with members(kafka, topic, group, *settings) as running:
        eventually(lambda: shared(running, 2), "the partitions are not shared")
        stays, leaves = running
        before, times = leaves.owned(), (len(stays.assigned), len(stays.revoked))
        leaves.stop()
        base = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
        running[1] = Running(kafka.consumer(group, **base, group_instance_id="two"), topic)
        eventually(lambda: running[1].owned() == before, "its partitions did not come back")
        # Several heartbeats later the other one has still not been disturbed.
        deadline = time.monotonic() + 0.9
        while time.monotonic() < deadline:
            assert len(stays.owned()) == 1
        assert (len(stays.assigned), len(stays.revoked)) == times


def test_a_second_member_with_the_same_instance_fences_the_first(kafka: Kafka) -> None:
    topic, group = kafka.topic(1), kafka.unique("group")
    first = kafka.consumer(group, group_instance_id="same", session_timeout_ms=6000, heartbeat_interval_ms=300)
    first.subscribe([topic])
    eventually(lambda: first.poll(0.1) is None and bool(first.assignment()), "the first joined nothing")
    second = kafka.consumer(group, group_instance_id="same", session_timeout_ms=6000, heartbeat_interval_ms=300)
    second.subscribe([topic])
    eventually(lambda: second.poll(0.1) is None and bool(second.assignment()), "the second joined nothing")

    def fenced() -> bool:
        message = first.poll(0.2)
        return message is not None and message.error().code() == KafkaError._FATAL

    eventually(fenced, "the first was not told")
    second.close()
    first.close()


def test_a_silent_member_loses_its_partitions(kafka: Kafka) -> None:
    topic, group = kafka.topic(2), kafka.unique("group")

    async def silence() -> None:
        settings = {"group_id": group, "session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
        async with kafka.aio_consumer(topic, **settings) as stays:
            dies = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, **settings)
            await dies.start()
            while len(stays.assignment()) != 1 or len(dies.assignment()) != 1:
                await asyncio.sleep(0.1)
            # No leave, no heartbeat: what a killed process looks like.
            await dies._client.close()
            for task in (dies._coordinator._coordination_task, dies._coordinator._heartbeat_task):
                if task is not None:
                    task.cancel()
            await asyncio.wait_for(_owns(stays, 2), 60)

    asyncio.run(silence())


async def _owns(consumer: AIOKafkaConsumer, count: int) -> None:
    while len(consumer.assignment()) != count:
        await asyncio.sleep(0.1)


def test_commits_are_found_again(kafka: Kafka) -> None:
    topic, group = kafka.topic(3), kafka.unique("group")
    for partition in range(3):
        kafka.send(topic, [b"x"] * 30, partition=partition)
    consumer = kafka.consumer(group)
    consumer.subscribe([topic])
    collect(consumer, 90)
    consumer.commit(asynchronous=False)
    consumer.commit(offsets=[TopicPartition(topic, 0, 5, "a note")], asynchronous=False)
    consumer.close()
    kafka.send(topic, [b"new"], partition=1)
    again = kafka.consumer(group)
    found = again.committed([TopicPartition(topic, partition) for partition in range(3)], timeout=30)
    assert [one.offset for one in found] == [5, 30, 30]
    assert found[0].metadata == "a note"
    again.subscribe([topic])
    assert sorted(one.value() for one in collect(again, 26)) == [b"new"] + [b"x"] * 25
    again.close()


def test_aiokafka_commits_and_resumes(kafka: Kafka) -> None:
    topic, group = kafka.topic(2), kafka.unique("group")
    kafka.send(topic, [b"x"] * 20, partition=1)

    async def resume() -> None:
        async with kafka.aio_consumer(topic, group_id=group) as consumer:
            await gather(consumer, 20)
            await consumer.commit({AioPartition(topic, 1): 12})
        async with kafka.aio_consumer(topic, group_id=group) as consumer:
            assert await consumer.committed(AioPartition(topic, 1)) == 12
            assert [one.offset for one in await gather(consumer, 8)] == list(range(12, 20))

    asyncio.run(resume())


def test_an_outsider_may_commit_only_for_a_group_without_members(kafka: Kafka) -> None:
    topic, group = kafka.topic(1), kafka.unique("group")
    outsider = kafka.consumer(group)
    outsider.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    with members(kafka, topic, group, {}) as running:
        eventually(lambda: running[0].owned() == {0}, "nothing assigned")
        with pytest.raises(KafkaException) as refused:
            outsider.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
        assert refused.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    found = outsider.committed([TopicPartition(topic, 0)], timeout=30)
    assert found[0].offset == 3
    outsider.close()


def test_groups_are_listed_described_and_deleted(kafka: Kafka) -> None:
    topic, group = kafka.topic(2), kafka.unique("group")
    with members(kafka, topic, group, {"client_id": "somebody"}) as running:
        eventually(lambda: len(running[0].owned()) == 2, "nothing assigned")
        running[0].consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
        listed = {one.group_id: one for one in kafka.admin.list_consumer_groups().result(30).valid}
        assert listed[group].state.name == "STABLE"
        described = kafka.admin.describe_consumer_groups([group])[group].result(30)
        (member,) = described.members
        assert member.client_id == "somebody"
        assert {one.partition for one in member.assignment.topic_partitions} == {0, 1}
        with pytest.raises(KafkaException) as refused:
            kafka.admin.delete_consumer_groups([group])[group].result(30)
        assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
    found = kafka.admin.list_consumer_group_offsets([asked])[group].result(30)
    assert [one.offset for one in found.topic_partitions] == [0]
    kafka.admin.delete_consumer_groups([group])[group].result(30)
    with pytest.raises(KafkaException) as refused:
        kafka.admin.delete_consumer_groups([group])[group].result(30)
    assert refused.value.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND


def test_offsets_of_a_deleted_topic_are_forgotten(kafka: Kafka) -> None:
    topic, group = kafka.topic(1), kafka.unique("group")
    consumer = kafka.consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    kafka.admin.delete_topics([topic])[topic].result(30)

    def forgotten() -> bool:
        asked = ConsumerGroupTopicPartitions(group)
        try:
            return not kafka.admin.list_consumer_group_offsets([asked])[group].result(30).topic_partitions
        except KafkaException:
            return True

    eventually(forgotten, "the offset is still there")
    consumer.close()
