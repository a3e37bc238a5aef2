"""A day of shop traffic in minutes through a router process: does its memory, or anything else of it, grow?

What belongs here: the course, the samples, the line through them. What does not: what a result must be (the tests).
"""

from __future__ import annotations

import math
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

import numpy as np
import psutil

from examples.replay import ReplayReport, replay
from examples.shop import traffic
from resources.kafka import KafkaResource
from tests.integration.router.bus import committed, router
from tests.load.bench import until

_EVERY = 1.0


FLAT: Final = 0.005
"""Share of what it holds by which a process may grow in a run, by the upper end of the interval, and count as flat."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through samples: its slope and half the width of its 95% interval (both a second), the samples' mean."""

    slope: float
    half: float
    mean: float
    seconds: float

    @property
    def growth(self) -> float:
        """What the line rises over the time that was measured."""
        return self.slope * self.seconds

    @property
    def most(self) -> float:
        """What it rises at the upper end of its interval."""
        return (self.slope + self.half) * self.seconds

    @property
    def flat(self) -> bool:
        """Whether even the most is next to nothing.

        Not whether the interval holds 0: memory that is held does not scatter, so a single page more is significant.
        """
        return self.most < FLAT * self.mean


def trend(seconds: list[float], values: list[float]) -> Trend:
    """Return the least-squares line; its interval allows for neighbouring samples being alike (Newey-West 1987)."""
    x, y = np.array(seconds), np.array(values)
    design = np.column_stack([np.ones_like(x), x - x.mean()])
    bread = np.linalg.inv(design.T @ design)
    residual = y - design @ (bread @ design.T @ y)
    scores = design * residual[:, None]
    meat = scores.T @ scores
    lags = max(1, math.ceil(4 * (len(x) / 100) ** (2 / 9)), len(x) // 20)
    for lag in range(1, lags + 1):
        cross = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / (lags + 1)) * (cross + cross.T)
    slope = float((bread @ design.T @ y)[1])
    error = math.sqrt(max(0.0, float((bread @ meat @ bread)[1, 1])))
    return Trend(slope, 1.96 * error, float(y.mean()), float(x[-1] - x[0]))


@dataclass(slots=True)
class Samples:
    """What a process held, once a second."""

    seconds: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def after(self, warm: float) -> Samples:
        """Return the samples from ``warm`` seconds on."""
        first = int(np.searchsorted(self.seconds, warm))
        return Samples(self.seconds[first:], self.rss[first:], self.files[first:], self.threads[first:])


@dataclass(slots=True)
class Result:
    """What a run came to; samples are those after the warm-up."""

    seed: int
    minutes: float
    warm: float
    replay: ReplayReport
    samples: Samples
    machine: str = field(default_factory=lambda: f"{os.cpu_count()} cores, {platform.system()}")

    @property
    def rss(self) -> Trend:
        """The line through the resident memory, bytes."""
        return trend(self.samples.seconds, self.samples.rss)


def run(
    bootstrap: str, folder: Path, *, seed: int, minutes: float, warm: float, days: float = 1.0, ask: bool = True
) -> Result:
    """Send ``days`` of the shop's traffic in ``minutes`` through a router, sampling it; ``warm`` seconds do not count.

    A tenth of the events comes twice. ``ask``: its metrics and readiness are asked for meanwhile, as a monitor does.
    """
    KafkaResource(bootstrap=bootstrap).ensure_topics()
    shop = traffic(seed=seed, days=days)
    samples, stop = Samples(), Event()
    with router(bootstrap, folder) as process:
        watched = psutil.Process(process.process.pid)

        def sample() -> None:
            began = time.monotonic()
            while not stop.wait(_EVERY):
                samples.seconds.append(time.monotonic() - began)
                samples.rss.append(float(watched.memory_info().rss))
                samples.files.append(float(watched.num_fds()))
                samples.threads.append(float(watched.num_threads()))
                if ask and len(samples.seconds) % 10 == 0:
                    process.get("/metrics")
                    process.ready()

        thread = Thread(target=sample, daemon=True)
        thread.start()
        speed = days * 86_400 / (minutes * 60)
        report = replay(shop, bootstrap=bootstrap, speed=speed, seed=seed, duplicates=0.1)
        stop.set()
        thread.join()
        until(lambda: _done(bootstrap), "everything is committed")
    rows = zip(samples.seconds, samples.rss, samples.files, samples.threads, strict=True)
    (folder / "samples.csv").write_text(
        "".join(f"{at:.1f},{rss:.0f},{files:.0f},{n:.0f}\n" for at, rss, files, n in rows)
    )
    return Result(seed, minutes, warm, report, samples.after(warm))


def _done(bootstrap: str) -> bool:
    done, written = committed(bootstrap, "isthmus.ingress")
    return done >= written
