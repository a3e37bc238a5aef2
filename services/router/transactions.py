"""The transactional mode: what is written and the offsets that it was read at become visible together, or not at all.

What belongs here: when a transaction begins and ends, and what its failures mean. What does not: the loop.

Readers of committed records (``read_committed``) see each event once, whatever was killed meanwhile: what a killed
router had written is aborted, and read again. The price is latency: an event is visible when its transaction ends.

An aborted transaction takes everything with it, so what the broker refuses of one record would come again and again.
Such a record is remembered beyond the clients' life (:attr:`Work.condemned`) and goes to the dead letters next time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from services.router.clients import TRANSACTION_OPTIONS, Clients, ClientsFailed, Fenced, name_of
from services.router.health import Health
from services.router.outlet import SMALL_PART_BYTES, Outlet
from services.router.progress import Batch
from services.router.pump import Pump
from services.router.refusals import RefusalLog
from services.router.routing import Headers, Refused, Routed

log = logging.getLogger("isthmus.router")

SECONDS: Final = 0.05
"""How long a transaction stays open to take more in: each costs the broker a round trip a topic and a marker each."""
_PATIENCE: Final = 10.0
_NEWS: Final = 5.0


class TransactionalOutlet(Outlet):
    """Sends within the transaction that the pump has opened."""

    part_bytes = SMALL_PART_BYTES  # a part that is refused would abort the transaction

    def __init__(
        self, producer: Producer, health: Health, refusals: RefusalLog, condemned: dict[tuple[int, int], str]
    ) -> None:
        super().__init__(producer, health, refusals)
        self._condemned = condemned

    def refuse_late(self, message: Any, batch: Batch, detail: str) -> None:
        """Remember the record: this transaction is lost, and the next one writes a dead letter."""
        self._condemned[message.partition(), message.offset()] = detail
        self.failure = detail


class TransactionalPump(Pump):
    """A pump whose commits are transactions."""

    def _make_outlet(self, clients: Clients) -> Outlet:
        name = f"isthmus-router-{clients.instance or uuid4()}"
        producer = clients.producer({**clients.producer_options(), **TRANSACTION_OPTIONS, "transactional.id": name})
        self._begun: float | None = None
        self._taken: dict[tuple[str, int], int] = {}
        try:
            # Ends what a killed router of the same name left open.
            producer.init_transactions(_PATIENCE)
        except KafkaException as error:
            raise ClientsFailed(name_of(error.args[0])) from None
        return TransactionalOutlet(producer, self._health, RefusalLog(log), self._work.condemned)

    def _take(self, messages: list[Any]) -> Batch:
        if self._begun is None:
            self._outlet.producer.begin_transaction()
            self._begun = time.monotonic()
        batch = super()._take(messages)
        self._taken.update(batch.offsets)
        return batch

    def _fate(self, message: Any, headers: Headers | None, stamp: float, marks: list[float] | None) -> Routed | Refused:
        condemned = self._work.condemned
        if condemned and (detail := condemned.get((message.partition(), message.offset()))) is not None:
            return Refused("refused-by-broker", detail)
        return super()._fate(message, headers, stamp, marks)

    def _commit(self, *, wait: bool = False) -> None:
        if self._begun is None or not (wait or time.monotonic() - self._begun >= SECONDS):
            return
        producer = self._outlet.producer
        if self._outlet.flush(_PATIENCE):
            raise ClientsFailed("records of a transaction were not acknowledged")
        if self._outlet.failure:
            raise ClientsFailed(self._outlet.failure)
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._taken.items()]
        members = self._consumer.consumer_group_metadata()
        self._through(lambda: producer.send_offsets_to_transaction(offsets, members, _PATIENCE))
        self._through(lambda: producer.commit_transaction(_PATIENCE))
        self._begun, self._taken = None, {}
        self._progress.delivered()
        self._work.condemned.clear()
        self._metrics.commits += 1

    @staticmethod
    def _through(call: Callable[[], Any]) -> None:
        """Make ``call``, as often as the client says that it may succeed the next time."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                call()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise ClientsFailed(name_of(error.args[0])) from None

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        super()._on_lost(consumer, partitions)
        if self._begun is not None:
            # Another router reads them already: what was written of them must not be committed here.
            self._failure = ClientsFailed("partitions of an open transaction were lost")

    def _close(self) -> None:
        if self._begun is not None:
            try:
                self._outlet.producer.purge(in_queue=True, in_flight=True, blocking=False)
                self._outlet.producer.abort_transaction(1)
            except KafkaException as error:
                log.info("the open transaction is left to the broker to abort: %s", name_of(error.args[0]))
                self._hear_of_a_twin()
            self._begun = None  # closing the consumer gives its partitions back, which would commit
        super()._close()
        if isinstance(self._failure, Fenced):
            # What was seen first may only have been a consequence: records that could not be delivered.
            raise self._failure

    def _hear_of_a_twin(self) -> None:
        """Wait for the group to say whether another router has this one's name.

        A producer's epoch ends where another has its name, and where a transaction stayed open for too long, since the
        process was held up, say. The broker says the same of both; but of another router the group tells the consumer,
        within a heartbeat or two. In the latter case this one may go on.
        """
        deadline = time.monotonic() + _NEWS
        while time.monotonic() < deadline and not isinstance(self._failure, Fenced):
            self._without_errors(self._consumer.consume(1, 0.2))  # a record that comes is read again
            self._health.turned()
