"""Producer ids and transactions: who may write under a transactional id, and how a transaction ends everywhere.

What belongs here: the coordinator's state and its journal (``transactions.jsonl``). What does not: sequence numbers
and open transactions of a partition (``producers``), which the logs themselves tell.

The order that makes an end survive a kill at any moment: the outcome goes to the journal, then markers to the logs and
offsets to their table, then the end to the journal. A start that finds an outcome without an end does the middle again;
a marker is written only where the log still has the transaction open, so twice is once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.embedded.broker.errors import BrokerError, Code
from services.embedded.broker.journal import Journal
from services.embedded.broker.offsets import Committed, Offsets, Partition
from services.embedded.broker.records import Batch
from services.embedded.broker.topics import Topics

LONGEST_MS = 900_000  # Kafka: transaction.max.timeout.ms
LAST_EPOCH = 32_766
RESERVED_IDS = 1_000  # producer ids taken at once, so that a new producer costs no write


@dataclass
class Transaction:
    """A transactional id's state; ``outcome`` is "" while open, else "commit" or "abort" until its end is complete."""

    id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    partitions: set[Partition] = field(default_factory=set)
    offsets: dict[str, dict[Partition, Committed]] = field(default_factory=dict)
    outcome: str = ""
    timer: asyncio.TimerHandle | None = None

    @property
    def ongoing(self) -> bool:
        """Whether anything was added since the last end."""
        return bool(self.partitions or self.offsets)

    def entry(self) -> dict[str, Any]:
        """Return the state as a journal line."""
        offsets = {
            group: [(*partition, *committed) for partition, committed in table.items()]
            for group, table in self.offsets.items()
        }
        return {
            "id": self.id,
            "producer_id": self.producer_id,
            "epoch": self.epoch,
            "timeout_ms": self.timeout_ms,
            "partitions": sorted(self.partitions),
            "offsets": offsets,
            "outcome": self.outcome,
        }

    @classmethod
    def load(cls, line: dict[str, Any]) -> Transaction:
        """Return the state that a journal line holds."""
        offsets = {
            group: {(topic, index): Committed(*committed) for topic, index, *committed in rows}
            for group, rows in line.pop("offsets").items()
        }
        partitions = {(topic, index) for topic, index in line.pop("partitions")}
        return cls(partitions=partitions, offsets=offsets, **line)


