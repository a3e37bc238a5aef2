"""``python -m tests.load.advice``: k6 against the advice service, with a champion that the shop's traffic has trained.

It starts a broker, a warehouse with a policy, a registry with the champion and the service, all embedded, and sends
prefixes of 5 to 15 events of sagas that the champion never saw: at ``--rate`` requests a second, and then at four times
that, where what is too much must be refused and nothing else. Then it compares a thousand answers with what
scikit-learn itself says of the same prefixes, to the last bit. Exit code 1 where an answer differs or is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from benchmarks._saga_table import saga_table
from examples.shop import traffic
from examples.shop.model import SERVICES
from ml.sagas import training
from ml.sagas.features import feature_set, recent_load
from ml.sagas.model import FailureModel
from ml.sagas.spec import SagaEvent
from ml.sagas.state import Layout, SagaState
from ml.sagas.stream import in_process, saga_events, vocabulary
from ml.sagas.types import ORDER, model_name
from resources.migrate import migrate
from resources.registry import Record, RegistryResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running
from tests.integration.orchestrator.test_service import Warehouse, publish, until
from tests.integration.orchestrator.world import ACTION, entry
from tests.load.generator import Load, run
from tests.services.install import k6, say

TOKEN = secrets.token_urlsafe(24)
#: The day that is simulated ends in the evening, whatever the hour.
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)
FEWEST, MOST = 5, 15
COMPARED = 1_000
_NAME = model_name(ORDER.name, ORDER.outcomes[0].name)


@dataclass(frozen=True)
class World:
    """A champion, and prefixes of sagas that began after those that it learned from."""

    champion: FailureModel
    prefixes: list[list[SagaEvent]]


def world(seed: int = 3) -> World:
    """Train a champion as the platform does, on half a day of the shop, and cut prefixes from what came later."""
    events = saga_events(
        saga_table(traffic(seed=seed, days=0.5, orders_per_day=8_000, brownouts_per_day=30, end=EVENING))
    )
    known = vocabulary(events)
    features = feature_set(known, recent=recent_load(known))
    rows = in_process(ORDER, features, events, labelled=True)
    split = training.split_time(rows)
    early, later = training.ended_before(rows, split), rows.where(rows.start_us >= split)
    trained = training.train(
        ORDER, ORDER.outcomes[0], features, early, later,
        split_us=split, weight=training.censoring_weights(early, rows, split),
        arms=("challenger",), folds=(0.6,), draws=20, most_rows=15_000, seed=seed,
    )  # fmt: skip
    sagas = defaultdict[str, list[SagaEvent]](list)
    for event in events:
        if event.kind in {"started", "step"}:
            sagas[event.saga_id].append(event)
    random = np.random.default_rng(seed)
    prefixes = [
        events[: 1 + int(random.integers(FEWEST, MOST + 1))]
        for events in sagas.values()
        if events[0].us >= split and len(events) > FEWEST
    ]
    # A saga whose fate is sealed has no risk: such a prefix would be too cheap.
    return World(trained.model, [one for one in prefixes if all(event.status != "compensated" for event in one)])


def body(number: int, prefix: Sequence[SagaEvent]) -> dict[str, Any]:
    """Return a prefix as a question over HTTP."""
    begun = prefix[0]
    return {
        "saga_id": str(number),
        "started_at": _time(begun.us),
        "amount": _told(begun.amount),
        "events": [
            {
                "at": _time(event.us),
                "step": event.step,
                "participant": event.participant,
                "status": event.status,
                "attempt": max(1, event.attempt),
                "worker": event.worker,
                "duration_ms": _told(event.duration_ms),
                "load": _told(event.load),
            }
            for event in prefix[1:]
        ],
        "load": {service.name: 3.0 for service in SERVICES},
    }


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()


def _told(value: float) -> float | None:
    return None if np.isnan(value) else value


@contextmanager
def service(folder: Path, champion: FailureModel) -> Iterator[str]:
    """Run the advice service with a policy and the champion; yield its address."""
    warehouse, port, broker = Warehouse(folder), free_port(), free_port()
    os.environ["ISTHMUS_HOME"] = str(folder)
    get_settings.cache_clear()
    registry, features = RegistryResource(), champion.features
    record = Record({}, {}, features.names, np.zeros((1, len(features.names))))
    registry.alias(registry.register(_NAME, champion, record), "champion")
    env = {
        "ISTHMUS_HOME": str(folder),
        "ISTHMUS_WAREHOUSE_URL": warehouse.url,
        "ISTHMUS_ORCHESTRATOR_PORT": str(port),
        "ISTHMUS_ADVICE_TOKENS": json.dumps({"k6": TOKEN}),
        "OMP_NUM_THREADS": "1",
    }
    at_broker = ("--path", str(folder / "broker"), "--port", str(broker))
    with running("services.embedded.broker", *at_broker, log=folder / "broker.log"), warehouse.running():
        migrate(WarehouseResource(url=warehouse.url))
        steps = [entry(each.step, each.name) for each in SERVICES]
        policy = {**ACTION, "saga_type": ORDER.name, "steps": steps}
        publish(warehouse.url, f"127.0.0.1:{broker}", action=policy)
        with running("services.orchestrator", log=folder / "orchestrator.log", env=env):
            address = f"http://127.0.0.1:{port}"
            until(lambda: len(httpx.get(f"{address}/ready").json()["champions"]) == 1)
            until(lambda: len(httpx.get(f"{address}/ready").json()["policies"]) == 1)
            yield address


def differences(address: str, made: World, bodies: list[bytes]) -> list[str]:
    """Return how answers differ from what scikit-learn says of the same prefixes; also warms the service up."""
    model, problems = made.champion, []
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
        for number in range(min(COMPARED, len(bodies))):
            answer = client.post(f"/v1/sagas/{ORDER.name}/advice", content=bodies[number])
            if answer.status_code != 200:
                problems.append(f"{number}: {answer.status_code}")
                continue
            risk, truth = answer.json()["risk"], _course(model, made.prefixes[number])
            if risk is None or (risk["base"], risk["probability"]) != (truth[0], truth[-1]):
                problems.append(f"{number}: {risk} and not {truth[0]} to {truth[-1]}")
    return problems


def _course(model: FailureModel, prefix: Sequence[SagaEvent]) -> list[float]:
    """Return scikit-learn's probability after each step of a prefix, scored in one matrix."""
    state, rows = SagaState(Layout(model.features)), []
    for event in prefix:
        state.update(event)
        if event.kind == "step":
            rows.append(model.features.encode(state.values()))
    return [float(one) for one in model.score(np.array(rows))]


