"""Produce, fetch, offsets by time, metadata."""

from __future__ import annotations

import asyncio

from services.embedded.broker.core import NODE_ID, Broker
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.handlers import Context, by_topic, partitions
from services.embedded.broker.log import Log
from services.embedded.broker.records import HEADER, read_header
from services.embedded.broker.wire import Message

EARLIEST, LATEST, NEWEST_TIMESTAMP = -2, -1, -3
READ_COMMITTED = 1


class Rejected(ConnectionError):
    """A producer that asked for no answer is told of an error by closing its connection, as in Kafka."""


async def produce(broker: Broker, request: Message, context: Context) -> Message | None:
    """Append one batch per partition; every partition has its own result."""
    results: list[tuple[str, Message]] = []
    written: list[Log] = []
    for name, part in partitions(request):
        result: Message = {"index": part["index"]}
        try:
            log = _append(broker, request["transactional_id"], name, part, result)
            written.append(log)
        except BrokerError as problem:
            result["error_code"], result["error_message"] = problem.code, problem.text
        results.append((name, result))
    await broker.secure(written)
    if request["acks"] == 0:
        if len(written) < len(results):
            raise Rejected("a batch was refused")
        return None
    return {"topics": by_topic(results)}


def _append(broker: Broker, transactional_id: str | None, name: str, part: Message, result: Message) -> Log:
    log = broker.topics.log(name, part["index"])
    if log is None:
        raise BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION)
    data = part["records"]
    if data is not None and len(data) >= HEADER.size:
        batch = read_header(data)
        if batch.is_transactional:
            broker.transactions.allow(transactional_id, batch, (name, part["index"]))
    position = log.append(data)
    result["base_offset"], result["log_append_time_ms"] = position
    result["log_start_offset"] = log.start
    return log


async def fetch(broker: Broker, request: Message, context: Context) -> Message | None:
    """Return records; where there are fewer than ``min_bytes``, wait for more until ``max_wait_ms`` are over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + request["max_wait_ms"] / 1000
    response, ready = _collect(broker, request)
    if ready or loop.time() >= deadline:
        return response
    grown = asyncio.Event()
    logs = [log for name, part in partitions(request) if (log := broker.topics.log(name, part["index"]))]
    for log in logs:
        log.waiters.add(grown)
    try:
        while not ready and loop.time() < deadline:
            timer = loop.call_at(deadline, grown.set)
            await grown.wait()
            timer.cancel()
            grown.clear()
            response, ready = _collect(broker, request)
    finally:
        for log in logs:
            log.waiters.discard(grown)
    return response


def _collect(broker: Broker, request: Message) -> tuple[Message, bool]:
    """Return what there is now, and whether it should be sent at once: enough bytes, or an error."""
    committed = request["isolation_level"] == READ_COMMITTED
    room, size, urgent = request["max_bytes"], 0, False
    results = []
    for name, part in partitions(request):
        log, offset = broker.topics.log(name, part["index"]), part["fetch_offset"]
        result: Message = {"index": part["index"], "records": b"", "aborted": [] if committed else None}
        results.append((name, result))
        if log is None:
            result["error_code"], urgent = Code.UNKNOWN_TOPIC_OR_PARTITION, True
            continue
        result |= {"high_watermark": log.next, "last_stable_offset": log.stable, "log_start_offset": log.start}
        results[-1] = (name, result)
        if not log.start <= offset <= log.next:
            result["error_code"], urgent = Code.OFFSET_OUT_OF_RANGE, True
            continue
        if size and size >= room:
            continue
        try:
            data = log.read(offset, min(part["partition_max_bytes"], room - size), committed=committed)
        except OSError:
            result["error_code"], urgent = Code.KAFKA_STORAGE_ERROR, True
            continue
        size += len(data)
        result["records"] = data
        if committed and data:
            aborted = log.producers.aborted_between(offset, log.stable)
            result["aborted"] = [{"producer_id": one.producer_id, "first_offset": one.first_offset} for one in aborted]
    return {"topics": by_topic(results)}, urgent or size >= request["min_bytes"]


async def list_offsets(broker: Broker, request: Message, context: Context) -> Message | None:
    """Return an offset by time, or one of the log's ends."""
    results = []
    for name, part in partitions(request):
        log, wanted = broker.topics.log(name, part["index"]), part["timestamp"]
        result: Message = {"index": part["index"]}
        if log is None:
            result["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
        elif wanted == LATEST:
            result["offset"] = log.stable if request["isolation_level"] == READ_COMMITTED else log.next
        elif wanted == EARLIEST:
            result["offset"] = log.start
        elif wanted == NEWEST_TIMESTAMP:
            result["timestamp"], result["offset"] = log.newest_record()
        else:
            result["timestamp"], result["offset"] = log.offset_at(wanted)
        results.append((name, result))
    return {"topics": by_topic(results)}


async def metadata(broker: Broker, request: Message, context: Context) -> Message | None:
    """Describe the one broker and the topics asked for, creating unknown ones where client and broker allow it."""
    asked = request["topics"]
    if asked is None or (context.version == 0 and not asked):
        topics = [_describe(broker, name) for name in broker.topics.all]
    else:
        create = request["allow_auto_topic_creation"] and broker.options.auto_create
        topics = [_find(broker, one, create) for one in asked]
    return {
        "brokers": [{"node_id": NODE_ID, "host": broker.options.host, "port": broker.options.port, "rack": None}],
        "cluster_id": broker.topics.cluster_id,
        "controller_id": NODE_ID,
        "topics": topics,
    }


def _find(broker: Broker, asked: Message, create: bool) -> Message:
    name = asked["name"]
    if name is None:
        found = next((topic.name for topic in broker.topics.all.values() if topic.id == asked["topic_id"]), None)
        if found is None:
            return {"error_code": Code.UNKNOWN_TOPIC_ID, "topic_id": asked["topic_id"], "name": None}
        return _describe(broker, found)
    if name not in broker.topics.all:
        problem = BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION)
        if create:
            try:
                broker.topics.create(name, broker.options.partitions, {})
                return _describe(broker, name)
            except BrokerError as refused:
                problem = refused
        return {"error_code": problem.code, "name": name}
    return _describe(broker, name)


def _describe(broker: Broker, name: str) -> Message:
    topic = broker.topics.all[name]
    alone = [NODE_ID]
    parts = [
        {"index": index, "leader_id": NODE_ID, "replicas": alone, "isr": alone} for index in range(len(topic.logs))
    ]
    return {"name": name, "topic_id": topic.id, "partitions": parts}
