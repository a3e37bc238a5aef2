"""One seed played through every arm, and what came of it.

What belongs here: truth against verdicts, counts that add up over seeds. What does not: printing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.faults.arms import Arm, Nothing, Ours, Rules
from benchmarks.faults.inject import HOUR_US, Batch, Faulty, differs
from benchmarks.faults.spec import FaultClass
from benchmarks.faults.stream import LAYOUT, tables
from ml.verdicts.columns import micros
from ml.verdicts.types import COLLAPSED, QUARANTINED, REPAIRED, Judged, Mask

NAMES = ("ours", "rules", "nothing")
#: How much wider than what was seen the rules' bounds are: the best of 0, 0.1, 0.3, 1 and 3 on a developers' stream.
MARGIN = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How long the stream is, in days, and how many orders come in a day."""

    good: float = 28.0
    faulty: float = 7.0
    orders: float = 2_000.0

    @classmethod
    def quick(cls) -> Shape:
        """Return a small one."""
        return cls(good=6.0, faulty=2.0, orders=1_000.0)

    def for_classes(self, classes: Sequence[FaultClass], days: float | None, *, quick: bool) -> Shape:
        """Return a stream that holds all incidents, with as many quiet hours beside."""
        need = sum(one.incidents * (one.hours + 1) for one in classes) + 4
        return replace(
            self, faulty=days or max(self.faulty if not quick else 0.0, ceil(need * (1.1 if quick else 1.5) / 24))
        )


@dataclass(slots=True)
class Tally:
    """Counts of one arm."""

    checks: int = 0
    check_days: float = 0.0
    false_alarms: int = 0
    false_checks: int = 0
    incidents: int = 0
    found: int = 0
    rows: int = 0
    right: int = 0
    faulty: int = 0
    faulty_right: int = 0
    repaired: int = 0
    alarmed: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, float]:
        """Return the shares that are reported."""
        good = self.rows - self.faulty
        return {
            "recall": self.found / max(1, self.incidents),
            "false_positives_per_check_day": self.false_alarms / self.check_days if self.check_days else 0.0,
            "false_checks_per_check_day": self.false_checks / self.check_days if self.check_days else 0.0,
            "verdict_right": self.right / max(1, self.rows),
            "verdict_recall": self.faulty_right / max(1, self.faulty),
            "good_kept": (self.right - self.faulty_right) / max(1, good),
        }


