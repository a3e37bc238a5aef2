"""The long form's result as the table of ``docs/operations/exactness.md``.

What belongs here: the words and the place of the table. What does not: the run itself (``soak``).
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT
from tests.load.soak import Result

PAGE = ROOT / "docs" / "operations" / "exactness.md"


def table(result: Result) -> str:
    """Return the result as a Markdown table."""
    verdict, replay = result.verdict, result.replay
    kills = Counter(str(kill["target"]) for kill in result.kills)
    rows = {
        "Date, seed, machine": f"{time.strftime('%Y-%m-%d', time.gmtime())}, {result.seed}, {result.machine}",
        "Broker": result.kafka,
        "Sent": f"{replay.sent:,} records: {replay.distinct:,} events of {replay.sagas:,} sagas, "
        f"{replay.duplicates:,} duplicates; {replay.late:,} of the events late",
        "Kills (-9)": f"{len(result.kills)}: " + ", ".join(f"{count} {name}" for name, count in kills.most_common()),
        "of these while a batch was in flight": str(result.in_flight),
        "dbt builds beside the landing": f"{result.builds}, {result.builds_killed} of them killed",
        "Ranges landed": f"{result.ranges}, then all offsets again in {result.ranges_again} ranges cut elsewhere",
        "Offsets on the domain topics": f"{verdict.offsets:,}",
        "Rows of raw through its staging view": f"{verdict.raw_rows:,}, each compared byte by byte (CRC-32)",
        "Events in staging": f"{verdict.events:,} ({replay.distinct:,} distinct ids sent)",
        "Figures compared with the oracle": f"{sum(verdict.figures.values()):,} in {len(verdict.figures)} tables",
        "**Lost, doubled, different**": "**none**" if not verdict.differences else "; ".join(verdict.differences[:10]),
        "Time": f"{result.seconds / 60:.0f} minutes",
    }
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)


def write(result: Result, page: Path = PAGE) -> None:
    """Put the table between the page's marks for the broker that was used."""
    put(result.kafka.lower().replace(" ", "-"), table(result), page)


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Put ``text`` between the page's marks ``name`` and ``end of name``; raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no place for {name}: it needs {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
