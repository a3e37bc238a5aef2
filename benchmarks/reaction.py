"""From an event on the bus to its run's body: ``python benchmarks/reaction.py``.

Three instances of the same code location, each with the embedded broker and warehouse and ``dagster dev``:

- ``defaults``: Dagster's own instance defaults (queued coordinator, default launcher, one sensor thread);
- ``stock``: stock parts configured for reaction (default coordinator, default launcher, sensor threads);
- ``warm``: the same with ``services.launcher.WarmRunLauncher`` (deploy/embedded/dagster.yaml).

Events come one by one at random times, 6 to 12 s apart, whatever the sensor is doing then. The clock runs from before
the event is produced to the start of the landing step, by the event log of the instance.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from cli.stack import Stack, web_services
from cli.up import start_core
from resources.settings import Settings

_QUIET = "telemetry:\n  enabled: false\n"
_MODES = ("defaults", "stock", "warm")


def instance_config(mode: str, embedded: str) -> str:
    """Return the dagster.yaml of a mode; ``embedded`` is the text of ours."""
    if mode == "defaults":
        return _QUIET
    if mode == "stock":
        lines = embedded.splitlines()
        start = lines.index("run_launcher:")
        end = next(i for i in range(start + 1, len(lines)) if lines[i] and not lines[i].startswith(" "))
        # Monitoring asks the launcher for a worker's health, which the default launcher cannot tell.
        kept = "\n".join(lines[:start] + lines[end:])
        return kept.replace("run_monitoring:\n  enabled: true", "run_monitoring:\n  enabled: false")
    return embedded


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_for_step(instance: Any, after: float, seconds: float) -> float | None:
    """Return when the first landing step after ``after`` (seconds since 1970) started, or None in time."""
    from dagster import DagsterEventType, RunsFilter

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for record in instance.get_run_records(RunsFilter(job_name="landing"), limit=5):
            starts = instance.all_logs(record.dagster_run.run_id, of_type=DagsterEventType.STEP_START)
            times = [float(entry.timestamp) for entry in starts if entry.timestamp > after]
            if times:
                return min(times)
        time.sleep(0.05)
    return None


def measure(mode: str, events: int, seed: int) -> list[float]:
    """Return the reaction times (seconds) of single events in one mode."""
    import dagster as dg

    from events import codec
    from resources.kafka import KafkaResource

    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="isthmus-reaction-"))
    ports = free_ports(6)
    names = ("warehouse_port", "broker_port", "router_port", "dagster_port", "mlflow_port", "docs_port")
    settings = Settings(home=folder, **dict(zip(names, ports, strict=True)))  # type: ignore[arg-type]
    with Stack(settings) as stack:
        start_core(stack)
        config = folder / "dagster" / "dagster.yaml"
        config.write_text(instance_config(mode, config.read_text()))
        stack.start(web_services(settings)[0])
        producer = KafkaResource().producer(**{"linger.ms": 0})
        taken = []
        with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
            for number in track(range(events + 1), description=mode):
                saga = f"saga-{seed}-{number}"
                value = codec.encode(
                    "isthmus.saga.started", {"saga_type": "order"}, subject=saga, source="/benchmarks/reaction"
                )
                before = time.time()
                producer.produce("isthmus.sagas", value, key=saga)
                producer.flush(10)
                started = wait_for_step(instance, before, 120)
                if started is None:
                    raise RuntimeError(f"{mode}: an event was not landed within two minutes; see {stack.logs}")
                if number:  # the first one waits for the daemon to start
                    taken.append(started - before)
                time.sleep(rng.uniform(6, 12))
    shutil.rmtree(folder)  # after a failure the logs in it are needed
    return taken


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="not used: events are made here")
    parser.add_argument("--events", type=int, default=20, help="events a mode")
    parser.add_argument("--seeds", type=int, default=0, help="seed of the pauses")
    parser.add_argument("--modes", default=",".join(_MODES), help="which instances, by comma")
    parser.add_argument("--quick", action="store_true", help="three events, the warm instance only")
    arguments = parser.parse_args()
    modes = ("warm",) if arguments.quick else tuple(arguments.modes.split(","))
    events = 3 if arguments.quick else arguments.events
    table = Table("instance", "events", "p50 s", "min s", "max s", title="Event produced → run body executing")
    result: dict[str, Any] = {}
    for mode in modes:
        taken = measure(mode, events, arguments.seeds)
        p50 = statistics.median(taken)
        table.add_row(mode, str(len(taken)), f"{p50:.2f}", f"{min(taken):.2f}", f"{max(taken):.2f}")
        result |= {f"{mode}_p50_s": round(p50, 2), f"{mode}_max_s": round(max(taken), 2)}
    Console().print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