class Transactions:
    """The coordinator of all transactional ids."""

    def __init__(self, folder: Path, topics: Topics, offsets: Offsets) -> None:
        self._topics = topics
        self._offsets = offsets
        self._next_id = self._reserved = 1
        self._all: dict[str, Transaction] = {}
        self.journal = Journal(folder / "transactions.jsonl", self._entries)
        for line in self.journal.replay():
            if "next_id" in line:
                self._next_id = self._reserved = line["next_id"]
            else:
                self._all[line["id"]] = Transaction.load(line)
        self._finish_interrupted()

    def _entries(self) -> Iterator[dict[str, Any]]:
        yield {"next_id": self._reserved}
        for transaction in self._all.values():
            yield transaction.entry()

    def _finish_interrupted(self) -> None:
        for transaction in self._all.values():
            if transaction.outcome:
                self._finish(transaction)
        known = {(one.producer_id, where) for one in self._all.values() for where in one.partitions}
        for topic in self._topics.all.values():
            for index, log in enumerate(topic.logs):
                for producer_id in list(log.producers.open):
                    # Open in the log, unknown to the journal (a line lost with the power): nobody else can end it.
                    if (producer_id, (topic.name, index)) not in known:
                        log.end_transaction(producer_id, log.producers.epoch_of(producer_id), commit=False)

    def start_timers(self) -> None:
        """Give the transactions that a restart found open their time from now; needs the running loop."""
        for transaction in self._all.values():
            if transaction.ongoing:
                self._start_timer(transaction)

    # ---- producer ids

    def new_producer_id(self) -> int:
        """Return an id that no producer had; raises :class:`BrokerError` where the disk refuses the reservation."""
        if self._next_id >= self._reserved:
            self.journal.write({"next_id": self._reserved + RESERVED_IDS})
            self._reserved += RESERVED_IDS
        self._next_id += 1
        return self._next_id - 1

    def initialise(self, name: str | None, timeout_ms: int, producer_id: int, epoch: int) -> tuple[int, int]:
        """Return (producer id, epoch) for a producer that starts, or that starts again after an error.

        An earlier producer of the same transactional id is fenced and its open transaction aborted. Raises
        :class:`BrokerError`.
        """
        if name is None:
            return self.new_producer_id(), 0
        if not name:
            raise BrokerError(Code.INVALID_REQUEST, "an empty transactional id")
        if not 0 < timeout_ms <= LONGEST_MS:
            raise BrokerError(Code.INVALID_TRANSACTION_TIMEOUT, f"1 to {LONGEST_MS} ms (transaction.max.timeout.ms)")
        transaction = self._all.get(name)
        if transaction is None:
            transaction = self._all[name] = Transaction(name, self.new_producer_id(), -1, timeout_ms)
        elif transaction.outcome:
            raise BrokerError(Code.CONCURRENT_TRANSACTIONS)
        elif producer_id >= 0 and (producer_id, epoch) != (transaction.producer_id, transaction.epoch):
            # The id and epoch of before: the producer's retry, whose first answer was lost, is not a stranger.
            if (producer_id, epoch) != (transaction.producer_id, transaction.epoch - 1):
                raise BrokerError(Code.INVALID_PRODUCER_EPOCH)
        elif transaction.ongoing:
            self.end(transaction, commit=False, bump=True)
        if transaction.epoch >= LAST_EPOCH:
            transaction.producer_id, transaction.epoch = self.new_producer_id(), -1
        transaction.epoch += 1
        transaction.timeout_ms = timeout_ms
        self.journal.write(transaction.entry())
        return transaction.producer_id, transaction.epoch

    # ---- a transaction's life

    def get(self, name: str, producer_id: int, epoch: int) -> Transaction:
        """Return the state behind a transactional id for its current producer, or raise :class:`BrokerError`."""
        transaction = self._all.get(name)
        if transaction is None or transaction.producer_id != producer_id:
            raise BrokerError(Code.INVALID_PRODUCER_ID_MAPPING)
        if transaction.epoch != epoch:
            raise BrokerError(Code.INVALID_PRODUCER_EPOCH, f"epoch {epoch}, current {transaction.epoch}")
        if transaction.outcome:
            raise BrokerError(Code.CONCURRENT_TRANSACTIONS)  # its end met a full disk and is being tried again
        return transaction

    def add(
        self,
        transaction: Transaction,
        partitions: set[Partition] = frozenset(),  # type: ignore[assignment]
        offsets: tuple[str, dict[Partition, Committed]] | None = None,
    ) -> None:
        """Take partitions that will be written, or a group's offsets that count with the commit."""
        new = bool(partitions - transaction.partitions)
        started = not transaction.ongoing
        transaction.partitions |= partitions
        if offsets is not None:
            transaction.offsets.setdefault(offsets[0], {}).update(offsets[1])
        if new or offsets is not None:
            self.journal.write(transaction.entry())
        if started:
            self._start_timer(transaction)

    def allow(self, name: str | None, batch: Batch, partition: Partition) -> None:
        """Raise :class:`BrokerError` for a transactional batch outside its producer's open transaction.

        Without this a batch that was long on its way could open a transaction that nobody ever ends.
        """
        transaction = self.get(name or "", batch.producer_id, batch.producer_epoch)
        if partition not in transaction.partitions:
            raise BrokerError(Code.INVALID_TXN_STATE, "the partition was not added to the transaction")

    def undecided(self, group: str, partition: Partition) -> bool:
        """Whether an open transaction holds an offset of this group and partition."""
        return any(partition in one.offsets.get(group, {}) for one in self._all.values())

    def end(self, transaction: Transaction, *, commit: bool, bump: bool = False) -> None:
        """Commit or abort; ``bump`` fences the producer as well. Raises :class:`BrokerError` on a full disk."""
        if transaction.timer:
            transaction.timer.cancel()
            transaction.timer = None
        transaction.outcome = "commit" if commit else "abort"
        transaction.epoch += bump
        self.journal.write(transaction.entry())
        self._finish(transaction)

    def _finish(self, transaction: Transaction) -> None:
        commit = transaction.outcome == "commit"
        for topic, index in sorted(transaction.partitions):
            if (log := self._topics.log(topic, index)) is not None:  # the topic may have been deleted meanwhile
                log.end_transaction(transaction.producer_id, transaction.epoch, commit=commit)
        if commit:
            for group, table in transaction.offsets.items():
                self._offsets.commit(group, table.items())
        transaction.partitions, transaction.offsets, transaction.outcome = set(), {}, ""
        self.journal.write(transaction.entry())

    def retry_interrupted(self) -> None:
        """Try again the ends that met a full disk."""
        for transaction in self._all.values():
            if transaction.outcome:
                with contextlib.suppress(BrokerError):
                    self._finish(transaction)

    def _start_timer(self, transaction: Transaction) -> None:
        seconds = transaction.timeout_ms / 1000
        transaction.timer = asyncio.get_running_loop().call_later(seconds, self._time_out, transaction)

    def _time_out(self, transaction: Transaction) -> None:
        if transaction.ongoing and not transaction.outcome:
            with contextlib.suppress(BrokerError):  # a full disk: the outcome stands, `retry_interrupted` writes it
                self.end(transaction, commit=False, bump=True)
