"""What the tests of the live advice service share: a broker and a Redis that can be killed, and traffic."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import httpx
from confluent_kafka import Producer

from events.catalogue import ADVICE, SAGAS
from events.codec import Event as Received
from events.codec import encode
from events.validation import validate
from tests.conftest import free_port
from tests.integration.orchestrator.world import question
from tests.integration.router.bus import Broker, Reader, producer
from tests.services.kafka import KafkaServer
from tests.services.process import answers, spawn, wait_for


class Kafka:
    """The broker to kill: Apache Kafka where the harness runs one, else an embedded one."""

    def __init__(self, folder: Path) -> None:
        self._real = KafkaServer.attached()
        folder.mkdir()
        self._broker = Broker(folder)
        self._life: Any = None
        self._process: subprocess.Popen[str] | None = None
        self.bootstrap = self._real.bootstrap if self._real else self._broker.bootstrap

    def start(self) -> None:
        if self._real is not None:
            if not self._real.running():
                self._real.start()
            return
        self._life = self._broker.run()
        self._process = next(self._life)

    def kill(self) -> None:
        if self._real is not None:
            self._real.kill()
            return
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.stop()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, to stop it for a while and let it go on."""
        if self._real is not None:
            os.kill(self._real.pid, number)
        else:
            assert self._process is not None
            self._process.send_signal(number)

    def stop(self) -> None:
        """Stop our own; a real one must be there for the tests that follow."""
        if self._real is not None:
            self.start()
        elif self._life is not None:
            self._life.close()
            self._life = None


class Redis:
    """A Redis of the test's own, to be killed; it keeps nothing on disk."""

    @classmethod
    def found(cls, folder: Path) -> Self | None:
        """Return one, None where the machine has no Redis."""
        program = shutil.which("redis-server")
        return cls(folder, program) if program else None

    def __init__(self, folder: Path, program: str) -> None:
        self._folder, self._port, self._pid = folder, free_port(), 0
        self._command = [program, "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--dir", str(folder)]
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        log = self._folder / "redis.log"
        self._pid = spawn(self._command, log=log)
        wait_for(lambda: answers(self._port), self._pid, what="Redis", log=log)

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def all(self) -> dict[str, dict[str, str]]:
        """Return the policies' keys with what they hold."""
        import redis

        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            names: list[str] = list(client.scan_iter("isthmus:policy:*"))
            assert set(names) == client.smembers("isthmus:policies")
            assert all(client.ttl(name) > 0 for name in names), "a key without an end"
            return {name: client.hgetall(name) for name in names}


class Traffic:
    """Sagas on the bus whose charge fails, and what of them the broker has acknowledged."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.failed: set[str] = set()
        """Ids of the failed steps' events."""
        self.name = name
        self._producer: Producer = producer(bootstrap, **{"enable.idempotence": True, "message.timeout.ms": 0})
        self._sagas = 0

    def step(self, saga: str, status: str, *, number: int, attempt: int = 1) -> None:
        step = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": attempt, "status": status}
        self._send("isthmus.saga.step", step, saga, f"{saga}/{number}", failed=status in ("failed", "timed_out"))

    def begin(self, saga: str) -> None:
        self._send("isthmus.saga.started", {"saga_type": "order", "amount": 20}, saga, f"{saga}/0")

    def end(self, saga: str) -> None:
        self._send("isthmus.saga.aborted", {"saga_type": "order", "reason": "technical"}, saga, f"{saga}/end")

    def saga(self) -> None:
        """Send a saga whose charge fails twice."""
        name = f"{self.name}-{self._sagas}"
        self._sagas += 1
        self.begin(name)
        self.step(name, "started", number=1)
        self.step(name, "timed_out", number=2)
        self.step(name, "failed", number=3, attempt=2)
        self.end(name)

    def until(self, holds: Callable[[], bool]) -> None:
        """Send a saga now and again until something holds."""
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, "it does not come"
            self.saga()
            self._producer.poll(0.05)

    def raw(self, value: bytes) -> None:
        self._producer.produce(SAGAS, value, "poison")

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def _send(self, kind: str, data: dict[str, Any], saga: str, id: str, *, failed: bool = False) -> None:
        def delivered(error: Any, _: Any) -> None:
            if error is None and failed:
                self.failed.add(id)

        value = encode(kind, data, subject=saga, source="/tests/live", id=id)
        self._producer.produce(SAGAS, value, saga, on_delivery=delivered)


def advised(reader: Reader, traffic: Traffic) -> dict[str, list[Received]]:
    """Return the advice on failed steps of the traffic's sagas, by the id of the failed step's event."""
    found: dict[str, list[Received]] = {}
    for record in reader.records:
        assert record.topic == ADVICE
        said = validate(record.value or b"")
        if said.subject.startswith(traffic.name) and said.data["trigger"] == "failed_step":
            found.setdefault(said.data["event"]["id"], []).append(said)
    return found


class Asking:
    """Asks over HTTP without a pause in a thread, and keeps every answer."""

    def __init__(self, client: httpx.Client) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.errors: list[Exception] = []
        self._client = client
        self._stop = Event()
        self._question = question(
            ("reserve", "inventory", "completed"), ("charge", "payment", "failed"), load={"payment": 4}
        )

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask as long as the block lasts."""
        self._stop.clear()
        thread = Thread(target=self._ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(30)
            assert not thread.is_alive(), "a request was never answered"

    def more(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted, deadline = len(self.answers) + count, time.monotonic() + 60
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline, "no more answers come"
            time.sleep(0.01)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                reply = self._client.post("/v1/sagas/order/advice", json=self._question)
                self.answers.append((reply.status_code, reply.json()))
            except httpx.TransportError as error:
                self.errors.append(error)
                time.sleep(0.02)
            time.sleep(0.005)


def right(said: dict[str, Any], decisions: set[str]) -> bool:
    """Whether an answer to :class:`Asking` is right under the known policy, or marked as a default and a safe one."""
    safe = {
        "step": "*",
        "participant": "*",
        "timeout_ms": 30000.0,
        "attempts_left": 2,
        "retry_ratio": 0.1,
        "retry_window_seconds": 60.0,
        "backoff_ms": 200.0,
        "default": True,
    }
    if any(one.startswith("policy:") for one in said["defaults"]):
        return bool(said["decision_id"] is None and said["steps"] == [safe] and said["action"] == "retry")
    charge = {
        "step": "charge",
        "participant": "payment",
        "timeout_ms": 700.0,
        "attempts_left": 2,
        "retry_ratio": 0.1,
        "retry_window_seconds": 60.0,
        "backoff_ms": 120.0,
        "default": False,
    }
    return bool(said["decision_id"] in decisions and said["steps"] == [charge, safe] and said["action"] == "retry")