def main() -> int:
    """Run both loads and the comparison; print a table, and JSON in the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.advice", description=__doc__)
    parser.add_argument("--rate", type=int, default=500, help="requests a second")
    parser.add_argument("--seconds", type=int, default=20, help="length of each of the runs")
    given = parser.parse_args()
    k6()
    say("training a champion on half a day of the shop")
    made = world()
    bodies = [orjson.dumps(body(number, prefix)) for number, prefix in enumerate(made.prefixes)]
    loads: list[tuple[str, Load]] = []
    with tempfile.TemporaryDirectory(prefix="isthmus-k6-") as name, service(Path(name), made.champion) as address:
        questions = Path(name) / "questions.json"
        questions.write_bytes(orjson.dumps([one.decode() for one in bodies]))
        problems = differences(address, made, bodies)
        for rate, busy, clients in ((given.rate, 0, 60), (4 * given.rate, 1, 400)):
            say(f"k6: {rate} requests a second")
            loaded = run(
                "advice.js", Path(name), base_url=address, token=TOKEN, saga_type=ORDER.name, questions=questions,
                rate=rate, duration=given.seconds, vus=clients, busy=busy,
            )  # fmt: skip
            loads.append((f"{rate} a second", loaded))
    return report(loads, problems, min(COMPARED, len(bodies)))


def report(loads: Sequence[tuple[str, Load]], problems: Sequence[str], compared: int) -> int:
    """Print what came of it; return the process's exit code."""
    names = ("load", "answered", "refused", "not sent", "p50 ms", "p95 ms", "p99 ms", "max ms")
    lines = ["{:<14}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}".format(*names)]
    figures = []
    for name, each in loads:
        times, answered = each.metrics["answered"], each.count("http_reqs") - each.count("refused")
        lines.append(
            f"{name:<14}{answered:>9}{each.count('refused'):>9}{each.count('dropped_iterations'):>9}"
            f"{times['med']:>9.2f}{times['p(95)']:>9.2f}{times['p(99)']:>9.2f}{times['max']:>9.2f}"
        )
        figures.append(
            {
                "load": name,
                "answered": answered,
                "refused": each.count("refused"),
                "dropped": each.count("dropped_iterations"),
                "p50_ms": round(times["med"], 2),
                "p95_ms": round(times["p(95)"], 2),
                "p99_ms": round(times["p(99)"], 2),
            }
        )
    lines.append(f"{compared:,} answers compared with scikit-learn's: {problems[:5] or 'all equal to the last bit'}")
    unsound = [name for name, each in loads if not each.sound]
    lines += [f"checks of k6 failed: {name}" for name in unsound]
    lines.append(json.dumps({"compared": compared, "differences": len(problems), "runs": figures}))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if problems or unsound else 0


if __name__ == "__main__":
    sys.exit(main())
