"""What goes into a ranking of services by blame, and what comes out.

What belongs here: the frames' forms, a piece of evidence, the ranking. What does not: how evidence is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

#: What a metric's column says of its service: ``use`` of a resource, latency ``served`` to its callers (any unit).
MetricKind = Literal["use", "served"]
Family = Literal["time", "behaviour", "use"]
Instrument = Literal["traces", "logs", "links", "metrics"]


class NothingToRank(ValueError):
    """There is nothing to rank services by: no source of evidence has both a window and a reference."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a system over some time; what there is none of is None.

    ``spans``: ``trace``, ``span``, ``parent`` (empty at the front), ``service``, ``operation``, ``start_us`` and
    ``end_us``.
    ``logs``: ``trace``, ``span`` (empty where a line has none), ``service``, ``text``.
    ``metrics``: ``time_us``, ``service``, and a column for each name of ``kinds``.
    ``links``: ``time_us``, ``source``, ``target``, ``at_source`` and ``at_target``: a typical latency of the calls from
    one to the other in that period, as either side measured it, milliseconds.
    Times are microseconds since 1970, UTC.
    """

    spans: pd.DataFrame | None = None
    logs: pd.DataFrame | None = None
    metrics: pd.DataFrame | None = None
    links: pd.DataFrame | None = None
    kinds: Mapping[str, MetricKind] = field(default_factory=dict)


def figure(value: float) -> str:
    """Return a figure as a person reads it: three digits that count, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One reason to blame a service.

    ``strength`` (0 to 1) is the share of what was seen of the service that was not there in the reference and that no
    service below it accounts for, as far as chance does not explain it. ``words`` say the same to a person.
    """

    service: str
    family: Family
    instrument: Instrument
    strength: float
    words: str


@dataclass(frozen=True, slots=True)
class Blame:
    """How much a service is to blame: 0 to 1, comparable within one ranking; the strongest evidence first."""

    service: str
    score: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """All services that were seen, the most to blame first; ``used`` are the sources that there was evidence from."""

    blames: tuple[Blame, ...]
    used: tuple[Instrument, ...]

    @property
    def services(self) -> list[str]:
        """The services' names, the most to blame first."""
        return [blame.service for blame in self.blames]
