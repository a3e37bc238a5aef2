"""The course of a run: kills in short cycles, broker restarts, rebalances, all under traffic and by seed.

What belongs here: which fault comes when. What does not: processes (``forks``), what is right (``evidence``).
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from resources.kafka import KafkaResource
from tests.load.bench import until
from tests.load.router.evidence import Broker, Snapshot, Verdict, judge
from tests.load.router.forks import Router
from tests.load.router.traffic import Traffic

EARLY: Final = 0.15  # share of the kills that do not wait until the router works: they fall into its start
_LATE: Final = 0.25  # most seconds between the first sign of work and the kill
_PATIENCE: Final = 120.0
_MOST_BEHIND: Final = 200_000  # a router that is killed all the time does not keep up; beyond this the traffic waits


class Restartable(Protocol):
    """A broker that is ours to kill."""

    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...


@dataclass(slots=True)
class Result:
    """What a run came to."""

    seed: int
    broker: str
    transactional: bool
    rate: int
    kills: int = 0
    kill_seconds: float = 0.0
    restarts: int = 0
    rebalances: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    machine: str = field(default_factory=lambda: f"{os.cpu_count()} cores, {platform.system()}")

    @property
    def in_flight(self) -> int:
        """Kills that fell while a batch was in flight."""
        return sum(count > 0 for count in self.verdict.in_flight)


@dataclass(slots=True)
class Course:
    """A router under traffic on the broker at ``bootstrap``."""

    bootstrap: str
    folder: Path
    seed: int
    transactional: bool = False
    rate: int = 4000
    name: str = "embedded broker"
    server: Restartable | None = None

    def run(self, *, kills: int, restarts: int, rebalances: int) -> Result:
        """Do all of it, let the router finish, and judge."""
        began, draw = time.monotonic(), random.Random(self.seed)
        KafkaResource(bootstrap=self.bootstrap).ensure_topics()
        broker = Broker(self.bootstrap)
        result = Result(self.seed, self.name, self.transactional, self.rate)
        begin = broker.ends(broker.outputs)
        traffic = Traffic(self.bootstrap, seed=self.seed, rate=self.rate)
        router = Router(self.bootstrap, self.folder, "one", transactional=self.transactional)
        guest = Router(self.bootstrap, self.folder, transactional=self.transactional)
        snapshots: list[Snapshot] = []
        router.start()
        traffic.start()
        try:
            self._works(broker, traffic, router, broker.written())
            snapshots.extend(self._kill(broker, traffic, router, draw) for _ in range(kills))
            traffic.held = False
            result.kills, result.kill_seconds = len(snapshots), time.monotonic() - began
            for number in range(restarts if self.server else 0):
                self._restart(broker, traffic, router, clean=number % 2 == 0)
                result.restarts += 1
            for _ in range(rebalances):
                self._join_and_leave(broker, traffic, router, guest, draw)
                result.rebalances += 2
            traffic.stop()
            self._catches_up(broker, router)
            assert router.stop() == 0, router.said()[-2000:]
        finally:
            for process in (router, guest):
                if process.alive:
                    process.kill()
        result.verdict = judge(broker, traffic, begin, snapshots)
        broker.close()
        result.seconds = time.monotonic() - began
        self._log(snapshots, result.verdict)
        return result

    def _works(self, broker: Broker, traffic: Traffic, router: Router, before: int, seconds: float = _PATIENCE) -> None:
        """Return when something was written beyond ``before``."""

        def wrote() -> bool:
            assert router.alive, f"the router ended by itself:\n{router.said()[-3000:]}"
            return broker.written() > before

        try:
            until(wrote, "the router works", seconds=seconds, pause=0.002)
        except TimeoutError as error:
            state = f"lag {broker.lag()}, {traffic.state()}"
            raise TimeoutError(f"{error}; {state}\n{router.said()[-3000:]}") from None

    @staticmethod
    def _catches_up(broker: Broker, router: Router) -> None:
        """Return when everything is committed; a router that still gets on is waited for, however much there is."""
        lag = broker.lag()
        while lag:
            least = lag
            try:
                until(lambda: broker.lag() < least, "the lag falls", seconds=_PATIENCE)  # noqa: B023 (used at once)
            except TimeoutError as error:
                raise TimeoutError(f"{error}; lag {broker.lag()}\n{router.said()[-3000:]}") from None
            lag = broker.lag()

    def _kill(self, broker: Broker, traffic: Traffic, router: Router, draw: random.Random) -> Snapshot:
        if draw.random() < EARLY:
            time.sleep(draw.uniform(0.0, 0.4))
        else:
            self._works(broker, traffic, router, broker.written())
            time.sleep(draw.uniform(0.0, _LATE))
            # Then as something is being written: a transaction is open for a part of the time alone.
            self._works(broker, traffic, router, broker.written())
        assert router.alive, f"the router ended by itself:\n{router.said()[-3000:]}"
        router.kill()
        snapshot = broker.snapshot()
        router.start()
        traffic.held = broker.lag() > _MOST_BEHIND
        return snapshot

    def _restart(self, broker: Broker, traffic: Traffic, router: Router, *, clean: bool) -> None:
        assert self.server is not None
        (self.server.stop if clean else self.server.kill)()
        self.server.start()
        self._works(broker, traffic, router, broker.written())

    def _join_and_leave(
        self, broker: Broker, traffic: Traffic, router: Router, guest: Router, draw: random.Random
    ) -> None:
        """Let a second router join, work and leave, one time in four by a kill."""
        guest.start()
        try:
            until(lambda: "assigned isthmus" in guest.said(), "the guest joins", seconds=_PATIENCE)
        except TimeoutError as error:
            raise TimeoutError(
                f"{error}\n{guest.said()[-2000:]}\n--- the other one:\n{router.said()[-2000:]}"
            ) from None
        self._works(broker, traffic, guest, broker.written())
        time.sleep(draw.uniform(0.0, 0.5))
        if draw.random() < 0.25:
            guest.kill()
        else:
            assert guest.stop() == 0
        self._works(broker, traffic, router, broker.written())

    def _log(self, snapshots: list[Snapshot], verdict: Verdict) -> None:
        with (self.folder / "router-kills.jsonl").open("w") as log:
            for number, (kill, count) in enumerate(zip(snapshots, verdict.in_flight, strict=True), start=1):
                line = {
                    "number": number,
                    "in_flight": count,
                    "committed": kill.committed,
                    "written": sum(kill.ends.values()),
                }
                log.write(json.dumps(line) + "\n")
