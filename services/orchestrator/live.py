"""What the advice service does beside HTTP, stream and Redis, as HTTP shows it: problems, figures, loads.

What belongs here: starting and ending both, what ``/ready`` and ``/metrics`` say of them. What does not: their work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.families import Labelled, by, counter, gauge
from services.orchestrator.keys import PolicyKeys
from services.orchestrator.stream import Stream

_counter = partial(counter, "isthmus_orchestrator_")
_gauge = partial(gauge, "isthmus_orchestrator_")


class Live(Collector):
    """The parts beside HTTP that this service runs; each may be absent. As a context it starts and ends them."""

    def __init__(self, stream: Stream | None = None, keys: PolicyKeys | None = None) -> None:
        self._stream = stream
        self._keys = keys

    def __enter__(self) -> Live:
        for part in (self._stream, self._keys):
            if part is not None:
                part.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._stream, self._keys):
            if part is not None:
                part.close()

    @property
    def problems(self) -> dict[str, str]:
        """What does not work now, by part, and why."""
        parts = {"broker": self._stream, "redis": self._keys}
        return {name: part.problem for name, part in parts.items() if part is not None and part.problem}

    @property
    def loads(self) -> Mapping[str, float]:
        """Attempts under way by participant, of those of which it is known now."""
        return self._stream.loads if self._stream is not None else {}

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as they stand."""
        if self._stream is not None:
            yield from _of_the_stream(self._stream)
        if (keys := self._keys) is not None:
            yield _gauge("redis_up", "Whether Redis took the policies the last time.", not keys.problem)
            yield _gauge("redis_keys", "Keys of policies that stood after the last writing.", keys.keys)
            yield _counter("redis_writes", "Times that the policies were written to Redis.", keys.writes)
            yield _counter("redis_failures", "Times that they could not be written.", keys.failures)


def _of_the_stream(stream: Stream) -> Iterator[Metric]:
    figures = stream.figures
    yield _gauge("stream_up", "Whether saga events are read and advice is written.", not stream.problem)
    lag: Labelled = {(topic, str(partition)): count for (topic, partition), count in figures.lag.items()}
    yield _gauge("stream_lag", "Saga events not read yet, by assigned partition.", lag, ["topic", "partition"])
    yield _gauge("stream_sagas", "Running sagas in memory.", figures.sagas)
    yield _gauge(
        "stream_waiting_sagas", "Sagas that are yet to be looked at for an alarm or a policy.", figures.waiting
    )
    yield _counter("stream_events", "Records read for the first time.", figures.events)
    yield _counter("stream_read_back", "Records read again after a start or a rebalance.", figures.read_back)
    yield _counter("stream_skipped", "Records skipped, by reason.", by(figures.skipped), ["reason"])
    yield _counter("stream_advice", "Advice that the broker acknowledged.", by(figures.advice), ["trigger"])
    yield _counter("stream_refused", "Advice that the broker refused for good.", figures.refused)
    yield _counter("stream_forgotten_sagas", "Sagas that had to leave memory before their end.", figures.forgotten)
    yield _counter("stream_gone_offsets", "Saga events that aged out before they were read.", figures.gone_offsets)
    yield _counter("stream_restarts", "Times that the clients were made anew.", figures.restarts)
