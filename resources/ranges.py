"""Reading an exact range of one partition, column by column, and what its failures mean.

What belongs here: the loop over librdkafka that ends on position, and the translation of its errors. What does not:
clients and their configuration (``resources/kafka.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import ne
from typing import TYPE_CHECKING, Any, NamedTuple

from resources.errors import KafkaError, KafkaUnavailable, RangeGone

if TYPE_CHECKING:
    import numpy as np
    from confluent_kafka import Consumer
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


#: librdkafka's names for what a broker says that cannot answer now.
_SOON_OVER = frozenset(
    {
        *("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "REQUEST_TIMED_OUT"),
        # A broker that has just come back, or a topic that was just made: the error object does not call it retriable.
        *("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"),
    }
)
#: librdkafka's names for "what you ask for is not there (any more)".
GONE = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "OFFSET_OUT_OF_RANGE"})


#: Seconds of silence after which the broker is asked whether the topic is still there.
_ASK_AFTER = 1.0


class Span(NamedTuple):
    """Offsets ``[from_offset, to_offset)`` of one partition."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition by column, all columns of one length.

    ``offsets``, ``appended_at`` (the broker's append time in ms since 1970, -1 where the record carries only its
    producer's) and ``sizes`` (bytes of the value) are int64. A key or value that is null is empty. ``headers`` holds,
    by index, the headers of those records that have some.
    """

    offsets: Ints
    appended_at: Ints
    sizes: Ints
    keys: list[bytes]
    values: list[bytes]
    headers: dict[int, list[tuple[str, bytes | None]]]


def read(reader: Consumer, spans: Sequence[Span], *, batch: int, timeout: float) -> Iterator[tuple[int, Records]]:
    """Yield (position in ``spans``, records), all spans at once; see ``KafkaResource.read_ranges``.

    ``reader`` reports the ends of partitions and raises on an offset that is out of range. No two of ``spans`` lie in
    one partition.
    """
    from confluent_kafka import KafkaException, Message, TopicPartition

    open_spans = {(span.topic, span.partition): at for at, span in enumerate(spans)}
    try:
        reader.assign([TopicPartition(span.topic, span.partition, span.from_offset) for span in spans])
        heard, asked = time.monotonic(), _ASK_AFTER
        while open_spans:
            # The short wait bounds what a range that ends in markers costs: consume() waits to fill its number.
            messages = reader.consume(batch, 0.02)
            if not messages:
                waited = time.monotonic() - heard
                if waited > asked:
                    # librdkafka waits for a topic that was deleted, so the broker is asked.
                    asked = waited + _ASK_AFTER
                    _still_there(reader, open_spans)
                if waited > timeout:
                    waiting = ", ".join(f"{topic}/{partition}" for topic, partition in open_spans)
                    raise KafkaUnavailable(f"no record came from {waiting} in {timeout:.0f} s")
                continue
            heard, asked = time.monotonic(), _ASK_AFTER
            ended: list[tuple[str, int]] = []
            for partition, group in _by_partition(messages, len(spans)):
                at = open_spans.get(partition)
                if at is None:
                    # Of a span that is read to its end, fetched before the broker knew.
                    _raise_fatal(group)
                    continue
                errors = list(map(Message.error, group))
                good = group
                if any(errors):
                    good = [message for message, error in zip(group, errors, strict=True) if error is None]
                if good:
                    records = _columns(good, spans[at].to_offset)
                    if records.values:
                        yield at, records
                past = bool(good) and good[-1].offset() + 1 >= spans[at].to_offset
                if past or (len(good) < len(group) and _ends(spans[at], group)):
                    ended.append(partition)
                    del open_spans[partition]
            if ended and open_spans:
                reader.incremental_unassign([TopicPartition(*partition) for partition in ended])
    except KafkaException as error:
        raise typed(error) from None


def _by_partition(messages: list[Any], partitions: int) -> Iterator[tuple[tuple[str, int], list[Any]]]:
    """Yield the runs of ``messages`` that come from one partition; a fetch brings long ones."""
    if partitions == 1:
        yield (messages[0].topic(), messages[0].partition()), messages
        return
    import numpy as np
    from confluent_kafka import Message

    many = len(messages)
    topics = list(map(Message.topic, messages))
    numbers = list(map(Message.partition, messages))
    changes = np.fromiter(map(ne, numbers, islice(numbers, 1, None)), np.bool_, many - 1)
    if topics.count(topics[0]) < many:
        changes |= np.fromiter(map(ne, topics, islice(topics, 1, None)), np.bool_, many - 1)
    first = 0
    for last in [*(np.flatnonzero(changes) + 1).tolist(), many]:
        yield (topics[first], numbers[first]), messages[first:last]
        first = last


def _still_there(reader: Consumer, places: Iterable[tuple[str, int]]) -> None:
    from confluent_kafka import KafkaException

    for topic, partition in list(places):
        try:
            known = reader.list_topics(topic, timeout=1.0).topics[topic]
        except KafkaException:
            # Not answering now is what the time-out of the whole read is for.
            return
        if known.error is not None and known.error.name() in GONE:
            raise RangeGone(f"{topic}/{partition}: {known.error.str()}")


def _raise_fatal(messages: list[Any]) -> None:
    for message in messages:
        error = message.error()
        if error is not None and error.fatal():
            raise KafkaError(error.str())


def _ends(span: Span, messages: list[Any]) -> bool:
    """Return whether an end-of-partition notice lies at or past the span's end; raise what the other errors mean."""
    name = f"{span.topic}/{span.partition}"
    for message in messages:
        error = message.error()
        if error is None:
            continue
        code = error.name()
        if code == "_PARTITION_EOF":
            if message.offset() >= span.to_offset:
                return True
            raise RangeGone(
                f"{name}: the log ends at {message.offset()}, before offset {span.to_offset}: it was made anew or cut"
            )
        if code in GONE or code == "_AUTO_OFFSET_RESET":
            raise RangeGone(f"{name}: offset {span.from_offset} is not there: {error.str()}")
        if error.fatal():
            raise KafkaError(f"{name}: {error.str()}")
    return False


def _columns(messages: list[Any], to_offset: int) -> Records:
    # One pass a column, in C: a loop over the records would take longer than librdkafka's reading of them.
    import numpy as np
    from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

    first, last = messages[0].offset(), messages[-1].offset()
    if last - first == len(messages) - 1:
        # Offsets of one partition only grow: these have no hole.
        offsets = np.arange(first, last + 1, dtype=np.int64)
    else:
        offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
    if offsets[-1] >= to_offset:
        keep = int(offsets.searchsorted(to_offset))
        messages, offsets = messages[:keep], offsets[:keep]
    many = len(messages)
    stamps = np.fromiter(chain.from_iterable(map(Message.timestamp, messages)), np.int64, 2 * many)
    values = list(map(Message.value, messages))
    if not all(values):
        values = [value or b"" for value in values]
    keys = list(map(Message.key, messages))
    if not all(keys):
        keys = [key or b"" for key in keys]
    headers = list(map(Message.headers, messages))
    return Records(
        offsets,
        np.where(stamps[::2] == TIMESTAMP_LOG_APPEND_TIME, stamps[1::2], -1),
        np.fromiter(map(len, values), np.int64, many),
        keys,
        values,
        {index: some for index, some in enumerate(headers) if some} if any(headers) else {},
    )


def typed(error: Any) -> KafkaError:
    """Return a ``KafkaException`` of librdkafka as ours: gone, unavailable or refused."""
    cause = error.args[0]
    text, name = cause.str() or str(cause), cause.name()
    if name in GONE:
        return RangeGone(text)
    if cause.retriable() or name in _SOON_OVER:
        return KafkaUnavailable(f"{name}: {text}")
    return KafkaError(f"{name}: {text}")
