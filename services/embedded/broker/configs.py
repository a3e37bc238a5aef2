"""Topic settings that this broker knows, with Kafka's names and, where a laptop allows, Kafka's defaults.

What belongs here: names, defaults, checks. What does not: where the settings of a topic are kept (``topics``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.embedded.broker.errors import BrokerError, Code

Check = Callable[[str], bool]


def _number(low: int) -> Check:
    def check(value: str) -> bool:
        try:
            return low <= int(value) < 1 << 63
        except ValueError:
            return False

    return check


def _one_of(*values: str) -> Check:
    return lambda value: value in values


# name → (default, check). Segments are 64 MiB, not 1 GiB: retention removes whole segments, and a laptop is small.
KNOWN: dict[str, tuple[str, Check]] = {
    "cleanup.policy": ("delete", _one_of("delete")),
    "compression.type": ("producer", _one_of("producer")),
    "max.message.bytes": ("1048588", _number(0)),
    "message.timestamp.after.max.ms": ("3600000", _number(0)),
    "message.timestamp.type": ("CreateTime", _one_of("CreateTime", "LogAppendTime")),
    "min.insync.replicas": ("1", _one_of("1")),
    "retention.bytes": ("-1", _number(-1)),
    "retention.ms": ("604800000", _number(-1)),
    "segment.bytes": ("67108864", _number(1024)),
    "segment.ms": ("604800000", _number(1)),
}
REASONS = {
    "cleanup.policy": "this broker deletes, it does not compact; use Apache Kafka for compacted topics",
    "compression.type": "this broker keeps batches as their producer compressed them",
    "min.insync.replicas": "there is one broker",
}


def validate(settings: Mapping[str, str]) -> None:
    """Raise :class:`BrokerError` for a name or a value that this broker does not take."""
    for name, value in settings.items():
        if name not in KNOWN:
            raise BrokerError(Code.INVALID_CONFIG, f"Unknown topic config name: {name}")
        if not KNOWN[name][1](value):
            reason = REASONS.get(name, "out of range")
            raise BrokerError(Code.INVALID_CONFIG, f"Invalid value {value} for configuration {name}: {reason}")


class TopicConfig:
    """One topic's settings, parsed; :meth:`change` replaces them while logs hold on to this object."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.change(settings or {})

    def change(self, settings: Mapping[str, str]) -> None:
        """Take these settings, the defaults for all others; raises :class:`BrokerError` and changes nothing."""
        validate(settings)
        self.own = dict(settings)
        self.max_message_bytes = int(self.value("max.message.bytes"))
        self.append_time = self.value("message.timestamp.type") == "LogAppendTime"
        self.timestamp_after_max_ms = int(self.value("message.timestamp.after.max.ms"))
        self.retention_bytes = int(self.value("retention.bytes"))
        self.retention_ms = int(self.value("retention.ms"))
        self.segment_bytes = int(self.value("segment.bytes"))
        self.segment_ms = int(self.value("segment.ms"))

    def value(self, name: str) -> str:
        """Return a setting's value as text."""
        return self.own.get(name, KNOWN[name][0])
