"""The advice service as a process, on a real warehouse and a real registry: who may ask, what is answered, what happens
when the stores go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ml.sagas.types import model_name
from resources.decisions import DecisionStore
from resources.kafka import KafkaResource
from resources.migrate import migrate
from resources.registry import Record, RegistryResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource
from tests.conftest import ROOT, free_port, running
from tests.integration.orchestrator.world import decision, model, question

TOKEN = "a token of the tests"
NAME = model_name("order", "technical")


@dataclass
class Service:
    """One advice service."""

    client: httpx.Client
    log: Path

    def ask(self, saga_type: str = "order", *statuses: tuple[str, str, str], **more: Any) -> dict[str, Any]:
        answer = self.client.post(f"/v1/sagas/{saga_type}/advice", json=question(*statuses, **more))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[Service]:
    port, log = free_port(), folder / "orchestrator.log"
    env = {
        "ISTHMUS_HOME": str(folder),
        "ISTHMUS_ORCHESTRATOR_PORT": str(port),
        "ISTHMUS_ADVICE_TOKENS": f'{{"tests": "{TOKEN}"}}',
        "ISTHMUS_ADVICE_REFRESH_SECONDS": "0.2",
        **{f"ISTHMUS_{name.upper()}": value for name, value in settings.items()},
    }
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        running("services.orchestrator", log=log, env=env),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client,
    ):
        until(lambda: client.get("/ready").status_code == 200)
        yield Service(client, log)


class Warehouse:
    """An embedded warehouse of this test's own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.password = folder, free_port(), "a password of the tests"
        self.url = f"http://isthmus:{self.password.replace(' ', '%20')}@127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Any]:
        arguments = ("--path", str(self.folder / "data"), "--port", str(self.port))
        env = {"ISTHMUS_WAREHOUSE_PASSWORD": self.password}
        with running("services.embedded.warehouse", *arguments, log=self.folder / "warehouse.log", env=env) as process:
            yield process


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryResource]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield RegistryResource()
    get_settings.cache_clear()


def promote(registry: RegistryResource) -> None:
    features = model().features
    record = Record({}, {}, features.names, np.zeros((1, len(features.names))))
    registry.alias(registry.register(NAME, model(), record), "champion")


def publish(url: str, bootstrap: str, subject: str = "order", action: dict[str, Any] | None = None) -> str:
    kafka = KafkaResource(bootstrap=bootstrap)
    kafka.ensure_topics()
    store = DecisionStore(WarehouseResource(url=url), bus=kafka)
    return str(store.publish(store.record(decision(subject, action=action), allowed=True).decision_id).decision_id)


def test_policy_and_champion_speak_and_are_swapped_and_outlive_their_stores(
    tmp_path: Path, registry: RegistryResource, kafka_bootstrap: str
) -> None:
    warehouse = Warehouse(tmp_path)
    with service(tmp_path, warehouse_url=warehouse.url) as advice:
        said = advice.ask("order", ("charge", "payment", "failed"))
        assert (said["action"], said["decision_id"], said["risk"]) == ("retry", None, None)
        assert said["steps"] == [said["steps"][0]]
        assert said["steps"][0]["default"]
        assert {one.partition(":")[0] for one in said["defaults"]} == {"policy", "model"}

        with warehouse.running() as process:
            migrate(WarehouseResource(url=warehouse.url))
            first = publish(warehouse.url, kafka_bootstrap)
            promote(registry)
            until(lambda: advice.ask("order", ("charge", "payment", "timed_out"))["risk"] is not None)
            said = advice.ask("order", ("reserve", "inventory", "completed"), ("charge", "payment", "timed_out"))
            assert (said["decision_id"], said["defaults"], said["stale"]) == (first, [], False)
            assert said["risk"]["model"] == f"{NAME}/1"
            assert said["risk"]["alarm"]
            assert said["action"] == "hold"
            assert said["risk"]["reasons"][0]["status"] == "timed_out"

            second = publish(warehouse.url, kafka_bootstrap)
            until(lambda: advice.ask()["decision_id"] == second)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            until(lambda: "warehouse" in advice.client.get("/ready").json()["problems"])
            assert advice.client.get("/ready").status_code == 200
            said = advice.ask("order", ("charge", "payment", "timed_out"))
            assert (said["decision_id"], said["defaults"]) == (second, []), "what was known stays in force"
    log = advice.log.read_text()
    assert "password of the tests" not in log
    assert TOKEN not in log


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without any store."""
    folder = tmp_path_factory.mktemp("alone")
    with service(folder, warehouse_url=f"http://127.0.0.1:{free_port()}") as made:
        yield made


def test_only_who_has_a_token_may_ask(alone: Service) -> None:
    for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}"):
        answer = alone.client.post("/v1/sagas/order/advice", json=question(), headers={"Authorization": given})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/health", "/ready", "/metrics", "/openapi.json"):
        assert alone.client.get(path, headers={"Authorization": ""}).status_code == 200


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"started_at": "2026-05-04T12:00:00"}, ["body", "started_at"]),
        ({"amount": "secret 4711"}, ["body", "amount"]),
        ({"surname": "secret 4711"}, ["body", "surname"]),
        ({"load": {"payment": -1}}, ["body", "load", "payment"]),
        ({"events": [{"step": "secret 4711"}]}, ["body", "events", 0, "at"]),
    ],
)
def test_a_bad_question_is_refused_with_the_place_and_without_the_value(
    alone: Service, change: dict[str, Any], place: list[Any]
) -> None:
    answer = alone.client.post("/v1/sagas/order/advice", json={**question(), **change})
    assert answer.status_code == 422
    assert place in [one["at"] for one in answer.json()["problems"]]
    assert "4711" not in answer.text


def test_a_body_without_end_is_not_read(alone: Service) -> None:
    path = "/v1/sagas/order/advice"
    assert alone.client.post(path, content=b"x" * 1_048_577).status_code == 413
    assert alone.client.post(path, content=iter([b"{}"])).status_code == 411
    assert alone.client.post(path, content=b"{").status_code == 422
    assert alone.client.post(path, json=question(*[("a", "b", "started")] * 1001)).status_code == 422


def test_what_it_did_is_counted(alone: Service) -> None:
    alone.ask("order", ("charge", "payment", "failed"))
    text = alone.client.get("/metrics").text
    assert 'isthmus_orchestrator_advice_total{action="retry"}' in text
    assert 'isthmus_orchestrator_defaults_total{missing="policy"}' in text
    assert "isthmus_orchestrator_advice_seconds_bucket" in text
    assert "isthmus_orchestrator_problems" in text


def test_the_description_names_the_question_and_the_answer(alone: Service) -> None:
    described = alone.client.get("/openapi.json").json()
    operation = described["paths"]["/v1/sagas/{saga_type}/advice"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Question")


def test_a_port_that_is_taken_is_said(alone: Service, tmp_path: Path) -> None:
    env = {**os.environ, "ISTHMUS_HOME": str(tmp_path), "ISTHMUS_ORCHESTRATOR_PORT": str(alone.client.base_url.port)}
    command = [sys.executable, "-m", "services.orchestrator"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "Set ISTHMUS_ORCHESTRATOR_PORT to a free port." in ended.stderr
