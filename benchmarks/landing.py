"""From topic to queryable row: ``python benchmarks/landing.py [--data PATH] [--quick]``.

A million events of shop traffic (or of the data set in ``--data``) stand in the domain topics of an embedded broker.
Three arms, interleaved, each in a fresh process whose clients are cold and whose modules are loaded:

- ``landing``: what a landing run does, from the request (exact ranges) to the ledger's row, and then the count by a
  reader; the warehouse's own table and settings;
- ``floor_read``: the bare client reads the same ranges and does nothing with them;
- ``floor_insert``: the same bytes, built beforehand and in the same blocks, inserted into the same table by the same
  number of connections, and the same count.

Every arm starts with an empty table and waits until the warehouse has nothing left to merge from the one before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets.landing.pipeline import INSERTS, blocks, land, table
from events.catalogue import DOMAIN_TOPICS
from resources.kafka import KafkaResource
from resources.ledger import Range
from resources.migrate import migrate
from resources.ranges import Span
from resources.warehouse import WarehouseResource

EVENTS = 1_000_000
BLOCK = 50_000
ARMS = ("floor_read", "floor_insert", "landing")
_ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def service(module: str, folder: Path, env: dict[str, str]) -> Iterator[int]:
    """Run an embedded service on a free port until the block ends; yield the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--path", str(folder / "data"), "--port", str(port)],
            cwd=_ROOT,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        if not any(line.startswith("ready") for line in process.stdout):
            raise SystemExit(f"{module} did not start: {(folder / 'log').read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def fill(bootstrap: str, data: str | None, events: int) -> list[Range]:
    """Bring ``events`` events onto the domain topics, past the router, and return the ranges that they take."""
    from examples.datasets import open_folder
    from examples.replay import replay
    from examples.shop import traffic

    kafka = KafkaResource(bootstrap=bootstrap)
    source = open_folder(data) if data else traffic(days=events / 160_000)
    kafka.ensure_topics()
    while (there := _committed(kafka)) < events:
        replay(source, bootstrap=kafka.bootstrap, topic=None, limit=min(events - there, len(source)))
        # A source that is too short is played again: the records are new ones, with offsets of their own.
    marks = kafka.watermarks_of(kafka.topics(DOMAIN_TOPICS).values())
    return [
        Range(topic, partition, low, high) for (topic, partition), (low, high) in sorted(marks.items()) if high > low
    ]


def _committed(kafka: KafkaResource) -> int:
    return sum(high - low for low, high in kafka.watermarks_of(kafka.topics(DOMAIN_TOPICS).values()).values())


def readable(warehouse: WarehouseResource, rows: int, generation: int) -> None:
    """Count what a reader sees; raise where it is not all of it."""
    sql = "SELECT count() AS rows FROM raw.events WHERE generation = {generation:UInt16}"
    there = warehouse.query_rows(sql, {"generation": generation})[0]["rows"]
    if there != rows:
        raise SystemExit(f"{there} rows are there, not {rows}")


def landing(bootstrap: str, url: str, ranges: list[Range]) -> tuple[float, int]:
    """Land ``ranges`` and return (seconds, rows)."""
    began = time.perf_counter()
    warehouse = WarehouseResource(url=url)
    landed = land(ranges, bus=KafkaResource(bootstrap=bootstrap), warehouse=warehouse, block_events=BLOCK)
    rows = sum(one.rows for one in landed)
    readable(warehouse, rows, ranges[0].generation)
    return time.perf_counter() - began, rows


def floor_read(bootstrap: str, _url: str, ranges: list[Range]) -> tuple[float, int]:
    """Read ``ranges`` with librdkafka's own loop and options for bulk, and return (seconds, records)."""
    from confluent_kafka import Consumer, TopicPartition

    began = time.perf_counter()
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "floor",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.min.messages": 1_000_000,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
        }
    )
    reader.assign([TopicPartition(one.topic, one.partition, one.from_offset) for one in ranges])
    records, wanted = 0, sum(one.width for one in ranges)
    while records < wanted:
        records += len(reader.consume(min(5000, wanted - records), 1.0))
    seconds = time.perf_counter() - began
    reader.close()
    return seconds, records


