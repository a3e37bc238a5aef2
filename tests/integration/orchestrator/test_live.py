"""The advice service beside HTTP: its stream, its Redis keys, and each of its neighbours killed under load.

On Apache Kafka where there is one, else on an embedded broker; the warehouse is the embedded one, Redis a real one
where the machine has it. What has nothing to do with the broker runs on the embedded one only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.catalogue import ADVICE
from events.validation import validate
from resources.decisions import DecisionStore
from resources.kafka import KafkaResource
from resources.migrate import migrate
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running
from tests.integration.orchestrator.live import Asking, Kafka, Redis, Traffic, advised, right
from tests.integration.orchestrator.test_service import TOKEN, Warehouse, until
from tests.integration.orchestrator.world import decision
from tests.integration.router.bus import Reader

KEYS = {"isthmus:policy:order:reserve:inventory", "isthmus:policy:order:charge:payment"}


class World:
    """Everything that the service talks to, and the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse, self.kafka, self.redis = Warehouse(folder), Kafka(folder / "broker"), Redis.found(folder)
        self.decisions: list[str] = []
        self.port = free_port()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20)
        self._warehouse: Any = None
        self._service: Any = None
        self.processes: dict[str, Any] = {}

    def start_warehouse(self) -> None:
        self._warehouse = self.warehouse.running()
        self.processes["warehouse"] = self._warehouse.__enter__()

    def start_service(self) -> None:
        env = {
            "ISTHMUS_HOME": str(self.folder),
            "ISTHMUS_ORCHESTRATOR_PORT": str(self.port),
            "ISTHMUS_ADVICE_TOKENS": f'{{"tests": "{TOKEN}"}}',
            "ISTHMUS_ADVICE_REFRESH_SECONDS": "0.2",
            "ISTHMUS_ADVICE_INSTANCE": "tests-live",
            "ISTHMUS_WAREHOUSE_URL": self.warehouse.url,
            "ISTHMUS_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
        }
        if self.redis is not None:
            env["ISTHMUS_REDIS_URL"] = self.redis.url
        self._service = running("services.orchestrator", log=self.folder / "orchestrator.log", env=env)
        self.processes["service"] = self._service.__enter__()

    def kill(self, name: str) -> None:
        if name == "broker":
            self.kafka.kill()
        elif name == "redis":
            self.needs_redis().send(signal.SIGKILL)
        else:
            self.processes[name].kill()
            self.processes[name].wait()

    def start(self, name: str) -> None:
        {
            "broker": self.kafka.start,
            "redis": lambda: self.needs_redis().start(),
            "warehouse": self.start_warehouse,
            "service": self.start_service,
        }[name]()

    def needs_redis(self) -> Redis:
        if self.redis is None:
            pytest.skip("redis-server is not on PATH")
        return self.redis

    def problems(self) -> dict[str, str]:
        found: dict[str, str] = self.client.get("/ready").json()["problems"]
        return found

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        prefix = f"isthmus_orchestrator_{name}"
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == prefix)

    def publish(self) -> None:
        store = DecisionStore(
            WarehouseResource(url=self.warehouse.url), bus=KafkaResource(bootstrap=self.kafka.bootstrap)
        )
        recorded = store.record(decision("order"), allowed=True)
        self.decisions.append(str(store.publish(recorded.decision_id).decision_id))

    def close(self) -> None:
        self.client.close()
        for context in (self._service, self._warehouse):
            if context is not None:
                context.__exit__(None, None, None)
        self.kafka.stop()
        if self.redis is not None:
            self.redis.send(signal.SIGTERM)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("live"))
    try:
        if made.redis is not None:
            made.redis.start()
        made.start_warehouse()
        made.kafka.start()
        KafkaResource(bootstrap=made.kafka.bootstrap).ensure_topics()
        migrate(WarehouseResource(url=made.warehouse.url))
        made.publish()
        made.start_service()
        until(lambda: made.problems() == {}, 120)
        yield made
    finally:
        made.close()


def advice_of(reader: Reader, saga: str, trigger: str) -> dict[str, Any]:
    """Return the first advice of a trigger for a saga, once it is there."""

    def found() -> list[dict[str, Any]]:
        events = [validate(one.value or b"") for one in reader.records if one.key == saga.encode()]
        return [one.data for one in events if one.data["trigger"] == trigger]

    reader.until(lambda _: bool(found()))
    return found()[0]


def test_a_failed_step_a_new_policy_and_the_load_come_from_the_stream(world: World) -> None:
    traffic, reader = Traffic(world.kafka.bootstrap, f"calm-{time.time_ns()}"), Reader(world.kafka.bootstrap, (ADVICE,))
    sagas = [f"{traffic.name}-{number}" for number in range(3)]
    until(lambda: world.metric("stream_lag") == 0)
    skipped = world.metric("stream_skipped_total")
    others = world.metric("stream_sagas")  # of tests before this one, on a broker that they share
    for saga in sagas:
        traffic.begin(saga)
        traffic.step(saga, "started", number=1)
    traffic.raw(b"\xff not an event 4711")
    traffic.flush()

    def timeout() -> float:
        body = {"saga_id": "x", "started_at": "2026-05-04T12:00:00Z"}
        steps = world.client.post("/v1/sagas/order/advice", json=body).json()["steps"]
        return float(next(one["timeout_ms"] for one in steps if one["step"] == "charge"))

    until(lambda: timeout() == 500 + 3 * 50)
    traffic.step(sagas[0], "failed", number=2)
    traffic.flush()
    said = advice_of(reader, sagas[0], "failed_step")
    assert (said["action"], said["decision_id"], said["defaults"]) == (
        *("retry", world.decisions[-1]),
        ["model: no champion"],
    )
    until(lambda: timeout() == 500 + 2 * 50)

    world.publish()
    for saga in sagas:
        assert advice_of(reader, saga, "policy")["decision_id"] == world.decisions[-1]
    assert world.metric("stream_skipped_total") == skipped + 1
    assert world.metric("stream_sagas") == others + 3
    assert "4711" not in (world.folder / "orchestrator.log").read_text()
    for saga in sagas:
        traffic.end(saga)
    traffic.flush()
    until(lambda: world.metric("stream_sagas") == others and world.metric("stream_lag") == 0)
    reader.close()


