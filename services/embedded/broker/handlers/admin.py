"""Administration: topics, partitions, records, configurations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from services.embedded.broker.configs import KNOWN
from services.embedded.broker.core import NODE_ID, Broker
from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.handlers import Context, by_topic, partitions
from services.embedded.broker.wire import Message

TOPIC, BROKER = 2, 4  # resource types
SET, DELETE = 0, 1  # operations of an incremental change
FROM_TOPIC, FROM_FILE, FROM_DEFAULT = 1, 4, 5  # where a setting's value comes from


def _attempt(action: Callable[[], object]) -> Message:
    try:
        action()
    except BrokerError as problem:
        return {"error_code": problem.code, "error_message": problem.text}
    return {"error_code": Code.NONE, "error_message": None}


async def create_topics(broker: Broker, request: Message, context: Context) -> Message | None:
    """Create topics, each with its own result."""

    def create(one: Message) -> None:
        if one["replication_factor"] not in (-1, 1):
            raise BrokerError(Code.INVALID_REPLICATION_FACTOR, "there is one broker: the replication factor is 1")
        count = len(one["assignments"]) or one["num_partitions"]
        settings = {config["name"]: config["value"] or "" for config in one["configs"]}
        partitions_wanted = broker.options.partitions if count == -1 else count
        broker.topics.create(one["name"], partitions_wanted, settings, dry=request["validate_only"])

    return {"topics": [{"name": one["name"], **_attempt(partial(create, one))} for one in request["topics"]]}


async def delete_topics(broker: Broker, request: Message, context: Context) -> Message | None:
    """Delete topics with their records and the offsets that groups committed on them."""

    def delete(name: str) -> None:
        broker.topics.delete(name)
        broker.offsets.delete_topic(name)

    return {"topics": [{"name": name, **_attempt(partial(delete, name))} for name in request["names"]]}


async def create_partitions(broker: Broker, request: Message, context: Context) -> Message | None:
    """Give topics more partitions."""
    dry = request["validate_only"]
    return {
        "results": [
            {
                "name": one["name"],
                **_attempt(partial(broker.topics.add_partitions, one["name"], one["count"], dry=dry)),
            }
            for one in request["topics"]
        ]
    }


async def delete_records(broker: Broker, request: Message, context: Context) -> Message | None:
    """Hide the records before an offset for good."""
    results = []
    for name, part in partitions(request):
        log = broker.topics.log(name, part["index"])
        result: Message = {"index": part["index"]}
        try:
            if log is None:
                raise BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION)
            result["low_watermark"] = log.delete_before(part["offset"])
        except BrokerError as problem:
            result["error_code"] = problem.code
        results.append((name, result))
    return {"topics": by_topic(results)}


def _broker_settings(broker: Broker) -> dict[str, str]:
    return {
        "auto.create.topics.enable": str(broker.options.auto_create).lower(),
        "num.partitions": str(broker.options.partitions),
        **{f"log.{name}": KNOWN[name][0] for name in ("cleanup.policy", "retention.bytes", "retention.ms")},
        "message.max.bytes": KNOWN["max.message.bytes"][0],
    }


async def describe_configs(broker: Broker, request: Message, context: Context) -> Message | None:
    """Return the settings of topics and of the broker."""
    return {"results": [_describe(broker, one) for one in request["resources"]]}


def _describe(broker: Broker, resource: Message) -> Message:
    result: Message = {"type": resource["type"], "name": resource["name"], "error_message": None}
    if resource["type"] == BROKER and resource["name"] in ("", str(NODE_ID)):
        listed = [(name, value, FROM_FILE) for name, value in _broker_settings(broker).items()]
    elif resource["type"] == TOPIC:
        topic = broker.topics.all.get(resource["name"])
        if topic is None:
            return result | {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION}
        own = topic.config.own
        listed = [(name, topic.config.value(name), FROM_TOPIC if name in own else FROM_DEFAULT) for name in KNOWN]
    else:
        return result | {"error_code": Code.INVALID_REQUEST, "error_message": "topics and the one broker have settings"}
    keys = resource["keys"]
    result["configs"] = [
        {
            "name": name,
            "value": value,
            "read_only": resource["type"] == BROKER,
            "is_default": source == FROM_DEFAULT,
            "source": source,
        }
        for name, value, source in listed
        if not keys or name in keys
    ]
    return result


async def alter_configs(broker: Broker, request: Message, context: Context) -> Message | None:
    """Replace all of a topic's own settings."""
    return _alter(broker, request, lambda own, one: own.__setitem__(one["name"], one["value"] or ""), keep=False)


async def incremental_alter_configs(broker: Broker, request: Message, context: Context) -> Message | None:
    """Change some of a topic's own settings."""

    def change(own: dict[str, str], one: Message) -> None:
        if one["operation"] == DELETE:
            own.pop(one["name"], None)
        elif one["operation"] == SET:
            own[one["name"]] = one["value"] or ""
        else:
            raise BrokerError(Code.INVALID_CONFIG, "no setting here is a list")

    return _alter(broker, request, change, keep=True)


def _alter(
    broker: Broker, request: Message, change: Callable[[dict[str, str], Message], None], *, keep: bool
) -> Message:
    def alter(resource: Message) -> None:
        if resource["type"] != TOPIC:
            raise BrokerError(Code.INVALID_REQUEST, "only topics have settings that can be changed")
        own = dict(broker.topics.get(resource["name"]).config.own) if keep else {}
        for one in resource["configs"]:
            change(own, one)
        broker.topics.configure(resource["name"], own, dry=request["validate_only"])

    return {
        "resources": [
            {"type": one["type"], "name": one["name"], **_attempt(partial(alter, one))} for one in request["resources"]
        ]
    }
