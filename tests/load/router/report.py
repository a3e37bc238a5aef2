"""Results of the router's long runs as tables of ``docs/operations/exactness.md``.

What belongs here: their words. What does not: the runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.load.report import put
from tests.load.router.faults import Result


def write(name: str, rows: Mapping[str, str]) -> None:
    """Put the rows as a table at the page's place ``name``."""
    lines = ["| | |", "| --- | --- |", *(f"| {title} | {value} |" for title, value in rows.items())]
    put(name, "\n".join(lines))


def dated(seed: int, machine: str) -> str:
    """Return the first row's value."""
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}, {seed}, {machine}"


def mode(result: Result) -> str:
    """Return the name of the router's mode."""
    return "transactional" if result.transactional else "at-least-once"


def write_kills(result: Result) -> None:
    """Write the table of a run of kills."""
    verdict = result.verdict
    found = {
        "lost": len(verdict.lost),
        "made up": len(verdict.made_up),
        "in the wrong topic": len(verdict.misplaced),
        "out of order": len(verdict.disorder),
    }
    wrong = ", ".join(f"{count} {name}" for name, count in found.items() if count)
    repeated = "0 (each offset of ingress came out once)" if verdict.repeated == 0 else f"{verdict.repeated:,}"
    rows = {
        "Date, seed, machine": dated(result.seed, result.machine),
        "Broker, mode": f"{result.broker}, {mode(result)}",
        "Kills (-9) of the router": f"{result.kills:,}, one every {result.kill_seconds / max(1, result.kills):.2f} s",
        "of these while a batch was in flight": f"{result.in_flight:,}",
        "Broker restarts, half of them kills": f"{result.restarts}",
        "Rebalances under load": f"{result.rebalances}",
        "Sent": f"{verdict.sent:,} records at {result.rate:,}/s: {verdict.ids:,} ids, 10% duplicates, 1% poison",
        "Records that came out more than once, read_committed": repeated,
        "Distinct ids on the domain topics": f"{verdict.ids:,}" if not verdict.made_up else verdict.made_up[-1],
        "Dead letters": f"{verdict.dead:,}",
        "**Lost, made up, in the wrong topic, out of order**": f"**{wrong or 'none'}**",
        "Time": f"{result.seconds / 60:.0f} minutes",
    }
    write(f"router-kills-{mode(result)}", rows)
