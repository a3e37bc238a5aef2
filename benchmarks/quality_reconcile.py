"""Reconciliation of a large table: ``python benchmarks/quality_reconcile.py [--data FILE] [--seeds N] [--quick]``.

A table of five million rows stands in PostgreSQL and in the embedded ClickHouse, with five differences at places that
the seed draws: a row that the warehouse lacks, one that it has too much, three with another value. Two parts:

- at rest: the exact rows, and the time beside ``count(*)`` on both sides, interleaved; and beside what data-diff did:
  one pass of MD5 over the row's text on both sides (without its way down to the rows);
- with writes: rows are inserted, updated and deleted all the time, and reach the warehouse a moment later; what counts
  is that the differences are found and no other.

PostgreSQL is started here (``ISTHMUS_TEST_POSTGRES`` names another). ``--data`` is a JSON file ``{"rows": …,
"columns": [{"name": …, "type": …, "nullable": share, "distinct": values}], "differences": {"missing": 1, "extra": 1,
"changed": 3}}``, or a folder with one; the first column is the key, a bigint. Nothing is prepared: no index, no column,
no trigger for checksums on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from rich.console import Console
from rich.table import Table as Printed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from assets.reconcile.engine import Report, describe, reconcile
from benchmarks._reconcile_world import AT_REST, DEFAULT, LIVE, SOURCE, World, Writes
from benchmarks.warehouse import warehouse as embedded
from ml.reconcile import clickhouse, postgres
from resources.postgres import PostgresResource
from resources.warehouse import WarehouseResource

AIM = 5.0
#: Turns of counting and reconciling, a draw.
REPEATS = 5
#: Seconds that the warehouse may follow behind in the part with writes; it does by half of it at most.
LAG = 3.0


def md5_pass(world: World) -> None:
    """What data-diff's first round did: a sum of MD5 over the row's text, by segment, on both sides."""
    key = postgres.quoted(world.key)
    names = [column["name"] for column in world.columns]
    text = " || '|' || ".join(f"coalesce({postgres.quoted(name)}::text, '')" for name in names)
    width = max(1, world.rows // 32)
    with psycopg.connect(world.url) as connection:
        connection.execute("SET jit = off")
        connection.execute(
            f"SELECT {key} / {width}, count(*), sum(('x' || substr(md5({text}), 18))::bit(60)::int8)"
            f" FROM {SOURCE} GROUP BY 1"
        ).fetchall()
    held = ", '|', ".join(f"ifNull(toString({clickhouse.quoted(name)}), '')" for name in names)
    world.warehouse.query_rows(
        f"SELECT intDiv({clickhouse.quoted(world.key)}, {width}) AS s, count(),"
        f" sum(bitAnd(reinterpretAsUInt64(substring(MD5(concat({held})), 9)), 1152921504606846975))"
        f" FROM {AT_REST} GROUP BY s"
    )


def used() -> float:
    """Return the processor's seconds, user and system, of this process and of both servers that it started."""
    mine = psutil.Process()
    times = [one.cpu_times() for one in (mine, *mine.children(recursive=True))]
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def counting(world: World) -> float:
    """Return the seconds of ``count(*)`` on both sides, by a connection that is open already."""
    with psycopg.connect(world.url) as connection:
        source = timed(lambda: connection.execute(f"SELECT count(*) FROM {SOURCE}").fetchone())
    return source + timed(lambda: world.warehouse.query_rows(f"SELECT count() FROM {AT_REST}"))


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def source() -> Iterator[str]:
    """Yield the URL of a PostgreSQL."""
    if given := os.environ.get("ISTHMUS_TEST_POSTGRES"):
        yield given
        return
    from tests.services import others

    with tempfile.TemporaryDirectory(prefix="isthmus-reconcile-") as folder:
        Path(folder).chmod(0o711)
        place = Path(folder) / "postgres"
        place.mkdir()
        url, stop = others.postgres(place)
        try:
            yield url
        finally:
            stop()


def found(report: Report) -> dict[int, str]:
    """Return key → class of what was found."""
    return {int(one.key): one.kind for one in report.real}


def _file(given: Path) -> Path:
    """Return the file, or the first JSON file of the folder."""
    return min(given.glob("*.json")) if given.is_dir() else given


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a JSON file that describes table and differences")
    parser.add_argument("--seeds", type=int, default=3, help="so many draws of the differences")
    parser.add_argument("--rows", type=int, help="rows of the table")
    parser.add_argument("--quick", action="store_true", help="300,000 rows, one seed")
    given = parser.parse_args()
    described = {**DEFAULT, **(json.loads(_file(given.data).read_text()) if given.data else {})}
    rows = given.rows or (300_000 if given.quick else int(described["rows"]))
    seeds = 1 if given.quick else given.seeds
    with ExitStack() as stack:
        url = stack.enter_context(source())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port, password, _, _ = stack.enter_context(embedded(Path(folder)))
        warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{port}")
        figures = measure(World(described, url, warehouse, rows), seeds)
    show(figures, rows)
    print(json.dumps(figures))


