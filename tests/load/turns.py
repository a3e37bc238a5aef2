"""``python -m tests.services --only postgres,redis,mongo python -m tests.load.turns``: an outage in the real shop.

Three times the same orders at the shop of real processes (``examples.shop.live``); 3 s after its start payment refuses
every call for ``--outage`` seconds. Without the advice service, with its advice, and with its turns: how the orders
ended. Prints a table, and JSON in the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from tests.conftest import ROOT, free_port, running
from tests.integration.examples.ingestion import ingestion
from tests.services.install import say

TOKEN = "a token of the tests"
ARMS = {"no service": ["--no-turns"], "advice": ["--no-turns"], "turns": []}


def ends(arm: str, folder: Path, given: argparse.Namespace) -> dict[str, int]:
    """Return how many orders came to what."""
    home, port, run = folder / "home", free_port(), secrets.token_hex(4)
    (home / "secrets").mkdir(parents=True)
    for name in ("advice-token", "ingest-token"):
        (home / "secrets" / name).write_text(TOKEN)
    server = os.environ["ISTHMUS_TEST_POSTGRES"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE shop_{run}")
    service = {
        "ISTHMUS_HOME": str(folder / "advice"),
        "ISTHMUS_ORCHESTRATOR_PORT": str(port),
        "ISTHMUS_WAREHOUSE_URL": f"http://127.0.0.1:{free_port()}",  # nobody: safe defaults, the same for both
        "ISTHMUS_ADVICE_TOKENS": json.dumps({"shop": TOKEN}),
        "ISTHMUS_ADVICE_STREAM": "false",
    }
    env = {
        **os.environ,
        "SHOP_POSTGRES": f"{server.rpartition('/')[0]}/shop_{run}",
        "SHOP_REDIS": os.environ["ISTHMUS_TEST_REDIS"],
        "SHOP_MONGO": f"{os.environ['ISTHMUS_TEST_MONGO'].rstrip('/')}/shop_{run}",
        "ISTHMUS_HOME": str(home),
    }
    with ingestion() as events, running("services.orchestrator", log=folder / "advice.log", env=service):
        command = [sys.executable, "-m", "examples.shop.live", "--run", run, "--orders", str(given.orders)]
        command += ["--rate", "6", "--pace", "20", "--deadline", "60", "--events", events.url, *ARMS[arm]]
        command += ["--advice", f"http://127.0.0.1:{port if arm != 'no service' else 9}"]
        with (folder / "shop.log").open("w") as log, subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log, text=True
        ) as shop:  # fmt: skip
            assert shop.stdout is not None
            payment = json.loads(shop.stdout.readline().partition(" ")[2])["payment"]
            time.sleep(3)
            httpx.put(
                f"{payment}/admin/faults",
                json=[{"kind": "crash", "severity": 1.0, "seconds": given.outage}],
                headers={"Authorization": f"Bearer {(home / 'secrets' / 'shop-admin-token').read_text()}"},
            ).raise_for_status()
            said, _ = shop.communicate(timeout=600)
    found: dict[str, int] = json.loads(said)
    return found


def main() -> int:
    """Run the arms; return the exit code: 1 where an order is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.turns", description=__doc__)
    parser.add_argument("--orders", type=int, default=120)
    parser.add_argument("--outage", type=float, default=20.0, help="seconds")
    given = parser.parse_args()
    results: dict[str, dict[str, int]] = {}
    for arm in ARMS:
        say(f"an outage of {given.outage:g} s, {arm}")
        with tempfile.TemporaryDirectory(prefix="isthmus-turns-") as name:
            results[arm] = ends(arm, Path(name), given)
    kinds = sorted({kind for one in results.values() for kind in one})
    table = Table("", *kinds, title=f"{given.orders} orders of 60 s each, payment refuses for {given.outage:g} s")
    for arm, one in results.items():
        table.add_row(arm, *(str(one.get(kind, 0)) for kind in kinds))
    Console().print(table)
    sys.stdout.write(json.dumps(results) + "\n")
    return int(any(sum(one.values()) != given.orders for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