def floor_insert(bootstrap: str, url: str, ranges: list[Range]) -> tuple[float, int]:
    """Insert the blocks of ``ranges``, built before the clock starts, and return (seconds, rows)."""
    import pyarrow as pa

    kafka = KafkaResource(bootstrap=bootstrap)
    bodies: list[tuple[list[str], Any, str]] = []
    rows = 0
    spans = [Span(one.topic, one.partition, one.from_offset, one.to_offset) for one in ranges]
    for _, block in blocks(ranges, kafka.read_ranges(spans), size=BLOCK):
        data = table(block, landed_at_ms=0)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, data.schema) as writer:
            writer.write_table(data)
        bodies.append((data.schema.names, sink.getvalue(), block.span.landing_id))
        rows += block.rows

    began = time.perf_counter()
    warehouse = WarehouseResource(url=url)
    with ThreadPoolExecutor(INSERTS) as pool:
        for done in pool.map(
            lambda body: warehouse.insert_stream(
                "raw.events", body[0], body[1], token=body[2], settings={"optimize_on_insert": 0}
            ),
            bodies,
        ):
            assert done is None
    readable(warehouse, rows, ranges[0].generation)
    return time.perf_counter() - began, rows


def in_fresh_process(arm: str, bootstrap: str, url: str, ranges: list[Range]) -> tuple[float, int]:
    """Run an arm in a process of its own: modules loaded, no client made yet."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: tuple[float, int] = pool.apply(_arm, (arm, bootstrap, url, ranges))
    return result


def _arm(arm: str, bootstrap: str, url: str, ranges: list[Range]) -> tuple[float, int]:
    import clickhouse_connect
    import confluent_kafka
    import confluent_kafka.admin
    import numpy
    import pyarrow

    # Loaded before the clock starts, as in a worker of the warm pool.
    assert all((clickhouse_connect, confluent_kafka, numpy, pyarrow))
    run: Callable[[str, str, list[Range]], tuple[float, int]] = globals()[arm]
    return run(bootstrap, url, ranges)


def empty(warehouse: WarehouseResource) -> None:
    """Empty the table and wait for its merges, so that an arm does not pay for the one before."""
    warehouse.command("TRUNCATE TABLE raw.events", idempotent=True)
    while warehouse.query_rows("SELECT count() AS merges FROM system.merges")[0]["merges"]:
        time.sleep(0.2)


def main() -> None:
    """Run the arms and print their table and the line of figures."""
    parser = argparse.ArgumentParser(description="From topic to queryable row.")
    parser.add_argument("--data", help="folder of a data set, instead of shop traffic")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer events and runs, within a minute")
    options = parser.parse_args()
    events, runs = (100_000, 3) if options.quick else (options.events, options.runs)

    console = Console()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-landing-")))
        password = secrets.token_urlsafe(12)
        env = {"ISTHMUS_HOME": str(home), "ISTHMUS_WAREHOUSE_PASSWORD": password}
        warehouse_port = stack.enter_context(service("services.embedded.warehouse", home / "warehouse", env))
        broker_port = stack.enter_context(service("services.embedded.broker", home / "broker", env))
        url, bootstrap = f"http://isthmus:{password}@127.0.0.1:{warehouse_port}", f"127.0.0.1:{broker_port}"
        warehouse = WarehouseResource(url=url)
        migrate(warehouse)
        # In a process of its own, so that its producer ends before the broker does.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            ranges = pool.apply(fill, (bootstrap, options.data, events))
        seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
        rows = 0
        for number in range(runs):
            for turn, arm in enumerate(ARMS):
                empty(warehouse)
                # A generation of its own: a token that was seen before would make the insert free.
                own = [replace(one, generation=1 + number * len(ARMS) + turn) for one in ranges]
                took, rows = in_fresh_process(arm, bootstrap, url, own)
                seconds[arm].append(took)
        report(console, rows, seconds)


def report(console: Console, rows: int, seconds: dict[str, list[float]]) -> None:
    """Print the table and, last, one line of JSON."""
    rates = {arm: sorted(rows / took for took in times) for arm, times in seconds.items()}
    median = {arm: statistics.median(values) for arm, values in rates.items()}
    slower = min(median["floor_read"], median["floor_insert"])
    grid = Table(title=f"{rows:,} events, topic to queryable row; median of {len(rates['landing'])} interleaved runs")
    for column in ("arm", "events/s", "lowest", "highest", "to slower floor"):
        grid.add_column(column, justify="left" if column == "arm" else "right")
    for arm in ARMS:
        low, high = rates[arm][0], rates[arm][-1]
        grid.add_row(arm, f"{median[arm]:,.0f}", f"{low:,.0f}", f"{high:,.0f}", f"{median[arm] / slower:.2f}")
    console.print(grid)
    figures = {
        "events_per_s": round(median["landing"]),
        "floor_read": round(median["floor_read"]),
        "floor_insert": round(median["floor_insert"]),
        "ratio_to_slower_floor": round(median["landing"] / slower, 3),
        "events": rows,
        "runs": len(rates["landing"]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
