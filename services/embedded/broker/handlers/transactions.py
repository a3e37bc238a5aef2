"""Idempotent and transactional producers."""

from __future__ import annotations

from services.embedded.broker.core import Broker
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.groups import Group
from services.embedded.broker.handlers import Context, by_topic, partitions
from services.embedded.broker.handlers.groups import commits
from services.embedded.broker.transactions import Transaction
from services.embedded.broker.wire import Message


def _transaction(broker: Broker, request: Message) -> Transaction:
    return broker.transactions.get(request["transactional_id"], request["producer_id"], request["producer_epoch"])


async def init_producer_id(broker: Broker, request: Message, context: Context) -> Message | None:
    """Give a producer its id and epoch; a predecessor with the same transactional id is fenced."""
    try:
        producer_id, epoch = broker.transactions.initialise(
            request["transactional_id"],
            request["transaction_timeout_ms"],
            request["producer_id"],
            request["producer_epoch"],
        )
        await broker.secure_state()
    except BrokerError as problem:
        return {"error_code": problem.code}
    return {"producer_id": producer_id, "producer_epoch": epoch}


async def add_partitions_to_txn(broker: Broker, request: Message, context: Context) -> Message | None:
    """Take the partitions that a transaction will write."""
    wanted = {(topic["name"], index) for topic in request["topics"] for index in topic["partitions"]}
    unknown = {one for one in wanted if broker.topics.log(*one) is None}
    code = Code.NONE
    try:
        transaction = _transaction(broker, request)
        if not unknown:
            broker.transactions.add(transaction, wanted)
            await broker.secure_state()
    except BrokerError as problem:
        code, unknown = problem.code, set()
    results = [
        (topic, {"index": index, "error_code": Code.UNKNOWN_TOPIC_OR_PARTITION if (topic, index) in unknown else code})
        for topic, index in sorted(wanted)
    ]
    return {"topics": by_topic(results)}


async def add_offsets_to_txn(broker: Broker, request: Message, context: Context) -> Message | None:
    """Announce that a group's offsets will be part of the transaction; they come with the next request."""
    try:
        broker.transactions.add(_transaction(broker, request), offsets=(request["group_id"], {}))
    except BrokerError as problem:
        return {"error_code": problem.code}
    return {}


async def txn_offset_commit(broker: Broker, request: Message, context: Context) -> Message | None:
    """Take offsets that count when the transaction commits."""
    listed = partitions(request)
    code = Code.NONE
    try:
        transaction = _transaction(broker, request)
        if request["member_id"] or request["generation_id"] >= 0:
            name = request["group_id"]
            group = broker.groups.all.get(name) or Group(name)
            group.allow_commit(request["member_id"], request["generation_id"], request["group_instance_id"])
        every = {(topic, part["index"]) for topic, part in listed}
        broker.transactions.add(transaction, offsets=(request["group_id"], dict(commits(listed, every))))
    except BrokerError as problem:
        code = problem.code
    return {"topics": by_topic([(topic, {"index": part["index"], "error_code": code}) for topic, part in listed])}


async def end_txn(broker: Broker, request: Message, context: Context) -> Message | None:
    """Commit or abort."""
    try:
        broker.transactions.end(_transaction(broker, request), commit=request["committed"])
        await broker.secure(list(broker.topics.logs()))
        await broker.secure_state()
    except BrokerError as problem:
        return {"error_code": problem.code}
    return {}
