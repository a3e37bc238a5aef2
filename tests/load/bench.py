"""A stack of its own for one exactness run: processes that can be killed and started again, and the log of kills.

What belongs here: processes, their environment, kills. What does not: what is right (``verify``) and which kills come
when (``kills``, the tests).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
from resources.warehouse import WarehouseResource
from tests.conftest import ROOT, free_port

KAFKA = "ISTHMUS_TEST_KAFKA"  # variable with the bootstrap servers of a real Kafka, for tests alone


def until(condition: Callable[[], Any], what: str, seconds: float = 120.0, pause: float = 0.05) -> Any:
    """Return the first true result of ``condition``; raise where none comes in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
    return result


@dataclass(slots=True)
class Process:
    """A child in a session of its own, which can be killed with all that it started and started again."""

    name: str
    command: list[str]
    env: dict[str, str]
    log: Path
    ready: bool = True
    popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the last start; 0 before the first."""
        return self.popen.pid if self.popen else 0

    def start(self) -> None:
        """Start it and return when it serves (has printed its ``ready`` line), or at once where it prints none."""
        with self.log.open("ab") as output:
            begin = output.tell()
            self.popen = subprocess.Popen(
                self.command, cwd=ROOT, env=self.env, stdout=output, stderr=output, start_new_session=True
            )
        if self.ready:
            until(lambda: self._served(begin), f"{self.name} is ready")

    def _served(self, begin: int) -> bool:
        with self.log.open("rb") as log:
            log.seek(begin)
            said = log.read()
        if self.popen is not None and self.popen.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{said.decode()[-3000:]}")
        return any(line.startswith(b"ready") for line in said.splitlines())

    def family(self) -> list[psutil.Process]:
        """Return the process and all that it started, the youngest first; empty where it has ended."""
        if self.popen is None or self.popen.poll() is not None:
            return []
        try:
            parent = psutil.Process(self.popen.pid)
            return [*parent.children(recursive=True)[::-1], parent]
        except psutil.NoSuchProcess:
            return []

    def kill(self, *, family: bool = False) -> None:
        """End it by signal 9, with what it started if ``family``; it gets no chance to tidy up."""
        members = self.family()
        for member in members if family else members[-1:]:
            try:
                member.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        if self.popen is not None:
            self.popen.wait()

    def stop(self, seconds: float = 20.0) -> None:
        """End it in peace, and what is left of its family by force."""
        members = self.family()
        if self.popen is not None and self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        _, alive = psutil.wait_procs(members, timeout=3)
        for member in alive:
            member.kill()


@dataclass(slots=True)
class Bench:
    """Broker (or the one at ``kafka``), warehouse and router of one run, under ``folder``."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    kafka: str = field(default_factory=lambda: os.environ.get(KAFKA, ""))
    bootstrap: str = ""
    processes: dict[str, Process] = field(default_factory=dict)
    warehouse: WarehouseResource = field(default_factory=WarehouseResource)
    env: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Bench:
        for name in ("logs", "dagster", "mlflow/artifacts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deploy/embedded/dagster.yaml", self.folder / "dagster" / "dagster.yaml")
        password, port = secrets.token_urlsafe(12), free_port()
        self.bootstrap = self.kafka or f"127.0.0.1:{free_port()}"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ISTHMUS_HOME": str(self.folder),
            "ISTHMUS_WAREHOUSE_URL": f"http://127.0.0.1:{port}",
            "ISTHMUS_WAREHOUSE_PASSWORD": password,
            "ISTHMUS_KAFKA_BOOTSTRAP": self.bootstrap,
            "ISTHMUS_ROUTER_PORT": str(free_port()),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            **self.settings,
        }
        # A call that meets a dead warehouse is repeated by the process that kills it, not for long by the client.
        self.warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{port}")
        try:
            if not self.kafka:
                data, number = str(self.folder / "broker"), self.bootstrap.rpartition(":")[2]
                self.run("broker", "services.embedded.broker", "--path", data, "--port", number)
            self.run(
                "warehouse", "services.embedded.warehouse", "--path", f"{self.folder}/warehouse", "--port", str(port)
            )
            self.call("resources.migrate")
            self.call("tests.load.topics")
            self.run("router", "services.router")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.processes.values()):
            process.stop()
        # What a killed process had started goes on without it: Dagster's code server, its warm pool, dbt.
        for orphan in self.orphans():
            orphan.kill()

    def orphans(self) -> list[psutil.Process]:
        """Return the processes that live in this bench's home, whoever started them."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("ISTHMUS_HOME") == str(self.folder):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def run(self, name: str, module: str, *arguments: str, ready: bool = True) -> Process:
        """Start ``python -m module`` under ``name`` and return it."""
        command = [sys.executable, "-m", module, *arguments]
        process = Process(name, command, self.env, self.folder / "logs" / f"{name}.log", ready)
        self.processes[name] = process
        process.start()
        return process

    def call(self, module: str, *arguments: str) -> str:
        """Run ``python -m module`` to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def watermarks(self, *topics: str) -> dict[tuple[str, int], tuple[int, int]]:
        """Return (first, next) offset of each partition of ``topics``, by a client that the platform does not use."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "exactness-check"})
        try:
            known = consumer.list_topics(timeout=20).topics
            return {
                (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
                for topic in topics
                if topic in known
                for number in known[topic].partitions
            }
        finally:
            consumer.close()

    def routed(self) -> int:
        """Return how many records the router has written: to the domain topics and to the dead letters."""
        return sum(high - low for low, high in self.watermarks(*DOMAIN_TOPICS, DEAD_LETTER).values())

    def wait_routed(self, sent: int) -> None:
        """Return when as many records as were ``sent`` to ingress have come out of the router."""
        until(lambda: self.routed() >= sent, f"{sent} records routed", seconds=300, pause=0.2)

    def ingress(self) -> int:
        """Return how many records stand in ingress."""
        return sum(high - low for low, high in self.watermarks(INGRESS).values())


@dataclass(slots=True)
class KillLog:
    """What was killed when, and what was under way then: one JSON line a kill."""

    file: Path
    kills: list[dict[str, Any]] = field(default_factory=list)

    def note(self, target: str, *, in_flight: list[str], pids: list[int]) -> None:
        """Write one kill; ``in_flight`` names the ranges (or the build) that were begun and not done at that moment."""
        kill = {
            "number": len(self.kills) + 1,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "target": target,
            "pids": pids,
            "in_flight": in_flight,
        }
        self.kills.append(kill)
        with self.file.open("a") as log:
            log.write(json.dumps(kill) + "\n")

    @property
    def with_batch(self) -> int:
        """Number of kills while a batch was in flight."""
        return sum(bool(kill["in_flight"]) for kill in self.kills)
