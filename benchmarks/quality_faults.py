"""Faults in a stream of good data: are they found, without false alarms, and is the verdict on each row right?

    uv run python benchmarks/quality_faults.py [--data PATH] [--seeds N] [--days D] [--quick]

The shop's traffic (``examples/shop``) as tables that come in by the hour. The first days are good and are learned from;
into the rest, faults are injected, each in an hour of its own. ``--data`` takes a folder with ``faults.json`` (its form
is in ``benchmarks/faults/spec.py`` and in docs/architecture/quality-faults.md); without it, the classes beside this
file. Arms: ours; rules alone, with bounds as wide as was best on the developers' stream; nobody, who serves every row.

A row's verdict is right where a good row is served as it was, and a faulty one is held back, or repaired to exactly
what it was (a copy collapsed, a late row placed). A fault is found where an alarm is raised on its table in its hours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

# One thread: two cores are shared, and the trees are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.faults.score import NAMES, Shape, add, play
from benchmarks.faults.spec import FaultsError, read_faults

_DEFAULT = Path(__file__).parent / "faults" / "faults.json"
#: Seeds from here on are scored; the developers' were below.
FIRST_SEED = 2_001


def main() -> int:
    """Run what the command line asks for, print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with faults.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=float, default=None, help="days of the stream that faults are injected into")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--developers", action="store_true", help="only the classes that were seen in development")
    parser.add_argument("--quick", action="store_true", help="one seed, a smaller shop: ends within a minute")
    options = parser.parse_args()
    console = Console(width=160)
    try:
        classes = read_faults(options.data or _DEFAULT)
        if options.developers:
            classes = tuple(one for one in classes if not one.held_back)
        if options.quick:
            classes = tuple(replace(one, incidents=1) for one in classes)
        shape = Shape.quick() if options.quick else Shape()
        shape = shape.for_classes(classes, options.days, quick=options.quick)
        began = time.perf_counter()
        total: dict[str, Any] = {}
        for seed in range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds)):
            add(total, play(classes, shape, seed=seed))
            console.print(f"seed {seed}: {time.perf_counter() - began:.0f} s")
    except FaultsError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 2
    line = _report(console, classes, shape, total)
    print(
        json.dumps(
            {
                "benchmark": "quality_faults",
                "quick": options.quick,
                "seconds": round(time.perf_counter() - began, 1),
                **line,
            }
        )
    )
    return 0


def _report(console: Console, classes: Any, shape: Any, total: dict[str, Any]) -> dict[str, Any]:
    per_class = Table(
        "class",
        "seen in development",
        "incidents",
        "found",
        "found by rules",
        "rows",
        "verdict right",
        "by rules",
        "repaired",
        title="By class of fault",
    )
    line: dict[str, Any] = {}
    for one in classes:
        mine = total["classes"].get(one.name)
        if mine is None:
            continue
        n, rows = mine["incidents"], mine["rows"]
        missed = n - mine["found"]["ours"]
        right = {arm: (mine["right"][arm] / rows if rows else None) for arm in NAMES}
        per_class.add_row(
            one.name,
            "no" if one.held_back else "yes",
            str(n),
            f"{mine['found']['ours']}" + (f"  missed {missed}" if missed else ""),
            str(mine["found"]["rules"]),
            str(rows),
            _share(right["ours"]),
            _share(right["rules"]),
            str(mine["repaired"]),
        )
        line[one.name] = {
            "recall": mine["found"]["ours"] / n,
            "recall_rules": mine["found"]["rules"] / n,
            "incidents": n,
            "rows": rows,
            "verdict_recall": right["ours"],
            "verdict_recall_rules": right["rules"],
            "held_back": one.held_back,
        }
    console.print(per_class)
    overall = Table("", "ours", "rules alone", "nothing", "aim", title="Over all")
    figures: dict[str, Any] = {}
    for key, words, aim in (
        ("recall", "faults found", "≥ 0.99"),
        ("false_positives_per_check_day", "false alarms per check and day", "≤ 0.001"),
        ("false_checks_per_check_day", "the same, each broken check counted", ""),
        ("verdict_right", "rows with the right verdict", "≥ 0.999"),
        ("verdict_recall", "faulty rows with the right verdict", ""),
        ("good_kept", "good rows served as they were", ""),
    ):
        values = {arm: total["arms"][arm].figures()[key] for arm in NAMES}
        overall.add_row(words, *(f"{values[arm]:.5f}" for arm in NAMES), aim)
        figures[key] = values["ours"]
        figures[f"{key}_rules"], figures[f"{key}_nothing"] = values["rules"], values["nothing"]
    console.print(overall)
    ours = total["arms"]["ours"]
    found = {kind: [m for m in total["incidents"] if m["held_back"] == kind] for kind in (False, True)}
    for kind, word in ((False, "seen"), (True, "unseen")):
        figures[f"recall_{word}"] = float(np.mean([m["found"] for m in found[kind]])) if found[kind] else None
    figures |= {
        "incidents": len(total["incidents"]),
        "checks": ours.checks,
        "check_days": round(ours.check_days, 1),
        "false_alarms": ours.false_alarms,
        "rows": ours.rows,
        "rows_faulty": ours.faulty,
        "rows_repaired": ours.repaired,
        "missed": sorted(
            {f"{m['class']} ({m['table']} {m['column']})".strip() for m in total["incidents"] if not m["found"]}
        ),
        "classes": line,
    }
    console.print(
        f"{ours.false_alarms} false alarms in {ours.check_days:.0f} check-days of {ours.checks} checks; "
        f"by check: {dict(ours.alarmed.most_common(8))}"
    )
    for miss in figures["missed"]:
        console.print(f"missed: {miss}", highlight=False)
    return figures


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
