"""Replay: events of a source go to the bus, in time order, at a chosen speed or as fast as it goes.

What belongs here: the plan of what is sent when (with duplicates and late events injected by seed) and the sending.
What does not: where events come from (``examples.shop``, ``examples.datasets``) and progress bars (the CLI's).
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from events.catalogue import INGRESS
from examples.datasets import open_folder
from examples.source import Ints, Message, Source

CHUNK = 2_000  # events rendered at once: enough for the vectorised parts, little enough for a smooth progress
FURTHEST = 20_000  # a duplicate or late event comes at most so many events after its place
QUIET_LIMIT = 60.0  # seconds without any acknowledgement after which the broker counts as gone


class ReplayError(RuntimeError):
    """The broker did not take the events: it cannot be reached, or it stopped acknowledging."""


class Clock(Protocol):
    """What pacing needs of time; a test's clock runs as fast as it likes."""

    def now(self) -> float:
        """Return seconds on a clock that only goes forward."""

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Return seconds of the monotonic clock."""
        return wall.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds``."""
        wall.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did; ``sent`` counts records (malformed ones and duplicates too), ``distinct`` events."""

    source: str
    sent: int
    distinct: int
    sagas: int
    duplicates: int
    late: int
    malformed: int
    rejected: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent: rows of the source in sending order, and when each is due on the events' own time line."""

    rows: Ints
    due: Ints  # microseconds, never falling: a late event or a duplicate is due with its neighbours
    duplicates: int
    late: int


def plan(
    source: Source, *, seed: int = 0, limit: int | None = None, duplicates: float = 0.0, late: float = 0.0
) -> Plan:
    """Return the order in which the first ``limit`` events of ``source`` are sent.

    ``duplicates`` and ``late`` are shares of them, drawn by ``seed``: a duplicate is a second copy (same bytes) that
    comes 1 to 20,000 events after the first, a late event moves back by as many. All others keep their time order, and
    so the order of each key.
    """
    for name, share in (("duplicates", duplicates), ("late", late)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} is a share of the events, from 0 to below 1, not {share}")
    count = len(source) if limit is None else min(limit, len(source))
    random = np.random.default_rng(seed)
    position = np.arange(count, dtype=np.float64)
    moved = np.flatnonzero(random.random(count) < late)
    position[moved] += _distances(random, len(moved))
    copied = np.flatnonzero(random.random(count) < duplicates)
    copies = position[copied] + _distances(random, len(copied))
    order = np.argsort(np.concatenate([position, copies]), kind="stable")
    rows = np.concatenate([np.arange(count), copied])[order]
    due = np.maximum.accumulate(source.times[rows]) if count else source.times[:0]
    return Plan(rows, due, duplicates=len(copied), late=len(moved))


