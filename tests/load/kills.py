"""Kills of a landing that runs as a bare process: who, when, and what was in flight then.

What belongs here: the seeded drawing of kills for the short form. What does not: kills of Dagster's own processes
(``soak``).
"""

from __future__ import annotations

import json
import random
import time
from functools import partial
from pathlib import Path

from tests.load.bench import Bench, KillLog, Process, until


class Journal:
    """What a lander wrote: which batches it began and has not done."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()

    def lines(self) -> list[dict[str, object]]:
        """Return its lines; one that a kill cut off is left out."""
        found = []
        for line in self.file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def in_flight(self, pid: int) -> list[str]:
        """Return the ranges of the batch that process ``pid`` has begun, where it wrote nothing after that."""
        lines = self.lines()
        if lines and lines[-1]["event"] == "begin" and lines[-1]["pid"] == pid:
            names = lines[-1]["names"]
            assert isinstance(names, list)
            return names
        return []

    def ended(self) -> bool:
        """Return whether the lander has landed all that it was told to."""
        lines = self.lines()
        return bool(lines) and lines[-1]["event"] == "end"


def kill_while_landing(
    bench: Bench, lander: Process, journal: Journal, log: KillLog, *, kills: int, draw: random.Random
) -> None:
    """Kill the lander or the warehouse ``kills`` times, each while a batch is in flight, and start it again.

    Returns when the lander has ended by itself; raises where it ended before all kills were done.
    """
    for _ in range(kills):
        target = draw.choice(["landing", "landing", "warehouse"])
        pid = lander.pid
        until(partial(at_work, journal, pid), "a batch in flight", pause=0.002)
        if journal.ended():
            raise RuntimeError(f"all was landed after {len(log.kills)} kills: take smaller batches")
        # A batch takes some tens of milliseconds: the kill comes anywhere in it.
        time.sleep(draw.uniform(0, 0.03))
        process = lander if target == "landing" else bench.processes["warehouse"]
        killed = process.pid
        process.kill()
        log.note(target, in_flight=journal.in_flight(pid), pids=[killed])
        process.start()
    until(journal.ended, "the rest is landed", seconds=300)


def at_work(journal: Journal, pid: int) -> bool:
    """Return whether process ``pid`` has a batch in flight, or will have none any more."""
    return bool(journal.in_flight(pid)) or journal.ended()
