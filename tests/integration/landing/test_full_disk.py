"""The warehouse's disk runs full while landing inserts: what a person reads, what is kept, and how it goes on."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from random import Random

import dagster as dg
import pytest

from assets.landing import raw_events
from jobs.landing import landing_job
from resources.kafka import KafkaResource
from resources.ledger import Ledger
from resources.migrate import migrate
from resources.settings import Settings
from resources.warehouse import WarehouseResource
from sensors.landing import evaluate
from tests.conftest import free_port, running
from tests.integration.disk import Disk, small_disk
from tests.integration.landing.conftest import Log, landed_values

pytestmark = pytest.mark.embedded

TOPIC = "isthmus.sagas"
KEEP_FREE_MB = 32


class Place:
    """A platform whose warehouse has a disk of its own; landing goes tick by tick."""

    def __init__(self, disk: Disk, warehouse: WarehouseResource, kafka: KafkaResource) -> None:
        self.disk, self.warehouse, self.kafka = disk, warehouse, kafka
        self.instance = dg.DagsterInstance.ephemeral()
        self.log = Log(TOPIC, kafka).create()
        self.settings = Settings(landing_poll_seconds=0.01, landing_attempts=1)
        self.job = dg.Definitions(
            assets=[raw_events], jobs=[landing_job], resources={"warehouse": warehouse, "kafka": kafka}
        ).resolve_job_def("landing")
        self._cursor: str | None = None

    def tick(self) -> tuple[list[str], list[dg.AssetCheckEvaluation]]:
        """Evaluate the sensor and run what it requests; return the failed runs' reasons and what checks were told."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self._cursor)
        told = evaluate(context, self.kafka, self.warehouse, settings=self.settings)
        self._cursor = told.cursor
        reasons = []
        for wanted in told.run_requests or []:
            done = self.job.execute_in_process(
                run_config=wanted.run_config,
                instance=self.instance,
                tags=dict(wanted.tags),
                raise_on_error=False,
            )
            reasons += [str(one.step_failure_data.error) for one in done.get_step_failure_events()]
        return reasons, [one for one in told.asset_events if isinstance(one, dg.AssetCheckEvaluation)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("assets.landing._RETRIES", 0)
    monkeypatch.setattr("assets.landing.get_settings", lambda: Settings(landing_block_events=500))
    monkeypatch.setattr("sensors.landing.cursor.FIRST_DELAY", 0.0)
    ports, password = (free_port(), free_port()), secrets.token_urlsafe(8)
    env = {"ISTHMUS_WAREHOUSE_PASSWORD": password, "ISTHMUS_HOME": str(tmp_path / "home")}
    broker = ("--path", str(tmp_path / "broker"), "--port", str(ports[0]))
    with small_disk(tmp_path / "disk", megabytes=96) as disk:
        warehouse = ("--path", str(disk.path / "warehouse"), "--port", str(ports[1]))
        with (
            running("services.embedded.broker", *broker, log=tmp_path / "broker.log", env=env),
            running(
                "services.embedded.warehouse",
                *warehouse,
                *("--keep-free-mb", str(KEEP_FREE_MB)),
                log=tmp_path / "warehouse.log",
                env=env,
            ) as process,
        ):
            resource = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{ports[1]}", attempts=2)
            migrate(resource)
            yield Place(disk, resource, KafkaResource(bootstrap=f"127.0.0.1:{ports[0]}", timeout=10.0))
            assert process.poll() is None, "the process survives"


def test_landing_waits_for_room_and_goes_on_by_itself(place: Place) -> None:
    random = Random(1)
    values: list[bytes] = [random.randbytes(1500) for _ in range(15_000)]
    place.log.send([*values[:4000]])
    assert place.tick() == ([], [])
    place.disk.fill(leaving_mb=KEEP_FREE_MB + 8)
    place.log.send([*values[4000:]])
    reasons, _ = place.tick()
    assert reasons
    for reason in reasons:
        assert f"The disk of {place.disk.path}/warehouse is full" in reason
        assert "--keep-free-mb" in reason
        assert "Make room" in reason
    ledger = Ledger(place.warehouse)
    # Blocks of the failed run stand, but none is noted; what was noted before is there.
    assert ledger.landed() == {(TOPIC, 0, 0): [(0, 4000)]}
    standing = landed_values(place.warehouse, TOPIC)
    assert 4000 < len(standing) < len(values)
    assert standing.items() >= {at: value.hex() for at, value in enumerate(values[:4000])}.items()
    told = [one for _ in range(4) for one in place.tick()[1]]
    assert ledger.gaps() == [], "however often it failed: that is no fault of the range"
    assert {(one.check_name, one.passed) for one in told} <= {("contiguity", False)}
    place.disk.free()
    assert [reason for _ in range(2) for reason in place.tick()[0]] == []
    assert ledger.landed() == {(TOPIC, 0, 0): [(0, len(values))]}
    assert landed_values(place.warehouse, TOPIC) == {at: value.hex() for at, value in enumerate(values)}
