"""From a burst of failures on Kafka to a new policy at the advice service: ``python benchmarks/burst.py``.

One real instance: embedded broker and warehouse, ``dagster dev`` (daemon, sensors, warm runs), the advice service.
Orders come all the time; a burst is a stretch in which most charges at ``payment`` fail. The clock starts before its
first event is produced. Legs: the burst sensor's tick that requested the analysis, that run's start, the incident's
row, the policy's run requested (its events had landed), the decision published, and the first answer of
``POST /v1/sagas/order/advice`` that names it. ``--quick``: one burst.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.reaction import free_ports
from cli.stack import Stack, advice_service, web_services
from cli.up import start_core, terminable
from resources.settings import Settings

LEGS = ("tick", "analysis_starts", "incident", "policy_requested", "policy_published", "in_force")
STEPS = (
    ("reserve_stock", "inventory", 0.4),
    ("charge_payment", "payment", 1.1),
    ("send_confirmation", "notification", 0.2),
)
SOURCE, TOPIC = "/benchmarks/burst", "isthmus.sagas"
#: Seconds without a burst that a new one needs before it.
QUIET = 60.0


class Orders(threading.Thread):
    """Whole orders at ``rate`` a second, until stopped; ``share`` of the charges fail, each attempt by itself."""

    def __init__(self, producer: Any, *, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.share, self.number = 0.06, 0
        self._producer, self._rate, self._random = producer, rate, random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Send, in step with the clock."""
        due = time.monotonic()
        while not self._ended.is_set():
            self.send(time.time())
            due += 1 / self._rate
            self._ended.wait(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Stop after the order that is being sent."""
        self._ended.set()
        self.join(10)
        self._producer.flush(10)

    def send(self, ended: float) -> None:
        """Send the events of one order that ended at that time, s since 1970."""
        from events import codec

        self.number += 1
        saga, draw = f"burst-{os.getpid()}-{self.number}", self._random
        rows, reason, clock = self._course(draw)
        begin = ended - clock
        events = [
            (
                "isthmus.saga.started",
                0.0,
                {"saga_type": "order", "amount": round(draw.lognormvariate(3.3, 0.7), 2), "currency": "EUR"},
            )
        ]
        events += [("isthmus.saga.step", at, {"saga_type": "order", **row}) for at, row in rows]
        if reason:
            events.append(("isthmus.saga.aborted", clock, {"saga_type": "order", "reason": reason}))
        else:
            events.append(("isthmus.saga.completed", clock, {"saga_type": "order", "outcome": "confirmed"}))
        for place, (kind, at, data) in enumerate(events):
            when = datetime.fromtimestamp(begin + at, UTC)
            value = codec.encode(kind, data, subject=saga, source=SOURCE, id=f"{saga}/{place}", time=when)
            self._producer.produce(TOPIC, value, key=saga)
        self._producer.poll(0)

    def _course(self, draw: random.Random) -> tuple[list[tuple[float, dict[str, Any]]], str, float]:
        """Return the step events with their times from the start, the reason of an abort, and the time of the end."""
        rows: list[tuple[float, dict[str, Any]]] = []
        clock, done = 0.01, []
        for step, participant, usual in STEPS:
            for attempt in (1, 2, 3):
                base = {"step": step, "participant": participant, "attempt": attempt}
                load = float(draw.randint(1, 12))
                took = usual * draw.lognormvariate(0.0, 0.35)
                fails = draw.random() < (self.share if participant == "payment" else 0.02)
                rows.append((clock, {**base, "status": "scheduled"}))
                rows.append((clock + 0.01, {**base, "status": "started", "load": load}))
                clock += 0.01 + took
                status = {"status": "failed", "error": "ServiceUnavailable"} if fails else {"status": "completed"}
                rows.append((clock, {**base, **status, "duration_ms": round(took * 1000, 3)}))
                if not fails:
                    done.append((step, participant))
                    break
                if attempt < 3:
                    rows.append((clock + 0.001, {**base, "status": "retried"}))
                    clock += 0.2
            else:
                for undone, who in reversed(done):
                    clock += 0.1
                    rows.append((clock, {"step": undone, "participant": who, "attempt": 1, "status": "compensated"}))
                return rows, "technical", clock + 0.01
            clock += 0.005
        return rows, "", clock + 0.01


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Send what this process and its children print to a file: dbt's lines would bury the table."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with log.open("ab") as sink:
            for number in (1, 2):
                os.dup2(sink.fileno(), number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in enumerate(kept, start=1):
            os.dup2(saved, number)
            os.close(saved)


def in_force(settings: Settings, token: str) -> str | None:
    """Return the decision that an answer of the advice service rests on."""
    question = {"saga_id": "probe", "started_at": datetime.now(UTC).isoformat()}
    reply = httpx.post(
        f"http://127.0.0.1:{settings.orchestrator_port}/v1/sagas/order/advice",
        json=question,
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    found: str | None = reply.raise_for_status().json().get("decision_id")
    return found


def until(ask: Any, seconds: float, what: str, *, every: float = 0.1) -> Any:
    """Return the first answer that is not empty; raises where none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(every)
    raise RuntimeError(f"no {what} within {seconds:.0f} s")


def one_burst(  # noqa: PLR0917 (where it looks, and what it causes)
    instance: Any, warehouse: Any, settings: Settings, token: str, orders: Orders, seconds: float
) -> dict[str, float]:
    """Cause a burst, follow it to the advice service, and return each leg in seconds from its first event."""
    from dagster import DagsterEventType, RunsFilter

    def newest(job: str, after: float) -> Any:
        records = instance.get_run_records(RunsFilter(job_name=job), limit=1)
        return records[0] if records and records[0].create_timestamp.timestamp() > after else None

    def row(sql: str, **parameters: Any) -> Any:
        rows = warehouse.query_rows(sql, parameters)
        return rows[0] if rows else None

    began = time.time()
    orders.share = 0.8
    analysis = until(lambda: newest("saga_burst", began), seconds, "analysis")
    run = analysis.dagster_run.run_id
    burst = analysis.dagster_run.tags["isthmus/burst"]
    started = until(
        lambda: instance.all_logs(run, of_type=DagsterEventType.STEP_START), seconds, "start of the analysis"
    )
    incident = until(
        lambda: row("SELECT at, subject, summary FROM ops.incidents FINAL WHERE incident_id = {id:String}", id=burst),
        seconds,
        "incident",
    )
    policy = until(lambda: newest("policy_after_burst", began), seconds, "request of a policy")
    sql = (
        "SELECT decision_id, min(e.at) AS published FROM ops.decisions AS d FINAL JOIN ops.decision_events AS e"
        " USING (decision_id) WHERE d.run_id = {run:String} AND d.subject = 'order'"
        " AND e.event IN ('published', 'refused') GROUP BY decision_id"
    )
    decision = until(lambda: row(sql, run=policy.dagster_run.run_id), seconds, "decision")
    orders.share = 0.06
    told = str(decision["decision_id"])
    until(lambda: in_force(settings, token) == told, 60, f"answer that rests on decision {told}: was it refused?")
    ended = time.time()

    def since(at: Any) -> float:
        return float((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - began)

    print(f"  {incident['summary']}; blamed: {incident['subject']}", file=sys.stderr, flush=True)
    return {
        "tick": since(analysis.create_timestamp),
        "analysis_starts": float(started[0].timestamp) - began,
        "incident": since(incident["at"]),
        "policy_requested": since(policy.create_timestamp),
        "policy_published": since(decision["published"]),
        "in_force": ended - began,
    }


def measure(bursts: int, rate: float, seed: int) -> list[dict[str, float]]:
    """Return the legs of each burst; every process is ended, whatever happens."""
    import dagster as dg

    folder = Path(tempfile.mkdtemp(prefix="isthmus-burst-"))
    names = ("warehouse", "broker", "router", "dagster", "mlflow", "docs", "orchestrator")
    ports = {f"{name}_port": port for name, port in zip(names, free_ports(len(names)), strict=True)}
    os.environ["ISTHMUS_BURST_QUIET_SECONDS"] = str(QUIET)
    settings = Settings(home=folder, **ports)  # type: ignore[arg-type]
    found: list[dict[str, float]] = []
    with terminable(), Stack(settings) as stack:
        start_core(stack)
        os.environ.update({name: value for name, value in stack.environment().items() if name.startswith("ISTHMUS_")})
        from resources.kafka import KafkaResource
        from resources.settings import get_settings
        from resources.warehouse import WarehouseResource

        get_settings.cache_clear()
        orders = Orders(KafkaResource().producer(**{"linger.ms": 5}), rate=rate, seed=seed)
        now = time.time()
        for place in range(1500):  # five hours before, so that there is something to decide from
            orders.send(now - 18_000 + place * 11.9)
        orders.start()
        try:
            print("a first policy", file=sys.stderr, flush=True)
            with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
                from definitions import defs

                with output_to(folder / "logs" / "first-policy.log"):
                    for job in ("landing", "policy_after_burst"):
                        defs.resolve_job_def(job).execute_in_process(instance=instance)
                stack.start(advice_service(settings))
                token = get_settings().advice_secrets()["default"]
                until(lambda: in_force(settings, token), 60, "first policy at the advice service")
                stack.start(web_services(settings)[0])
                time.sleep(30)  # the sensors have begun, and know what is usual
                for number in range(bursts):
                    print(f"burst {number + 1}", file=sys.stderr, flush=True)
                    found.append(one_burst(instance, WarehouseResource(), settings, token, orders, 180))
                    if number + 1 < bursts:
                        time.sleep(QUIET + 30)
        finally:
            orders.close()
    shutil.rmtree(folder)  # after a failure the logs in it are needed
    return found


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="not used: orders are made here")
    parser.add_argument("--bursts", type=int, default=5)
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second")
    parser.add_argument("--seeds", type=int, default=0, help="seed of the orders")
    parser.add_argument("--quick", action="store_true", help="one burst")
    options = parser.parse_args()
    legs = measure(1 if options.quick else options.bursts, options.rate, options.seeds)
    load = os.getloadavg()[0]
    table = Table(
        "leg",
        "p50 s",
        "max s",
        title=f"Seconds from a burst's first event ({len(legs)} bursts, {options.rate:g} orders/s)",
    )
    line: dict[str, Any] = {"benchmark": "burst", "bursts": len(legs), "load_average": round(load, 1)}
    for leg in LEGS:
        taken = [one[leg] for one in legs]
        table.add_row(leg.replace("_", " "), f"{statistics.median(taken):.1f}", f"{max(taken):.1f}")
        line |= {f"{leg}_p50_s": round(statistics.median(taken), 2), f"{leg}_max_s": round(max(taken), 2)}
    Console().print(table, f"load average of the machine at the end: {load:.1f} on {os.cpu_count()} cores")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
