"""``python -m tests.load.ingest``: k6 against the HTTP ingestion of a running router, and a count of what came of it.

It starts a broker (or takes that of ``ISTHMUS_TEST_KAFKA``) and a router, runs ``k6/ingest.js`` in each mode, open
model first and then closed, and compares with what stands on the topics: every event that was answered with 202 is in
ingress and on its own topic once, and no refused one is anywhere. Exit code 1 where that does not hold, or where a
check of k6 failed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from events.catalogue import DEAD_LETTER, INGRESS, SAGAS
from resources.kafka import KafkaResource
from tests.conftest import free_port, running
from tests.integration.router.bus import Reader, Router, router
from tests.load.generator import run as run_k6
from tests.services.install import k6, say

TOKEN = secrets.token_urlsafe(24)
CLIENTS = 16


@dataclass(frozen=True)
class Outcome:
    """One run of k6: its figures, the ids that were accepted, and whether all its checks held."""

    mode: str
    model: str
    requests_per_second: float
    median: float
    p99: float
    accepted: Counter[str]
    dropped: int
    sound: bool


def load(at: Router, mode: str, folder: Path, *, rate: int, seconds: int, clients: int) -> Outcome:
    """Run k6 in one mode; ``clients`` 0: the open model."""
    run = f"{mode}-{secrets.token_hex(3)}"
    done = run_k6(
        "ingest.js",
        folder,
        base_url=at.address,
        token=TOKEN,
        mode=mode,
        run=run,
        rate=rate,
        duration=seconds,
        vus=clients,
    )
    accepted: Counter[str] = Counter()
    for line in done.console.splitlines():
        if "accepted:" in line:
            _, request, count = line[line.index("accepted:") :].rstrip('"').split(":")[:3]
            accepted.update(f"{run}-{request}-{index}" for index in range(int(count.split('"')[0])))
    duration = done.metrics["http_req_duration"]
    return Outcome(
        mode,
        f"{clients} clients" if clients else f"{rate} a second",
        done.metrics["http_reqs"]["rate"],
        duration["med"],
        duration["p(99)"],
        accepted,
        done.count("dropped_iterations"),
        done.sound,
    )


def differences(bootstrap: str, accepted: Counter[str], runs: set[str]) -> list[str]:
    """Return what differs between the accepted events and the topics, once all of them have arrived."""
    reader, found = Reader(bootstrap, (INGRESS, SAGAS, DEAD_LETTER)), {t: Counter[str]() for t in (INGRESS, SAGAS)}
    position, buried = 0, 0

    def whole(_: object) -> bool:
        nonlocal position, buried
        for record in reader.records[position:]:
            if (record.key or b"").decode().rpartition("-")[0] in runs:
                if record.topic == DEAD_LETTER:
                    buried += 1
                else:
                    found[record.topic][json.loads(record.value or b"")["id"]] += 1
        position = len(reader.records)
        return found[SAGAS].keys() >= accepted.keys()

    reader.until(whole, 120)
    reader.close()
    problems = [f"{topic}: {count} times {id}" for topic in found for id, count in (found[topic] - accepted).items()]
    problems += [f"{topic}: not there: {id}" for topic in found for id in accepted - found[topic]]
    return problems + ([f"{buried} dead letters"] if buried else [])


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Yield the bootstrap servers of the broker to use."""
    if servers := os.environ.get("ISTHMUS_TEST_KAFKA"):
        yield servers
        return
    port = free_port()
    arguments = ("--path", str(folder / "broker"), "--port", str(port))
    with running("services.embedded.broker", *arguments, log=folder / "broker.log"):
        yield f"127.0.0.1:{port}"


def main() -> int:
    """Run all modes; print a table, and JSON in the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.ingest", description=__doc__)
    parser.add_argument("--rate", type=int, default=100, help="requests a second in the open model")
    parser.add_argument("--seconds", type=int, default=10, help="length of each of the runs")
    given = parser.parse_args()
    k6()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="isthmus-k6-") as name, broker(Path(name)) as bootstrap:
        KafkaResource(bootstrap=bootstrap).ensure_topics()
        with router(bootstrap, Path(name), ingest_tokens=json.dumps({"k6": TOKEN})) as at:
            for clients in (0, CLIENTS):
                for mode in ("health", "single", "batch", "mixed"):
                    say(f"k6: {mode}, {'closed' if clients else 'open'} model")
                    outcomes.append(load(at, mode, Path(name), rate=given.rate, seconds=given.seconds, clients=clients))
            accepted = sum((each.accepted for each in outcomes), Counter[str]())
            runs = {id.rsplit("-", 2)[0] for id in accepted}
            problems = differences(bootstrap, accepted, runs)
    unsound = [f"{each.mode}, {each.model}" for each in outcomes if not each.sound]
    lines = [
        *table(outcomes),
        f"{len(accepted):,} events accepted; on the topics: {'each once' if not problems else problems[:10]}",
        *(f"checks of k6 failed: {each}" for each in unsound),
    ]
    figures = [
        {
            "mode": each.mode,
            "model": each.model,
            "requests_per_second": round(each.requests_per_second, 1),
            "events_per_second": round(len(each.accepted) / given.seconds, 1),
            "median_ms": round(each.median, 2),
            "p99_ms": round(each.p99, 2),
            "dropped": each.dropped,
        }
        for each in outcomes
    ]
    lines.append(json.dumps({"accepted": len(accepted), "differences": len(problems), "runs": figures}))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if problems or unsound else 0


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the rows of the table; a ratio is to /health in the same model."""
    names = ("model", "mode", "requests/s", "ratio", "median ms", "ratio", "p99 ms", "ratio")
    yield "{:<14}{:<8}{:>11}{:>7}{:>11}{:>7}{:>9}{:>8}".format(*names)
    for each in outcomes:
        bare = next(other for other in outcomes if other.model == each.model and other.mode == "health")
        yield (
            f"{each.model:<14}{each.mode:<8}"
            f"{each.requests_per_second:>11.0f}{each.requests_per_second / bare.requests_per_second:>7.2f}"
            f"{each.median:>11.2f}{each.median / bare.median:>7.2f}"
            f"{each.p99:>9.2f}{each.p99 / bare.p99:>8.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
