"""Consumer groups and their committed offsets."""

from __future__ import annotations

from services.embedded.broker.core import NODE_ID, Broker
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.groups import Group, JoinRequest, State
from services.embedded.broker.handlers import Context, by_topic, partitions
from services.embedded.broker.offsets import Committed
from services.embedded.broker.wire import Message

KNOWN_ID_FROM = 4  # JoinGroup version from which a client first gets its id and then joins with it
LONGEST_NOTE = 4096  # bytes of metadata in a commit (Kafka: offset.metadata.max.bytes)


async def find_coordinator(broker: Broker, request: Message, context: Context) -> Message | None:
    """Name the coordinator of a group or transactional id: there is one broker."""
    return {"node_id": NODE_ID, "host": broker.options.host, "port": broker.options.port, "error_message": None}


async def join_group(broker: Broker, request: Message, context: Context) -> Message | None:
    """Join a group; answered when the group's next generation is complete."""
    rebalance_ms = request["rebalance_timeout_ms"]
    try:
        joined = await broker.groups.get(request["group_id"]).join(
            JoinRequest(
                member_id=request["member_id"],
                instance=request["group_instance_id"],
                client=context.client_id,
                session_timeout=request["session_timeout_ms"] / 1000,
                rebalance_timeout=(rebalance_ms if rebalance_ms >= 0 else request["session_timeout_ms"]) / 1000,
                protocol_type=request["protocol_type"],
                protocols=[(one["name"], bytes(one["metadata"])) for one in request["protocols"]],
                needs_known_id=context.version >= KNOWN_ID_FROM,
            )
        )
    except BrokerError as problem:
        given = problem.text if problem.code == Code.MEMBER_ID_REQUIRED else request["member_id"]
        return {"error_code": problem.code, "protocol_name": "", "member_id": given or ""}
    return {
        "generation_id": joined.generation,
        "protocol_type": joined.protocol_type,
        "protocol_name": joined.protocol,
        "leader": joined.leader,
        "member_id": joined.member_id,
        "members": [
            {"member_id": one.id, "group_instance_id": one.instance, "metadata": one.metadata(joined.protocol)}
            for one in joined.members
        ],
    }


def _known(broker: Broker, name: str) -> Group:
    if not name:
        raise BrokerError(Code.INVALID_GROUP_ID)
    group = broker.groups.all.get(name)
    if group is None:
        raise BrokerError(Code.UNKNOWN_MEMBER_ID)
    return group


async def sync_group(broker: Broker, request: Message, context: Context) -> Message | None:
    """Take the leader's assignments; return the member's own."""
    assignments = [(one["member_id"], bytes(one["assignment"])) for one in request["assignments"]]
    try:
        group = _known(broker, request["group_id"])
        mine = await group.sync(
            request["member_id"], request["generation_id"], request["group_instance_id"], assignments
        )
    except BrokerError as problem:
        return {"error_code": problem.code}
    return {"assignment": mine}


async def heartbeat(broker: Broker, request: Message, context: Context) -> Message | None:
    """Keep a member's session."""
    try:
        group = _known(broker, request["group_id"])
        group.heartbeat(request["member_id"], request["generation_id"], request["group_instance_id"])
    except BrokerError as problem:
        return {"error_code": problem.code}
    return {}


async def leave_group(broker: Broker, request: Message, context: Context) -> Message | None:
    """Remove one member (old versions), or several by id or instance."""
    single = context.version < 3
    leaving = [{"member_id": request["member_id"], "group_instance_id": None}] if single else request["members"]
    results = []
    for one in leaving:
        code = Code.NONE
        try:
            _known(broker, request["group_id"]).leave(one["member_id"], one["group_instance_id"])
        except BrokerError as problem:
            code = problem.code
        results.append({**one, "error_code": code})
    return {"error_code": results[0]["error_code"]} if single else {"members": results}


async def offset_commit(broker: Broker, request: Message, context: Context) -> Message | None:
    """Remember a group's offsets."""
    name = request["group_id"]
    listed = partitions(request)
    code = Code.NONE
    try:
        group = broker.groups.all.get(name) or Group(name)
        group.allow_commit(request["member_id"], request["generation_id"], request["group_instance_id"])
        good = {(topic, part["index"]) for topic, part in listed if broker.topics.log(topic, part["index"])}
        broker.offsets.commit(name, commits(listed, good))
        await broker.secure_state()
    except BrokerError as problem:
        code = problem.code
        good = {(topic, part["index"]) for topic, part in listed}
    results = [
        (topic, {
            "index": part["index"],
            "error_code": code if (topic, part["index"]) in good else Code.UNKNOWN_TOPIC_OR_PARTITION,
        })
        for topic, part in listed
    ]  # fmt: skip
    return {"topics": by_topic(results)}