def measure(world: World, seeds: int) -> dict[str, Any]:
    """Return the figures of both parts."""
    resource = PostgresResource(url=world.url)
    exact, wrong_live, in_flight, writes = True, 0, 0, 0
    times: dict[str, list[float]] = {name: [] for name in ("ours", "count", "ours_cpu", "count_cpu", "md5", "live")}
    stages: dict[str, float] = {}
    for seed in range(seeds):
        world.build()
        world.copy(AT_REST, "MergeTree")
        world.copy(LIVE, "ReplacingMergeTree(version_, deleted_)", ", version_ UInt64, deleted_ UInt8")
        expected = world.break_(AT_REST, seed)
        table, drift = describe(resource, world.warehouse, SOURCE, AT_REST)
        for _ in range(REPEATS):
            before = used()
            times["count"].append(counting(world))
            between = used()
            report = reconcile(resource, world.warehouse, table, drift=drift)
            times["ours"].append(report.seconds)
            times["count_cpu"].append(between - before)
            times["ours_cpu"].append(used() - between)
            stages = report.stages
            exact &= found(report) == expected and not drift
        times["md5"].append(timed(lambda: md5_pass(world)))
        # The live table was copied before the differences: those made at the source show in it, the others do not.
        table, _ = describe(resource, world.warehouse, SOURCE, LIVE, ("version_", "deleted_"))
        standing = found(reconcile(resource, world.warehouse, table))
        exact &= set(standing.items()) <= set(expected.items())
        with Writes(world, set(expected), seed) as going:
            time.sleep(1.0)
            live = reconcile(resource, world.warehouse, table, lag=LAG)
        if going.error:
            raise going.error
        times["live"].append(live.seconds)
        wrong_live += len(set(found(live).items()) ^ set(standing.items()))
        in_flight, writes = in_flight + live.in_flight, writes + going.applied
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = [ours / count for ours, count in zip(times["ours"], times["count"], strict=True)]
    return {
        "exact": exact,
        "seconds": round(middle["ours"], 3),
        "ratio_to_count": round(statistics.median(ratios), 2),
        "ratio_first": round(ratios[0], 2),
        "ratio_of_cpu": round(middle["ours_cpu"] / middle["count_cpu"], 2),
        "cpu_seconds": round(middle["ours_cpu"], 3),
        "count_seconds": round(middle["count"], 3),
        "count_cpu_seconds": round(middle["count_cpu"], 3),
        "md5_pass_seconds": round(middle["md5"], 3),
        "ratio_of_md5_pass": round(middle["md5"] / middle["count"], 2),
        "false_differences_live": wrong_live,
        "in_flight_live": in_flight,
        "writes_live": writes,
        "live_seconds": round(middle["live"], 3),
        "seeds": seeds,
        **{f"stage_{name}": round(seconds, 3) for name, seconds in stages.items()},
    }


def show(figures: dict[str, Any], rows: int) -> None:
    """Print the table for people."""
    printed = Printed(title=f"{rows:,} rows, {figures['seeds']} draws, {os.cpu_count()} cores")
    for name in ("", "seconds", "× count(*)", "CPU seconds", "× count(*)", ""):
        printed.add_column(name)
    counted = f"{figures['count_seconds']:.3f}", "1", f"{figures['count_cpu_seconds']:.2f}", "1", ""
    printed.add_row("count(*) on both sides", *counted)
    met = "met" if figures["ratio_to_count"] <= AIM else f"MISSED: the aim is {AIM:g}"
    rows_found = "exact rows found" if figures["exact"] else "WRONG ROWS"
    printed.add_row(
        "reconciled",
        f"{figures['seconds']:.3f}",
        f"{figures['ratio_to_count']:.2f}",
        f"{figures['cpu_seconds']:.2f}",
        f"{figures['ratio_of_cpu']:.2f}",
        f"{rows_found}; {met}",
    )
    md5 = f"{figures['md5_pass_seconds']:.3f}", f"{figures['ratio_of_md5_pass']:.2f}"
    printed.add_row("one pass of MD5", *md5, "", "", "no rows yet")
    live = f"{figures['false_differences_live']} false or lost; {figures['in_flight_live']} rows were in flight"
    printed.add_row("with writes going on", f"{figures['live_seconds']:.3f}", "", "", "", live)
    Console(width=120).print(printed)


if __name__ == "__main__":
    main()
