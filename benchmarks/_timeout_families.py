"""Generated durations for ``timeouts.py --families``: shapes of tail that the traces do not have.

What belongs here: seeded base durations, one participant a family. What does not: regimes (``_timeout_streams``). None
of these was used to choose anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks._timeout_streams import Base, Material

Floats = NDArray[np.float64]
_COUNT = 4000


def families(seed: int = 0) -> Material:
    """Return eight participants of two steps each, 4,000 durations (milliseconds) a participant."""
    random = np.random.default_rng(seed)
    shapes = {
        "lognormal": random.lognormal(0.0, 0.5, _COUNT),
        "lognormal-wide": random.lognormal(0.0, 1.2, _COUNT),
        "pareto": 1.0 + random.pareto(1.6, _COUNT),
        "weibull": random.weibull(0.6, _COUNT) + 0.05,
        "bimodal": random.lognormal(0.0, 0.2, _COUNT) * np.where(random.random(_COUNT) < 0.03, 25.0, 1.0),
        "autocorrelated": np.exp(0.6 * _walk(random, 0.97) + 0.2 * random.normal(size=_COUNT)),
        "episodes": random.lognormal(0.0, 0.3, _COUNT) * np.where(_walk(random, 0.99) > 1.6, 8.0, 1.0),
        "constant": 1.0 + 0.001 * random.random(_COUNT),
    }
    bases = []
    for name, shape in shapes.items():
        long = random.random(_COUNT) < 0.3
        step = np.where(long, "long", "short").astype(object)
        bases.append(Base(name, step, shape * np.where(long, 4.0, 1.0) * random.uniform(5.0, 100.0)))
    return Material("generated families", {"": bases})


def _walk(random: np.random.Generator, memory: float) -> Floats:
    """Return an autoregressive series of variance 1."""
    noise = random.normal(size=_COUNT) * np.sqrt(1 - memory**2)
    values = np.empty(_COUNT)
    now = random.normal()
    for i, one in enumerate(noise):
        now = values[i] = memory * now + one
    return values
