"""Traffic that can be checked: numbered records of a few keys, with duplicates by id and poison, at a steady rate.

What belongs here: what is sent, and where it came to stand. What does not: what came of it (``evidence``).
"""

from __future__ import annotations

import random
import secrets
import time
from array import array
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any, Final

from confluent_kafka import Producer

from events.catalogue import INGRESS
from events.codec import encode
from events.schemas import schema

KEYS: Final = 120
POISON: Final = 0.01
DUPLICATES: Final = 0.10
_BACK: Final = 200  # a duplicate repeats one of so many events before it
_TYPES: Final = ("isthmus.saga.step", "isthmus.saga.started", "isthmus.service.metrics")
_TICK: Final = 0.02


class Traffic:
    """A thread that sends; ``ref[n]`` is the number that record ``n`` has as its id, -1 for poison.

    Of a key all events are of one type, and the ids of first occurrences rise.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        seed: int,
        rate: int,
        poison: float = POISON,
        duplicates: float = DUPLICATES,
    ) -> None:
        self.run = f"/traffic/{secrets.token_hex(4)}"
        self.ref = array("q")
        self.partition = array("b")
        self.offset = array("q")
        self.failed: list[str] = []
        self.held = False
        """Whether nothing is sent for now."""
        self._rate, self._poison, self._duplicates = rate, poison, duplicates
        self._draw = random.Random(seed)
        self._templates = [_template(name, self.run) for name in _TYPES]
        self._stop = Event()
        self._thread = Thread(target=self._send, name="traffic", daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 0,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, seconds: float = 60.0) -> int:
        """Stop and return how many records were sent; every one is acknowledged."""
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(seconds) == 0, "the broker does not acknowledge what was sent"
        assert not self.failed, self.failed[:3]
        assert -1 not in self.offset
        return len(self.ref)

    def state(self) -> str:
        """Return in words how far it is, for an error."""
        alive = "sends" if self._thread.is_alive() else "has ended"
        return (
            f"traffic {alive}: {len(self.ref)} sent, {len(self._producer)} not acknowledged, failed {self.failed[:3]}"
        )

    def send(self, count: int) -> int:
        """Send ``count`` records as fast as it goes, without the thread; return how many."""
        for _ in range(count):
            self._one()
        return self.stop() if self._thread.ident else self._flushed()

    def _flushed(self) -> int:
        assert self._producer.flush(120) == 0
        return len(self.ref)

    def _send(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._stop.is_set():
            if self.held:
                began, sent = time.monotonic(), 0
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(due - sent):
                self._one()
            sent = due
            self._producer.poll(0)
            time.sleep(_TICK)

    def _one(self) -> None:
        number, chance = len(self.ref), self._draw.random()
        # A poisoned record belongs to a key as well, and must not disturb its order.
        ref, value = number, b""
        if chance < self._poison:
            ref = -1
        elif chance < self._poison + self._duplicates and number:
            earlier = self.ref[self._draw.randrange(max(0, number - _BACK), number)]
            ref = earlier if earlier >= 0 else number
        key = (ref if ref >= 0 else number) % KEYS
        value = self._templates[key % len(_TYPES)] % (ref if ref >= 0 else number, key)
        if ref < 0:
            value = _poisoned(value, number)
        self.ref.append(ref)
        self.partition.append(0)
        self.offset.append(-1)
        headers: list[tuple[str, str | bytes | None]] = [("run", self.run), ("number", str(number))]

        def note(error: Any, message: Any) -> None:
            if error is not None:
                self.failed.append(error.str())
            else:
                self.partition[number], self.offset[number] = message.partition(), message.offset()

        while True:
            try:
                self._producer.produce(INGRESS, value, f"{self.run}/{key}", headers=headers, on_delivery=note)
                return
            except BufferError:
                self._producer.poll(0.1)


def _template(name: str, run: str) -> bytes:
    data = schema(name, 1)["examples"][0]
    value = encode(name, data, subject=f"{run}/@k", source=run, id="@n", time=datetime.now(UTC))
    return value.replace(b"%", b"%%").replace(b"/@k", b"/%d").replace(b"@n", b"%d")


def _poisoned(value: bytes, number: int) -> bytes:
    """Return a record that no router may accept; four kinds in turn."""
    match number % 4:
        case 0:
            return value[:-1]
        case 1:
            return value.replace(b'"data":{', b'"data":{"undeclared":1,')
        case 2:
            return value.replace(b'"type":"isthmus', b'"type":"unknown')
    return b""