def play(classes: Sequence[FaultClass], shape: Shape, *, seed: int, margin: float = MARGIN) -> dict[str, Any]:
    """Learn from the good days of a seed's stream, inject the faults into the rest, and let each arm judge it."""
    whole = tables(seed=seed, days=shape.good + shape.faulty, orders_per_day=shape.orders)
    first = min(int(micros(frame[LAYOUT.arrival])[0]) for frame in whole.values())
    cut = (first // HOUR_US + round(shape.good * 24)) * HOUR_US
    good = {name: frame[micros(frame[LAYOUT.arrival]) < cut].reset_index(drop=True) for name, frame in whole.items()}
    rest = {name: frame[micros(frame[LAYOUT.arrival]) >= cut].reset_index(drop=True) for name, frame in whole.items()}
    faulty = Faulty(rest, classes, seed=seed)
    arms: dict[str, Arm] = {"ours": Ours(good), "rules": Rules(good, margin=margin), "nothing": Nothing()}
    return judged(faulty, arms)


def judged(faulty: Faulty, arms: dict[str, Arm]) -> dict[str, Any]:
    """Let each arm judge the stream; return counts by arm, by class and by incident."""
    tallies = {name: Tally() for name in arms}
    alarmed: dict[str, dict[tuple[str, int], set[str]]] = {name: {} for name in arms}
    per_class: dict[str, dict[str, Any]] = {
        one.fault.name: {"incidents": 0, "rows": 0, "repaired": 0, "found": Counter(), "right": Counter()}
        for one in faulty.incidents
    }
    hours: dict[int, list[Batch]] = {}
    for batch in faulty.batches():
        hours.setdefault(batch.hour, []).append(batch)
    checks: dict[str, set[str]] = {name: set() for name in arms}
    broken: dict[str, Counter[tuple[str, int]]] = {name: Counter() for name in arms}
    for hour, batches in hours.items():
        for name, arm in arms.items():
            round_ = arm.round(batches)
            checks[name] |= round_.checks
            for alarm in round_.alarms:
                table, check = alarm.split("/", 1)
                alarmed[name].setdefault((table, hour), set()).add(check)
            broken[name].update((check.split("/", 1)[0], hour) for check in round_.broken)
            for batch in batches:
                _rows(faulty, batch, round_.judged[batch.table], tallies[name], per_class, name)
    dirty = {(one.table, hour + after) for one in faulty.incidents for hour in one.touched for after in (0, 1)}
    for name in arms:
        tally = tallies[name]
        tally.checks = len(checks[name])
        for table in faulty.clean:
            mine = sum(check.startswith(f"{table}/") for check in checks[name])
            clean = [hour for hour in hours if (table, hour) not in dirty]
            tally.check_days += mine * len(clean) / 24
            tally.false_checks += sum(broken[name][table, hour] for hour in clean)
            for hour in clean:
                for check in alarmed[name].get((table, hour), ()):
                    tally.false_alarms += 1
                    tally.alarmed[f"{table}/{check}"] += 1
    incidents = []
    for one in faulty.incidents:
        entry = per_class[one.fault.name]
        entry["incidents"] += 1
        found = {}
        for name in arms:
            watched = {hour + after for hour in one.touched for after in (0, 1)}
            by = set().union(*(alarmed[name].get((one.table, hour), set()) for hour in watched))
            found[name] = bool(by)
            tallies[name].incidents += 1
            tallies[name].found += found[name]
            entry["found"][name] += found[name]
            if name == "ours":
                checks_that_said_so = sorted(by)
        incidents.append(
            {
                "class": one.fault.name,
                "table": one.table,
                "column": one.column,
                "rows": one.rows,
                "found": found["ours"],
                "by": checks_that_said_so,
                "held_back": one.fault.held_back,
            }
        )
    return {"arms": tallies, "classes": per_class, "incidents": incidents}


def _rows(  # noqa: PLR0917
    faulty: Faulty, batch: Batch, judged: Judged, tally: Tally, per_class: dict[str, dict[str, Any]], arm: str
) -> None:
    """Count the verdicts on a batch's rows."""
    if not len(batch.frame):
        return
    clean = faulty.clean[batch.table].iloc[batch.origin]
    names = [str(name) for name in clean.columns if name != LAYOUT.arrival]
    came_wrong = differs(batch.frame, clean, names) | batch.copy | batch.late
    right = verdict_right(judged, clean, names, batch, came_wrong)
    tally.rows += len(right)
    tally.right += int(right.sum())
    tally.faulty += int(came_wrong.sum())
    tally.faulty_right += int((right & came_wrong).sum())
    mended = right & came_wrong & np.isin(judged.verdict, (REPAIRED, COLLAPSED))
    tally.repaired += int(mended.sum())
    if came_wrong.any() and batch.incidents:
        entry = per_class[faulty.incidents[batch.incidents[0]].fault.name]
        entry["right"][arm] += int((right & came_wrong).sum())
        if arm == "ours":
            entry["rows"] += int(came_wrong.sum())
            entry["repaired"] += int(mended.sum())


def verdict_right(judged: Judged, clean: pd.DataFrame, names: Sequence[str], batch: Batch, came_wrong: Mask) -> Mask:
    """Return which verdicts are right: good rows served as they were, faulty ones held back or put right exactly."""
    as_it_was = ~differs(judged.frame, clean, names)
    held, collapsed = judged.verdict == QUARANTINED, judged.verdict == COLLAPSED
    out = ~held & ~collapsed
    good: Mask = out & as_it_was
    mended = out & as_it_was & ~batch.copy & (~batch.late | judged.late)
    found: Mask = np.where(came_wrong, held | (collapsed & batch.copy) | mended, good)
    return found


def add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Add one seed's counts to ``total``, in place."""
    if not total:
        total.update(more)
        return
    for name, tally in more["arms"].items():
        mine = total["arms"][name]
        for key in (
            "check_days",
            "false_alarms",
            "false_checks",
            "incidents",
            "found",
            "rows",
            "right",
            "faulty",
            "faulty_right",
            "repaired",
        ):
            setattr(mine, key, getattr(mine, key) + getattr(tally, key))
        mine.checks = max(mine.checks, tally.checks)
        mine.alarmed.update(tally.alarmed)
    for name, entry in more["classes"].items():
        mine = total["classes"].setdefault(
            name, {"incidents": 0, "rows": 0, "repaired": 0, "found": Counter(), "right": Counter()}
        )
        for key in ("incidents", "rows", "repaired"):
            mine[key] += entry[key]
        mine["found"].update(entry["found"])
        mine["right"].update(entry["right"])
    total["incidents"] += more["incidents"]