@pytest.mark.embedded
def test_the_policies_stand_in_redis(world: World) -> None:
    redis = world.needs_redis()
    until(lambda: {one["decision_id"] for one in redis.all().values()} == {world.decisions[-1]})
    assert redis.all().keys() == KEYS
    world.publish()
    until(lambda: {one["decision_id"] for one in redis.all().values()} == {world.decisions[-1]})
    charge = redis.all()["isthmus:policy:order:charge:payment"]
    assert (charge["timeout_ms"], charge["attempts"], charge["stale"]) == ("850.0", "3", "0")
    assert world.metric("redis_keys") == 2


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("warehouse", marks=pytest.mark.embedded),
        pytest.param("redis", marks=pytest.mark.embedded),
        "broker",
    ],
)
def test_a_neighbour_killed_under_load_makes_no_answer_wrong(world: World, victim: str) -> None:
    if victim == "redis":
        world.needs_redis()
    traffic = Traffic(world.kafka.bootstrap, f"{victim}-{time.time_ns()}")
    reader, asking = Reader(world.kafka.bootstrap, (ADVICE,)), Asking(world.client)

    with asking.going_on():
        traffic.until(lambda: len(traffic.failed) > 20)
        world.kill(victim)
        traffic.until(lambda: victim in world.problems())
        asking.more(50)
        world.start(victim)
        traffic.until(lambda: world.problems() == {})
        asking.more(20)
    assert asking.errors == []
    assert {status for status, _ in asking.answers} == {200}
    wrong = [said for _, said in asking.answers if not right(said, set(world.decisions[-1:]))]
    assert wrong == []
    assert not any("policy" in one for _, said in asking.answers for one in said["defaults"]), "what was known stays"

    traffic.flush()
    reader.until(lambda _: traffic.failed <= advised(reader, traffic).keys())
    assert {one.data["decision_id"] for said in advised(reader, traffic).values() for one in said} == {
        world.decisions[-1]
    }
    if world.redis is not None:
        assert world.redis.all().keys() == KEYS, "also what Redis had lost is there again"
    reader.close()


@pytest.mark.embedded
def test_a_broker_and_a_redis_that_hang_hold_up_no_answer(world: World) -> None:
    asking = Asking(world.client)
    stopped: dict[str, Kafka | Redis] = {"broker": world.kafka}
    if world.redis is not None:
        stopped["redis"] = world.redis
    with asking.going_on():
        for one in stopped.values():
            one.send(signal.SIGSTOP)
        try:
            until(lambda: world.problems().keys() == stopped.keys())
            asking.more(50)
        finally:
            for one in stopped.values():
                one.send(signal.SIGCONT)
        until(lambda: world.problems() == {})
    assert asking.errors == []
    assert all(status == 200 and right(said, set(world.decisions[-1:])) for status, said in asking.answers)


@pytest.mark.embedded
def test_the_service_killed_under_load_loses_no_advice_and_answers_right_again(world: World) -> None:
    traffic = Traffic(world.kafka.bootstrap, f"service-{time.time_ns()}")
    reader, asking = Reader(world.kafka.bootstrap, (ADVICE,)), Asking(world.client)
    held = f"{traffic.name}-held"
    traffic.begin(held)
    traffic.step(held, "started", number=1)
    traffic.step(held, "failed", number=2)

    with asking.going_on():
        traffic.until(lambda: world.metric("stream_events_total") > 200)
        asking.more(10)
        world.kill("service")
        before = len(asking.answers)
        traffic.until(lambda: len(asking.errors) > 3)
        world.start("service")
        asking.more(50)
        traffic.until(lambda: world.problems() == {})
        asking.more(20)
    assert {status for status, _ in asking.answers} == {200}
    assert [said for _, said in asking.answers if not right(said, set(world.decisions[-1:]))] == []
    assert len(asking.answers) > before

    # What runs is known again: the third attempt is the last one.
    traffic.step(held, "failed", number=3, attempt=2)
    traffic.end(held)
    traffic.flush()
    reader.until(lambda _: traffic.failed <= advised(reader, traffic).keys())
    (said, *_) = advised(reader, traffic)[f"{held}/3"]
    assert [one["attempts_left"] for one in said.data["steps"] if one["step"] == "charge"] == [1]
    assert not any(one.startswith("saga:") for one in said.data["defaults"])
    assert world.metric("stream_read_back_total") > 0
    reader.close()
