"""The long form: the whole of BPI Challenge 2012 through Dagster's own daemon, killed fifty times on the way.

What belongs here: the course of the long run and its kills of landing runs, daemon, warehouse and builds. What does
not: what is right (``verify``) and how the result is told (``report``).
"""

from __future__ import annotations

import os
import platform
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from examples.replay import ReplayReport, replay
from resources.warehouse import WarehouseResource
from sensors.landing import TAG
from services.launcher.launcher import WORKER_TAG
from tests.conftest import ROOT
from tests.load.bench import Bench, KillLog, Process, until
from tests.load.verify import Verdict, verify
from tests.oracle import loans

DUPLICATES, LATE = 0.10, 0.05
SETTINGS = {
    # Small batches: there must be far more of them than kills, and several blocks in each.
    "ISTHMUS_LANDING_MAX_EVENTS": "2000",
    "ISTHMUS_LANDING_BLOCK_EVENTS": "250",
    "ISTHMUS_LANDING_MAX_IN_FLIGHT": "2",
    # A range whose run is killed again and again is no bad range; by default the fifth loss of one asks for a person.
    "ISTHMUS_LANDING_ATTEMPTS": "100",
}
# Kills of each target in ten: a landing run most often, since it holds the batch.
WEIGHTS = {"landing run": 5, "warehouse": 3, "daemon": 2}
IN_FLIGHT = 0.8  # share of the kills that must come while a batch is in flight; more are added where too few did
PATIENCE = 30.0
BUILD_EVERY = 8  # kills between two dbt builds, which run beside the landing and are killed now and then too


@dataclass(slots=True)
class Result:
    """What a long run came to."""

    seed: int
    kafka: str
    replay: ReplayReport
    kills: list[dict[str, object]]
    in_flight: int
    builds: int
    builds_killed: int
    ranges: int
    ranges_again: int
    seconds: float
    verdict: Verdict
    machine: str = field(default_factory=lambda: f"{os.cpu_count()} cores, {platform.system()}")