def _distances(random: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return how far back events move: log-uniform, so that near and far both occur; half a place apart from others."""
    return np.floor(np.exp(random.uniform(0, np.log(FURTHEST), count))) + 0.5


def open_source(source: str, *, seed: int = 0) -> tuple[Source, list[Message]]:
    """Return the events of ``source`` (``shop``, or a folder of a known data set) and its malformed records, if any."""
    if source == "shop":
        from examples.shop import malformed, traffic

        return traffic(seed=seed), malformed(seed=seed)
    return open_folder(source), []


def replay(
    source: str | Source,
    *,
    bootstrap: str,
    topic: str | None = INGRESS,
    speed: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    duplicates: float = 0.0,
    late: float = 0.0,
    broken: Sequence[Message] = (),
    progress: Callable[[int, int], None] | None = None,
    producer_config: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> ReplayReport:
    """Send the events of ``source`` to the bus and return what was done.

    ``source`` is ``shop``, the folder of a data set, or a ``Source``. ``topic`` None sends each event straight to its
    type's domain topic, past the router (malformed records are left out then). ``broken`` are malformed records to
    send among the others, besides those that the source has itself. ``speed`` is a multiple of
    real time (60: a minute of events in a second); None goes as fast as the broker takes it. ``progress`` is called
    with (records handed over, records in all) now and then. Records are sent idempotently with acks=all, so that the
    order of a key holds through retries; what the broker refuses for good (too large) is counted, not raised.

    Raises ``ReplayError`` where the broker cannot be reached or stops acknowledging, ``ValueError`` for an option out
    of range, ``examples.datasets.UnknownData`` for a folder that no adapter reads.
    """
    if speed is not None and speed <= 0:
        raise ValueError(f"speed is a positive multiple of real time, not {speed}")
    events, of_source = (source, []) if isinstance(source, Source) else open_source(source, seed=seed)
    broken = [] if topic is None else [*of_source, *broken]
    todo = plan(events, seed=seed, limit=limit, duplicates=duplicates, late=late)
    total = len(todo.rows) + len(broken)
    # Malformed records stand among the others, evenly: a person who watches the dead letters sees them come.
    spots = {int(spot): broken[number] for number, spot in enumerate(_spread(len(broken), len(todo.rows)))}

    sender = _Sender(bootstrap, producer_config)
    clock = clock or WallClock()
    began, handed = clock.now(), 0
    for low in range(0, len(todo.rows), CHUNK):
        rows = todo.rows[low : low + CHUNK]
        due = todo.due[low : low + CHUNK]
        for number, message in enumerate(events.render(rows)):
            if speed is not None:
                ahead = (due[number] - todo.due[0]) / 1e6 / speed - (clock.now() - began)
                if ahead > 0:
                    sender.poll()
                    clock.sleep(ahead)
            sender.send(message.topic if topic is None else topic, message)
            handed += 1
            if (spot := spots.get(low + number)) is not None and topic is not None:
                sender.send(topic, spot)
                handed += 1
        if progress is not None:
            progress(handed, total)
    sender.finish()
    return ReplayReport(
        source=events.name,
        sent=handed,
        distinct=events.distinct(todo.rows),
        sagas=events.sagas(todo.rows),
        duplicates=todo.duplicates,
        late=todo.late,
        malformed=len(spots),
        rejected=sender.rejected,
        seconds=clock.now() - began,
    )


def _spread(count: int, over: int) -> Ints:
    """Return ``count`` different places spread evenly over ``over`` events (fewer, where there are not so many)."""
    return (
        np.unique(np.linspace(0, over - 1, min(count, over) + 2)[1:-1].astype(np.int64))
        if over
        else np.empty(0, np.int64)
    )


class _Sender:
    """An idempotent producer that counts what the broker refuses, and notices when it is gone."""

    def __init__(self, bootstrap: str, config: Mapping[str, Any] | None) -> None:
        self.rejected = 0
        self._fatal: str | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "batch.size": 512_000,
                "queue.buffering.max.messages": 200_000,
                # Java's partitioner: a key lands in the same partition whichever client produces it.
                "partitioner": "murmur2_random",
                "message.max.bytes": 4_000_000,
                # A callback only for what failed: one per event would cost as much as the event itself.
                "delivery.report.only.error": True,
                "on_delivery": self._refused,
                "error_cb": self._error,
                **(config or {}),
            }
        )
        try:
            self._producer.list_topics(timeout=10)
        except KafkaException as error:
            raise ReplayError(f"no broker answers at {bootstrap}: {error.args[0].str()}") from None

    def _refused(self, error: KafkaError | None, _message: Report) -> None:
        if error is not None:
            self.rejected += 1

    def _error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()

    def poll(self) -> None:
        self._producer.poll(0)

    def send(self, topic: str, message: Message) -> None:
        quiet_since = None
        while True:
            try:
                self._producer.produce(topic, message.value, message.key)
                return
            except BufferError:
                before = len(self._producer)
                self._producer.poll(0.1)
                quiet_since = self._check(quiet_since, moved=len(self._producer) < before)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise ReplayError(f"cannot send: {error.args[0].str()}") from None
                self.rejected += 1
                return

    def finish(self) -> None:
        quiet_since = None
        while before := len(self._producer):
            left = self._producer.flush(0.5)
            quiet_since = self._check(quiet_since, moved=left < before)

    def _check(self, quiet_since: float | None, *, moved: bool) -> float | None:
        if self._fatal:
            raise ReplayError(f"the broker refused the producer: {self._fatal}")
        if moved:
            return None
        quiet_since = quiet_since or wall.monotonic()
        if wall.monotonic() - quiet_since > QUIET_LIMIT:
            raise ReplayError(f"no acknowledgement for {QUIET_LIMIT:.0f} s, {len(self._producer)} records not sent")
        return quiet_since
