"""Kills of a landing that runs as a bare process: who, when, and what was in flight then.

What belongs here: the seeded drawing of kills for the short form. What does not: kills of Dagster's own processes
(``soak``).
"""

from __future__ import annotations

import json
import random
import time
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

    def in_flight(self) -> list[str]:
        """Return the ranges of the batch that was begun last, where nothing came after it."""
        lines = self.lines()
        if lines and lines[-1]["event"] == "begin":
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
        until(lambda: journal.in_flight() or journal.ended(), "a batch in flight", pause=0.001)
        if journal.ended():
            raise RuntimeError(f"all was landed after {len(log.kills)} kills: take smaller batches")
        # A batch takes some tens of milliseconds: the kill comes anywhere in it.
        time.sleep(draw.uniform(0, 0.03))
        process = lander if target == "landing" else bench.processes["warehouse"]
        pids = [process.popen.pid] if process.popen else []
        process.kill()
        log.note(target, in_flight=journal.in_flight(), pids=pids)
        process.start()
    until(journal.ended, "the rest is landed", seconds=300)
