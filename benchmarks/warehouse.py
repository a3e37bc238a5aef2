"""Speed of the embedded warehouse: inserts, reads, the latency of a small query, start, memory.

``uv run python benchmarks/warehouse.py [--quick]``. The floor of an insert is the same rows made inside the engine
(INSERT SELECT FROM numbers): what remains is HTTP, parsing and our server.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
import httpx
import psutil
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def warehouse(folder: Path) -> Iterator[tuple[int, str, float, psutil.Process]]:
    """Yield (port, password, seconds to start, process) of a server of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    password = secrets.token_urlsafe(12)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.embedded.warehouse", "--path", str(folder / "data"), "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "ISTHMUS_WAREHOUSE_PASSWORD": password, "ISTHMUS_HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        yield port, password, time.perf_counter() - began, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def rate(rows: int, runs: int, work: Callable[[], object]) -> float:
    """Return rows per second, the median of ``runs``."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return rows / statistics.median(seconds)


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=1, help="accepted for uniformity; nothing here is random")
    parser.add_argument("--data", help="accepted for uniformity; the rows are made here")
    quick = parser.parse_args().quick
    rows, runs = (200_000, 3) if quick else (1_000_000, 5)
    payload = "x" * 150
    lines = b"".join(b'{"id":%d,"kind":"k%d","value":"%s"}\n' % (n, n % 7, payload.encode()) for n in range(rows))
    table = pa.table(
        {
            "id": pa.array(range(rows), pa.uint64()),
            "kind": pa.array([f"k{n % 7}" for n in range(rows)]),
            "value": pa.array([payload] * rows),
        }
    )
    with tempfile.TemporaryDirectory() as folder, warehouse(Path(folder)) as (port, password, start, process):
        client = clickhouse_connect.get_client(host="127.0.0.1", port=port, username="isthmus", password=password)
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("isthmus", password), timeout=120)
        idle = process.memory_info().rss >> 20
        columns = "id UInt64, kind LowCardinality(String), value String"
        client.command(f"CREATE TABLE t ({columns}) ENGINE = MergeTree ORDER BY id")

        def insert_lines() -> None:
            http.post("/", params={"query": "INSERT INTO t FORMAT JSONEachRow"}, content=lines).raise_for_status()

        def latency(send: Callable[[], object], count: int) -> list[float]:
            seconds = []
            for _ in range(count):
                began = time.perf_counter()
                send()
                seconds.append((time.perf_counter() - began) * 1000)
            return sorted(seconds)

        inside = (
            f"INSERT INTO t SELECT number, concat('k', toString(number % 7)), repeat('x', 150) FROM numbers({rows})"
        )
        query = f"SELECT * FROM t LIMIT {rows}"
        figures = {
            "insert_floor_rows_per_s": rate(rows, runs, lambda: client.command(inside)),
            "insert_jsoneachrow_rows_per_s": rate(rows, runs, insert_lines),
            "insert_arrow_rows_per_s": rate(rows, runs, lambda: client.insert_arrow("t", table)),
            "read_native_rows_per_s": rate(rows, runs, lambda: client.query(query).result_columns),
            "read_arrow_rows_per_s": rate(rows, runs, lambda: client.query_arrow(query)),
        }
        count = 200 if quick else 1000
        for name, send in (
            ("http", lambda: http.post("/", content="SELECT 1")),
            ("client", lambda: client.query("SELECT 1")),
        ):
            found = latency(send, count)
            figures[f"select_1_{name}_p50_ms"] = found[len(found) // 2]
            figures[f"select_1_{name}_p99_ms"] = found[int(len(found) * 0.99)]
        found = latency(lambda: client.command("INSERT INTO t SELECT 1, 'k', 'x'"), 100)
        figures["small_insert_p50_ms"] = found[50]
        figures.update(start_seconds=start, rss_idle_mb=idle, rss_after_mb=process.memory_info().rss >> 20)
    print(f"{rows} rows of {len(lines) // rows} bytes as JSON, {os.cpu_count()} cores")
    for name, value in figures.items():
        print(f"  {name:<32} {value:>14,.2f}")
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
