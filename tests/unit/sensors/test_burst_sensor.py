"""The burst sensor over several ticks: a real (ephemeral) Dagster instance, the bus and the ledger in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np

from events.codec import encode
from resources.fakes import FakeKafka, FakeLog, FakeWarehouse
from resources.settings import Settings
from sensors.bursts import FIRST_RECORDS, LANDING_WAIT, MOST_RECORDS, TOPIC, evaluate
from sensors.bursts.cursor import Cursor

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()


class World:
    """A bus that fills while the sensor sleeps, ``per_look`` sagas at a time, of which ``share`` go wrong."""

    def __init__(self, **settings: Any) -> None:
        self.bus, self.warehouse = FakeKafka(), FakeWarehouse()
        self.bus.logs = {(TOPIC, part): FakeLog() for part in range(2)}
        self.instance = dg.DagsterInstance.ephemeral()
        self.settings = Settings(**{"burst_poll_seconds": 10.0, **settings})
        self.cursor: str | None = None
        self.now, self.share, self.per_look, self.sagas = NOON, 0.1, 10, 0
        self.landed = False
        self.random = np.random.default_rng(1)
        self.read = 0
        self.warehouse.on("FROM raw.landings", lambda _: self._islands())
        whole = self.bus.read_ranges

        def counting(spans: Any, *, batch: int = 5000) -> Any:
            self.read = sum(span.to_offset - span.from_offset for span in spans)
            return whole(spans, batch=batch)

        self.bus.read_ranges = counting  # type: ignore[method-assign]

    def _islands(self) -> list[dict[str, Any]]:
        if not self.landed:
            return []
        return [
            {"topic": TOPIC, "partition": part, "generation": 0, "first": 0, "last": len(log.values)}
            for (_, part), log in self.bus.logs.items()
        ]

    def send(self, count: int, *, at: float | None = None) -> None:
        for _ in range(count):
            self.sagas += 1
            bad = self.random.random() < self.share
            data = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1}
            data |= {"status": "failed", "error": "ServiceUnavailable"} if bad else {"status": "completed"}
            when = datetime.fromtimestamp(at or self.now, UTC)
            value = encode("isthmus.saga.step", data, subject=f"saga-{self.sagas}", source="/test", time=when)
            self.bus.send(TOPIC, value, partition=self.sagas % 2)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.send(self.per_look)

    def tick(self) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = evaluate(
            context, self.bus, self.warehouse, settings=self.settings, clock=lambda: self.now, sleep=self.sleep
        )
        self.cursor = result.cursor
        self.now += 5
        return list(result.run_requests or [])


def test_a_burst_is_requested_once_then_its_policy_when_it_has_landed() -> None:
    world = World(burst_quiet_seconds=60.0)
    world.send(2000)
    for _ in range(3):
        assert not world.tick()
    world.share = 0.7
    began = world.now
    [wanted] = world.tick()
    assert world.now - began < 15  # of which five lie between two ticks
    assert wanted.job_name == "saga_burst"
    assert str(wanted.run_key).startswith("saga_burst/")
    assert wanted.tags["isthmus/reason"].startswith("failure burst")
    config: Any = wanted.run_config["ops"]["ops__saga_bursts"]["config"]
    assert config["burst_id"] == wanted.run_key
    assert sum(one["to_offset"] - one["from_offset"] for one in config["ranges"]) <= 200
    world.landed = True
    [policy] = world.tick()
    assert (policy.job_name, policy.run_key) == ("policy_after_burst", f"{wanted.run_key}/policy")
    assert "have landed" in policy.tags["isthmus/reason"]
    # It goes on for minutes: still the same burst. Then a minute as usual, and there may be another.
    for _ in range(8):
        assert not world.tick()
    world.share = 0.1
    for _ in range(7):
        assert not world.tick()
    world.share = 0.7
    again, at_once = world.tick()  # it has landed already
    assert again.run_key != wanted.run_key
    assert at_once.run_key == f"{again.run_key}/policy"


def test_a_burst_in_which_nobody_looked_for_a_while_is_still_the_same() -> None:
    world = World(burst_quiet_seconds=20.0)
    world.send(2000)
    world.tick()
    world.share = 0.9
    [_] = world.tick()
    world.landed = True
    world.tick()
    world.now += 300  # a daemon that is busy elsewhere
    world.send(200)
    assert not world.tick()


def test_a_policy_does_not_wait_for_ever_for_landing() -> None:
    world = World()
    world.send(2000)
    world.tick()
    world.share = 0.9
    [wanted] = world.tick()
    began = world.now
    requests: list[dg.RunRequest] = []
    while not requests:
        requests = world.tick()
    assert world.now - began >= LANDING_WAIT - 5
    assert requests[0].run_key == f"{wanted.run_key}/policy"
    assert "not landed" in requests[0].tags["isthmus/reason"]


def test_the_same_tick_again_asks_for_the_same_run() -> None:
    world = World()
    world.send(2000)
    world.tick()
    kept = world.cursor
    world.share, world.per_look = 0.9, 0
    world.send(100)
    [first] = world.tick()
    world.cursor, world.now = kept, world.now - 5  # the daemon died before it kept the cursor
    [second] = world.tick()
    assert first.run_key == second.run_key


def test_a_tick_reads_no_more_than_its_bound_whatever_the_backlog() -> None:
    world = World()
    world.per_look = 0
    world.send(12_000)
    world.tick()
    assert world.read == 0  # the last look found nothing new; what the first one read follows
    world.cursor = None
    world.settings = Settings(burst_poll_seconds=0.0)
    world.tick()
    assert world.read == FIRST_RECORDS
    world.send(3000)
    world.tick()
    assert world.read == MOST_RECORDS


def test_a_replay_of_old_events_teaches_and_alarms_nobody() -> None:
    world = World()
    world.send(2000)
    world.tick()
    world.share, world.per_look = 0.9, 0
    world.send(1500, at=NOON - 86_400 * 30)
    assert not world.tick()


def test_a_lost_cursor_a_missing_topic_and_one_made_anew() -> None:
    world = World()
    world.send(2000)
    world.tick()
    world.cursor = "not a cursor"
    assert not world.tick()
    assert Cursor.read(world.cursor).next
    world.bus.logs = {(TOPIC, 0): FakeLog(), (TOPIC, 1): FakeLog()}
    world.per_look = 0
    world.send(50)
    assert not world.tick()
    assert sum(Cursor.read(world.cursor).next.values()) == 50
    world.bus.logs = {}
    assert not world.tick()
