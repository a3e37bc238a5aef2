"""Reading an exact range of one partition, column by column, and what its failures mean.

What belongs here: the loop over librdkafka that ends on position, and the translation of its errors. What does not:
clients and their configuration (``resources/kafka.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resources.errors import KafkaError, KafkaUnavailable, RangeGone

if TYPE_CHECKING:
    from confluent_kafka import Consumer


#: librdkafka's names for "what you ask for is not there (any more)".
GONE = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "OFFSET_OUT_OF_RANGE"})


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, a list per column, all of one length.

    ``appended_at`` is the broker's append time in ms since 1970, -1 where the record carries only its producer's.
    ``headers`` holds, by index, the headers of those records that have some.
    """

    offsets: list[int]
    appended_at: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: dict[int, list[tuple[str, bytes | None]]]


def read(
    reader: Consumer, at: tuple[str, int], offsets: tuple[int, int], *, batch: int, timeout: float
) -> Iterator[Records]:
    """Yield the records of ``offsets`` (first, end) of the (topic, partition) ``at``; see ``KafkaResource.read_range``.

    ``reader`` reports the ends of partitions and raises on an offset that is out of range.
    """
    from confluent_kafka import KafkaException, TopicPartition

    topic, partition = at
    from_offset, to_offset = offsets
    name = f"{topic}/{partition}"
    try:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout, cached=False)
        if from_offset < low:
            raise RangeGone(f"{name}: offset {from_offset} is gone, the log begins at {low}")
        if to_offset > high:
            raise RangeGone(f"{name}: offset {to_offset} is not there, the log ends at {high}: it was made anew or cut")
        reader.assign([TopicPartition(topic, partition, from_offset)])
        position, heard = from_offset, time.monotonic()
        while position < to_offset:
            # The short wait bounds what a range that ends in markers costs: consume() waits to fill its number.
            messages = reader.consume(min(batch, to_offset - position), 0.02)
            if not messages:
                if time.monotonic() - heard > timeout:
                    raise KafkaUnavailable(f"{name}: no record after offset {position} in {timeout:.0f} s")
                continue
            heard = time.monotonic()
            good = [message for message in messages if message.error() is None]
            ended = _end_of(name, messages, to_offset) if len(good) < len(messages) else False
            if good:
                records = _columns(good, to_offset)
                position = good[-1].offset() + 1
                if records.offsets:
                    yield records
            if ended:
                return
    except KafkaException as error:
        raise typed(error) from None


def _end_of(name: str, messages: list[Any], to_offset: int) -> bool:
    """Return whether an end-of-partition notice lies at or past the range's end; raise what the other errors mean."""
    for message in messages:
        error = message.error()
        if error is None:
            continue
        code = error.name()
        if code == "_PARTITION_EOF":
            if message.offset() >= to_offset:
                return True
            raise RangeGone(f"{name}: the log ends at {message.offset()}, before offset {to_offset}")
        if code in GONE or code == "_AUTO_OFFSET_RESET":
            raise RangeGone(f"{name}: {error.str()}")
        if error.fatal():
            raise KafkaError(f"{name}: {error.str()}")
    return False


def _columns(messages: list[Any], to_offset: int) -> Records:
    from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

    offsets = [message.offset() for message in messages]
    if offsets[-1] >= to_offset:
        keep = next(index for index, offset in enumerate(offsets) if offset >= to_offset)
        messages, offsets = messages[:keep], offsets[:keep]
    stamps = [message.timestamp() for message in messages]
    return Records(
        offsets,
        [at if kind == TIMESTAMP_LOG_APPEND_TIME else -1 for kind, at in stamps],
        [message.key() for message in messages],
        [message.value() for message in messages],
        {index: headers for index, message in enumerate(messages) if (headers := message.headers())},
    )


def typed(error: Any) -> KafkaError:
    """Return a ``KafkaException`` of librdkafka as ours: gone, unavailable or refused."""
    cause = error.args[0]
    text, name = cause.str() or str(cause), cause.name()
    if name in GONE:
        return RangeGone(text)
    if cause.retriable() or name in ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "REQUEST_TIMED_OUT"):
        return KafkaUnavailable(f"{name}: {text}")
    return KafkaError(f"{name}: {text}")