def commits(listed: list[tuple[str, Message]], good: set[tuple[str, int]]) -> list[tuple[tuple[str, int], Committed]]:
    """Return the offsets of a commit request, of the partitions in ``good``."""
    return [
        (
            (topic, part["index"]),
            Committed(part["offset"], part["leader_epoch"], (part["metadata"] or "")[:LONGEST_NOTE]),
        )
        for topic, part in listed
        if (topic, part["index"]) in good
    ]


async def offset_fetch(broker: Broker, request: Message, context: Context) -> Message | None:
    """Return a group's offsets, all of them where no topics are named."""
    name = request["group_id"]
    table = broker.offsets.of(name)
    if request["topics"] is None:
        wanted = list(table)
    else:
        wanted = [(topic["name"], index) for topic in request["topics"] for index in topic["partitions"]]
    results = []
    for topic, index in wanted:
        result: Message = {"index": index, "metadata": ""}
        if request["require_stable"] and broker.transactions.undecided(name, (topic, index)):
            result["error_code"] = Code.UNSTABLE_OFFSET_COMMIT
        elif found := table.get((topic, index)):
            result |= {"offset": found.offset, "leader_epoch": found.leader_epoch, "metadata": found.metadata}
        results.append((topic, result))
    return {"topics": by_topic(results)}


def _names(broker: Broker) -> list[str]:
    return list(dict.fromkeys([*broker.groups.all, *broker.offsets.groups()]))


async def list_groups(broker: Broker, request: Message, context: Context) -> Message | None:
    """List groups with members or offsets."""
    groups = [broker.groups.all.get(name) or Group(name) for name in _names(broker)]
    return {
        "groups": [
            {"group_id": one.name, "protocol_type": one.protocol_type, "state": one.state}
            for one in groups
            if not request["states"] or one.state in request["states"]
        ]
    }


async def describe_groups(broker: Broker, request: Message, context: Context) -> Message | None:
    """Describe groups with their members; an unknown one is dead, as in Kafka."""
    known = set(_names(broker))
    described = []
    for name in request["groups"]:
        group = broker.groups.all.get(name) or Group(name)
        described.append(
            {
                "group_id": name,
                "state": group.state if name in known else State.DEAD,
                "protocol_type": group.protocol_type,
                "protocol": group.protocol,
                "members": [
                    {
                        "member_id": one.id,
                        "group_instance_id": one.instance,
                        "client_id": one.client,
                        "client_host": "/127.0.0.1",
                        "metadata": one.metadata(group.protocol),
                        "assignment": one.assignment,
                    }
                    for one in group.members.values()
                ],
            }
        )
    return {"groups": described}


async def delete_groups(broker: Broker, request: Message, context: Context) -> Message | None:
    """Delete groups without members, with their offsets."""
    results = []
    for name in request["groups"]:
        code = Code.NONE
        known = name in _names(broker)
        try:
            broker.groups.delete(name)
            broker.offsets.delete(name)
        except BrokerError as problem:
            code = problem.code
        results.append({"group_id": name, "error_code": code if known else Code.GROUP_ID_NOT_FOUND})
    return {"results": results}


async def offset_delete(broker: Broker, request: Message, context: Context) -> Message | None:
    """Forget a group's offsets of some partitions; not while the group has members."""
    name = request["group_id"]
    if name not in _names(broker):
        return {"error_code": Code.GROUP_ID_NOT_FOUND}
    listed = partitions(request)
    group = broker.groups.all.get(name)
    code = Code.GROUP_SUBSCRIBED_TO_TOPIC if group and group.members else Code.NONE
    if not code:
        try:
            broker.offsets.delete(name, [(topic, part["index"]) for topic, part in listed])
        except BrokerError as problem:
            return {"error_code": problem.code}
    return {"topics": by_topic([(topic, {"index": part["index"], "error_code": code}) for topic, part in listed])}