def run_long(folder: Path, data: Path, *, seed: int, kills: int = 50, kafka: str = "") -> Result:
    """Replay ``data`` with duplicates and late events, kill on the way, land again, build, and compare everything.

    ``kafka`` are bootstrap servers of a real Kafka for tests; without them an embedded broker is started.
    """
    began, draw, log = time.monotonic(), random.Random(seed), KillLog(folder / "kills.jsonl")
    with Bench(folder / "home", SETTINGS, kafka) as bench:
        report = replay(str(data), bootstrap=bench.bootstrap, seed=seed, duplicates=DUPLICATES, late=LATE)
        bench.wait_routed(report.sent)
        killer = Killer(bench, log, draw)
        try:
            killer.start_daemon()
            while len(log.kills) < kills or log.with_batch < IN_FLIGHT * kills:
                killer.kill(draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
                if len(log.kills) % BUILD_EVERY == 0:
                    killer.build_beside(killed=draw.random() < 0.5)
            until(lambda: landed(bench.warehouse) >= report.sent, "everything is landed", seconds=900, pause=0.5)
        finally:
            killer.stop()
        ranges = count(bench.warehouse, "SELECT uniqExact(landing_id) FROM raw.landings")
        bench.call("tests.load.build", "run", "--quiet")
        # Every range once more, and cut in other places.
        again = ("--journal", str(folder / "again.jsonl"), "--limit", "30000", "--seed", str(seed), "--again")
        bench.call("tests.load.lander", *again)
        bench.call("tests.load.build", "build", "--exclude-resource-type", "unit_test", "--quiet")
        verdict = verify(bench, loans.events(data), distinct=report.distinct)
        return Result(
            seed=seed,
            kafka="Apache Kafka" if kafka else "embedded broker",
            replay=report,
            kills=log.kills,
            in_flight=log.with_batch,
            builds=killer.builds,
            builds_killed=killer.builds_killed,
            ranges=ranges,
            ranges_again=count(bench.warehouse, "SELECT uniqExact(landing_id) FROM raw.landings") - ranges,
            seconds=time.monotonic() - began,
            verdict=verdict,
        )


class Killer:
    """Dagster's daemon over the bench, and the kills."""

    def __init__(self, bench: Bench, log: KillLog, draw: random.Random) -> None:
        self.bench, self.log, self.draw = bench, log, draw
        self.builds = self.builds_killed = self._landed = 0
        self.instance = dg.DagsterInstance.from_config(bench.env["DAGSTER_HOME"])
        self._build: Process | None = None

    def start_daemon(self) -> None:
        """Start the daemon with the platform's code location."""
        home = self.bench.folder
        daemon = Process(
            "daemon",
            [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(ROOT / "workspace.yaml")],
            self.bench.env,
            home / "logs" / "daemon.log",
            ready=False,
        )
        self.bench.processes["daemon"] = daemon
        daemon.start()

    def stop(self) -> None:
        """End daemon, runs and builds."""
        if self._build is not None:
            self._build.stop()
        if daemon := self.bench.processes.pop("daemon", None):
            daemon.stop()
        self.instance.dispose()

    def kill(self, target: str) -> None:
        """Wait for a landing run in the midst of its ranges, kill ``target``, and start again what must go on.

        Between two kills at least one more range is landed, where that takes no longer than ``PATIENCE``: the kills go
        all over the data, and not fifty times over its beginning.
        """
        with suppress(TimeoutError):
            until(lambda: self._landings() > self._landed, "one more range", seconds=PATIENCE, pause=0.1)
        self._landed = self._landings()
        run = until(self.landing_run, "a landing run at work", seconds=300, pause=0.02)
        time.sleep(self.draw.uniform(0, 0.1))
        {"landing run": self._kill_run, "warehouse": self._kill_warehouse, "daemon": self._kill_daemon}[target](run)

    def _landings(self) -> int:
        return count(self.bench.warehouse, "SELECT uniqExact(landing_id) FROM raw.landings")

    def landing_run(self) -> dg.DagsterRun | None:
        """Return a landing run whose process works on ranges that the ledger does not hold."""
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={TAG: "ranges"})
        runs = list(self.instance.get_runs(filters))
        self.draw.shuffle(runs)
        return next((run for run in runs if alive(run) and self.unlanded(run)), None)

    def unlanded(self, run: dg.DagsterRun) -> list[str]:
        """Return the ranges of ``run`` that the ledger does not hold."""
        wanted = ranges_of(run)
        rows = self.bench.warehouse.query_rows(
            "SELECT landing_id FROM raw.landings WHERE landing_id IN {ids:Array(String)}", {"ids": wanted}
        )
        return sorted(set(wanted) - {row["landing_id"] for row in rows})

    def _kill_run(self, run: dg.DagsterRun) -> None:
        pid = worker(run)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            self.log.note("landing run", in_flight=[], pids=[pid])
            return
        # It can commit nothing more: what the ledger lacks now was in flight.
        self.log.note("landing run", in_flight=self.unlanded(run), pids=[pid])

    def _kill_warehouse(self, run: dg.DagsterRun) -> None:
        warehouse = self.bench.processes["warehouse"]
        at_work, pid = alive(run), warehouse.pid
        warehouse.kill()
        warehouse.start()
        # What the run landed since the restart, by trying again, counts as not in flight: rather one too few.
        self.log.note("warehouse", in_flight=self.unlanded(run) if at_work else [], pids=[pid])

    def _kill_daemon(self, run: dg.DagsterRun) -> None:
        daemon = self.bench.processes["daemon"]
        pid = daemon.pid
        daemon.kill()
        self.log.note("daemon", in_flight=self.unlanded(run) if alive(run) else [], pids=[pid])
        daemon.start()

    def build_beside(self, *, killed: bool) -> None:
        """Start a dbt build that runs beside the landing; if ``killed``, kill it in its midst."""
        if self._build is not None:
            self._build.stop()
        self._build = self.bench.run("build", "tests.load.build", "run", "--quiet", ready=False)
        self.builds += 1
        if killed:
            time.sleep(self.draw.uniform(4, 12))
            self.builds_killed += self._build.popen is not None and self._build.popen.poll() is None
            self._build.kill(family=True)


def ranges_of(run: dg.DagsterRun) -> list[str]:
    """Return the names of the ranges in a landing run's configuration, as the ledger names them."""
    config: Any = run.run_config
    spans = config["ops"]["raw__events"]["config"]["ranges"]
    return [f"{span['topic']}/{span['partition']}/{span['from_offset']}-{span['to_offset']}" for span in spans]


def worker(run: dg.DagsterRun) -> int:
    """Return the process of a run; -1 where it has none yet."""
    return int(run.tags.get(WORKER_TAG, "-1").partition(":")[0])


def alive(run: dg.DagsterRun) -> bool:
    """Return whether the run's process is there, and not only its name until its parent has taken note."""
    try:
        return psutil.Process(worker(run)).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except (psutil.NoSuchProcess, ValueError):
        return False


def landed(warehouse: WarehouseResource) -> int:
    """Return how many records stand in raw once."""
    return count(warehouse, "SELECT uniqExact(topic, partition, offset) FROM raw.events")


def count(warehouse: WarehouseResource, sql: str) -> int:
    """Return the one number that ``sql`` gives."""
    (row,) = warehouse.query_rows(sql)
    return int(next(iter(row.values())))
