"""The transactional mode: readers of committed records see each event once, whatever was killed.

On a broker of this module's own: a router of another test, in the same group, would write outside of transactions.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from events.catalogue import DEAD_LETTER, INGRESS, SAGAS
from events.codec import encode
from resources.kafka import KafkaResource
from tests.integration.router.bus import (
    STEP,
    Broker,
    Reader,
    all_there,
    committed,
    in_order,
    producer,
    router,
    write,
)

pytestmark = pytest.mark.embedded

COUNT = 12_000


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    life = broker.run()
    next(life)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    # Smaller than what ingress takes, so that the broker refuses a record in mid-transaction.
    admin.create_topics([NewTopic(SAGAS, 3, 1, config={"max.message.bytes": "50000"})])[SAGAS].result(10)
    KafkaResource(bootstrap=broker.bootstrap).ensure_topics()
    yield broker.bootstrap
    life.close()


def test_kills_neither_lose_nor_double_what_committed_readers_see(own: str, tmp_path: Path) -> None:
    source, rng, in_flight = f"/tx/{time.time_ns()}", random.Random(5), 0
    settings = {"router_transactional": "true", "router_instance": "tx-1"}
    write(producer(own), source, range(COUNT))
    for turn in range(3):
        with router(own, tmp_path, **settings) as victim:
            enough, deadline = rng.uniform(0.1, 0.25) * COUNT, time.monotonic() + 60
            while victim.metric("delivered_total") < enough:
                assert time.monotonic() < deadline, f"turn {turn}: the router does not come on"
            done, written = committed(own, INGRESS)
            victim.process.send_signal(signal.SIGKILL)
            victim.process.wait()
            in_flight += done < written
    reader = Reader(own, isolation_level="read_committed")
    with router(own, tmp_path, **settings):
        found = all_there(source, COUNT, reader)
    assert in_flight == 3, "the router was done before it was killed"
    assert found.total() == COUNT, "an event stands there twice"
    assert in_order(reader.records, source)
    reader.close()


def test_a_router_that_was_held_up_goes_on(own: str, tmp_path: Path) -> None:
    """Its transaction is aborted and its partitions are taken: nobody else has its name, so it begins anew."""
    source = f"/held/{time.time_ns()}"
    to = producer(own)
    reader = Reader(own, isolation_level="read_committed")
    with router(own, tmp_path, router_transactional="true", router_instance="held") as held:
        write(to, source, range(COUNT))
        while held.metric("delivered_total") == 0:
            time.sleep(0.01)
        held.process.send_signal(signal.SIGSTOP)
        time.sleep(13)  # a transaction may take 10 s, a member be silent for 6
        held.process.send_signal(signal.SIGCONT)
        found = all_there(source, COUNT, reader)
        assert held.process.poll() is None
    assert found.total() == COUNT
    assert in_order(reader.records, source)
    reader.close()


def test_what_the_broker_refuses_in_a_transaction_is_a_dead_letter_and_holds_nothing_up(
    own: str, tmp_path: Path
) -> None:
    source = f"/tx/{time.time_ns()}"
    to = producer(own)
    for number in range(200):
        extensions = {f"x{at}": "x" * 4000 for at in range(14)} if number % 50 == 7 else {}
        value = encode("isthmus.saga.step", STEP, subject=source, source=source, id=str(number), extensions=extensions)
        to.produce(INGRESS, value, source, headers=[("number", str(number))])
    to.flush(10)
    reader = Reader(own, isolation_level="read_committed")
    with router(own, tmp_path, router_transactional="true", router_instance="tx-1"):
        records = reader.until(
            lambda all_: sum((record.key or b"").startswith(source.encode()) for record in all_) >= 200
        )
    reader.close()
    own_records = [record for record in records if (record.key or b"").startswith(source.encode())]
    assert sorted(int(record.header("number")) for record in own_records) == list(range(200))
    refused = [record for record in own_records if record.topic == DEAD_LETTER]
    assert [int(record.header("number")) for record in refused] == [7, 57, 107, 157]
    assert {record.header("isthmus-reason") for record in refused} == {"refused-by-broker"}


@pytest.mark.parametrize("transactional", ["true", "false"])
def test_of_two_routers_of_one_name_the_first_ends_and_says_why(own: str, tmp_path: Path, transactional: str) -> None:
    settings = {"router_transactional": transactional, "router_instance": "twin"}
    with router(own, tmp_path, **settings) as first, router(own, tmp_path, **settings) as second:
        source = f"/twin/{time.time_ns()}"
        write(producer(own), source, range(100))
        assert first.process.wait(60) == 1
        assert "'twin'" in first.log.read_text()
        assert "ISTHMUS_ROUTER_INSTANCE" in first.log.read_text()
        assert second.process.poll() is None
        reader = Reader(own, isolation_level="read_committed")
        all_there(source, 100, reader)
        reader.close()
