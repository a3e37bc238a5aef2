"""What one partition knows of its producers: sequence numbers, epochs, open and aborted transactions.

What belongs here: state that is a function of the batches in the log, so a restart rebuilds it from them. What does
not: transactional ids and time-outs (``transactions``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.records import Batch

REMEMBERED = 5  # a client has at most five batches in flight, so a repeat is one of the last five
EXPIRY_MS = 86_400_000  # a producer that was silent for a day is forgotten (Kafka: producer.id.expiration.ms)


class Appended(NamedTuple):
    """A batch that is in the log, as its producer knows it."""

    base_sequence: int
    last_sequence: int
    offset: int
    timestamp: int


class Aborted(NamedTuple):
    """An aborted transaction; a consumer that reads committed data leaves its records out."""

    producer_id: int
    first_offset: int
    marker_offset: int


@dataclass
class Producer:
    """One producer's state in one partition."""

    epoch: int
    next_sequence: int = 0
    last_timestamp: int = 0
    recent: deque[Appended] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Producers:
    """All producers of one partition."""

    def __init__(self) -> None:
        self._known: dict[int, Producer] = {}
        self.open: dict[int, int] = {}
        self.aborted: list[Aborted] = []

    def check(self, batch: Batch) -> Appended | None:
        """Return the earlier append that ``batch`` repeats, or None where it is the next one in order.

        Raises :class:`BrokerError`: a lower epoch is fenced, a gap in the sequence is out of order.
        """
        known = self._known.get(batch.producer_id)
        if known is None:
            return None  # first seen here, or its batches were deleted: any first sequence will do, as in Kafka
        if batch.producer_epoch < known.epoch:
            raise BrokerError(Code.INVALID_PRODUCER_EPOCH, f"epoch {batch.producer_epoch}, current {known.epoch}")
        if batch.producer_epoch > known.epoch:
            expected = 0
        else:
            for earlier in known.recent:
                if (earlier.base_sequence, earlier.last_sequence) == (batch.base_sequence, batch.last_sequence):
                    return earlier
            expected = known.next_sequence
        if batch.base_sequence != expected:
            text = f"sequence {batch.base_sequence}, expected {expected}"
            raise BrokerError(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, text)
        return None

    def note(self, batch: Batch, *, commit: bool = True) -> None:
        """Take in a batch that was appended (or read back at a restart); ``commit`` counts for markers only."""
        if batch.producer_id < 0:
            return
        known = self._known.get(batch.producer_id)
        if known is None or batch.producer_epoch > known.epoch:
            known = self._known[batch.producer_id] = Producer(batch.producer_epoch)
        known.last_timestamp = batch.max_timestamp
        if batch.is_control:
            first = self.open.pop(batch.producer_id, None)
            if first is not None and not commit:
                self.aborted.append(Aborted(batch.producer_id, first, batch.base_offset))
            return
        known.next_sequence = (batch.last_sequence + 1) & 0x7FFFFFFF
        known.recent.append(Appended(batch.base_sequence, batch.last_sequence, batch.base_offset, batch.max_timestamp))
        if batch.is_transactional:
            self.open.setdefault(batch.producer_id, batch.base_offset)

    def epoch_of(self, producer_id: int) -> int:
        """Return the highest epoch seen of a producer, 0 for one unknown."""
        known = self._known.get(producer_id)
        return known.epoch if known else 0

    def aborted_between(self, first: int, end: int) -> list[Aborted]:
        """Return the aborted transactions that have records in ``[first, end)``."""
        return [one for one in self.aborted if one.marker_offset >= first and one.first_offset < end]

    def forget(self, *, before_offset: int, silent_since: int) -> None:
        """Drop what deleted segments held, and producers silent since ``silent_since`` (ms) with nothing open."""
        self.aborted = [one for one in self.aborted if one.marker_offset >= before_offset]
        for producer_id in [
            key for key, one in self._known.items() if one.last_timestamp < silent_since and key not in self.open
        ]:
            del self._known[producer_id]
