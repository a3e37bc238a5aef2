"""``POST /v1/events`` while the broker is killed or hangs, and while the router stops."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from events.catalogue import INGRESS, SAGAS
from events.codec import encode
from resources.kafka import KafkaResource
from tests.integration.router.bus import STEP, Broker, Reader, Router, router, wait_for_broker

pytestmark = pytest.mark.embedded

TOKEN = "token-of-the-tests-01"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
STRUCTURED = {**HEADERS, "Content-Type": "application/cloudevents+json"}
BATCH = {**HEADERS, "Content-Type": "application/cloudevents-batch+json"}


class Service:
    """A broker that can be killed or stopped for a while, and a router in front of it."""

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder)
        self.folder = folder
        self._life: Generator[subprocess.Popen[str]] = self.broker.run()
        self.process = next(self._life)
        KafkaResource(bootstrap=self.broker.bootstrap).ensure_topics()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._life.close()

    def start(self) -> None:
        self._life = self.broker.run()
        self.process = next(self._life)
        wait_for_broker(self.broker.bootstrap)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self._life.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


# One for all: making a client costs more than a request.
CLIENT = httpx.Client(timeout=60, verify=False)


def post(to: Router, *ids: str) -> httpx.Response:
    events = [encode("isthmus.saga.step", STEP, subject=f"saga-{id}", source="/http", id=id) for id in ids]
    return CLIENT.post(to.address + "/v1/events", content=b"[" + b",".join(events) + b"]", headers=BATCH)


def until_answered_by(to: Router, status: int, prefix: str) -> list[str]:
    """Send one event after another until the answer is ``status``; return the ids that were accepted."""
    accepted: list[str] = []
    deadline = time.monotonic() + 60
    for number in range(10_000):
        answer = post(to, f"{prefix}-{number}")
        if answer.status_code == 202:
            accepted += answer.json()["accepted"]
        if answer.status_code == status:
            return accepted
        assert time.monotonic() < deadline
    raise AssertionError(f"never {status}")


def on_topics(service: Service, accepted: set[str], last: str = SAGAS) -> dict[str, Counter[str]]:
    """Return, by topic, how often each event stands there, once all accepted ones have come to the ``last`` one."""
    reader = Reader(service.broker.bootstrap, (INGRESS, SAGAS))

    def ids(topic: str) -> list[str]:
        return [json.loads(record.value or b"")["id"] for record in reader.records if record.topic == topic]

    reader.until(lambda _: accepted <= set(ids(last)))
    reader.close()
    return {topic: Counter(ids(topic)) for topic in (INGRESS, SAGAS)}


def test_a_killed_broker_is_503_and_nothing_accepted_is_lost(service: Service) -> None:
    with router(service.broker.bootstrap, service.folder, ingest_tokens=json.dumps({"t": TOKEN})) as running:
        assert post(running, "before").status_code == 202
        with ThreadPoolExecutor(8) as pool:
            busy = [pool.submit(until_answered_by, running, 503, f"busy-{number}") for number in range(8)]
            while running.metric("ingest_events_total") < 200:
                time.sleep(0.02)
            service.kill()
            while (answer := post(running, "down")).status_code != 503:
                time.sleep(0.05)
            assert answer.headers["retry-after"] == "1"
            assert "nothing was sent" in answer.json()["detail"]
            # The broker's absence is no reason to be restarted, and every question is answered.
            assert CLIENT.get(running.address + "/health").status_code == 200
            assert CLIENT.get(running.address + "/ready").status_code == 503
            assert running.metric("in_flight") >= 0
            service.start()
            accepted = {id for future in busy for id in future.result(90)}
        accepted |= set(until_answered_by(running, 202, "after"))
        found = on_topics(service, accepted)
    assert len(accepted) > 200
    assert {id: found[INGRESS][id] for id in accepted} == dict.fromkeys(accepted, 1), "acknowledged once, there once"


def test_a_hanging_broker_is_back_pressure_then_504_then_503(service: Service) -> None:
    settings = {"ingest_tokens": json.dumps({"t": TOKEN}), "ingest_max_in_flight": "10", "ingest_timeout_seconds": "3"}
    with router(service.broker.bootstrap, service.folder, **settings) as running:
        assert post(running, "before").status_code == 202
        service.process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(post, running, *"abcdefgh"), pool.submit(post, running, "i")]
            while running.metric("ingest_in_flight") < 9:
                time.sleep(0.02)
            full = post(running, "j", "k")
            assert (full.status_code, full.headers["retry-after"]) == (503, "1")
            assert "too many events wait" in full.json()["detail"].lower()
            answers = [future.result(30) for future in waiting]
        for answer in answers:
            assert answer.status_code == 504
            assert answer.json()["accepted"] == []
            assert "may have been taken" in answer.json()["detail"]
        until_answered_by(running, 503, "down")
        service.process.send_signal(signal.SIGCONT)
        found = on_topics(service, set(until_answered_by(running, 202, "again")))
        assert running.metric("ingest_in_flight") == 0
    assert not found[INGRESS].keys() & {"j", "k"}, "503 says that nothing was sent"
    assert found[INGRESS]["before"] == 1


def test_a_stop_answers_what_is_in_flight_and_takes_no_more(service: Service) -> None:
    with router(service.broker.bootstrap, service.folder, ingest_tokens=json.dumps({"t": TOKEN})) as running:
        assert post(running, "before").status_code == 202
        with httpx.Client(base_url=running.address) as kept, ThreadPoolExecutor(1) as pool:
            assert kept.get("/health").status_code == 200
            service.process.send_signal(signal.SIGSTOP)
            waiting = pool.submit(post, running, "in flight")
            while running.metric("ingest_in_flight") < 1:
                time.sleep(0.02)
            running.process.send_signal(signal.SIGTERM)
            while (answer := kept.post("/v1/events", headers=STRUCTURED)).status_code != 503:
                time.sleep(0.01)
            assert "stopping" in answer.json()["detail"]
            service.process.send_signal(signal.SIGCONT)
            assert waiting.result(30).status_code == 202
        assert running.process.wait(30) == 0
    # What was accepted waits in ingress for the next router.
    found = on_topics(service, {"before", "in flight"}, INGRESS)
    assert found[INGRESS] == Counter({"before": 1, "in flight": 1})


def test_a_stop_without_a_broker_says_what_is_not_known(service: Service) -> None:
    with router(service.broker.bootstrap, service.folder, ingest_tokens=json.dumps({"t": TOKEN})) as running:
        assert post(running, "before").status_code == 202
        service.process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post, running, "in flight")
            while running.metric("ingest_in_flight") < 1:
                time.sleep(0.02)
            running.process.send_signal(signal.SIGTERM)
            answer = waiting.result(30)
        assert (answer.status_code, answer.json()["accepted"]) == (504, [])
        assert running.process.wait(60) == 0
