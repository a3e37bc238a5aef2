"""Where events of sagas go: the router's HTTP ingestion, the bus itself, or a list.

What belongs here: one class a way to send. What does not: when, and again (:mod:`examples.client.reporting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from events.catalogue import INGRESS
from examples.client.reporting import NotSent, Refused, Report

BATCH: Final = "application/cloudevents-batch+json"
MOST_BYTES: Final = 1_000_000
"""Bytes of one request; the router takes twice that."""


class HttpSink:
    """``POST /v1/events`` at the router: acknowledged means that the broker has it, with all replicas in sync."""

    def __init__(self, url: str, token: str, *, seconds: float = 15.0) -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": BATCH}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=seconds, trust_env=False)

    def send(self, batch: Sequence[Report]) -> list[Refused]:
        """Send ``batch`` in as many requests as its size needs; raises :class:`NotSent`."""
        refused: list[Refused] = []
        part: list[Report] = []
        size = 0
        for one in batch:
            if part and size + len(one.value) > MOST_BYTES:
                refused += self._part(part)
                part, size = [], 0
            part.append(one)
            size += len(one.value) + 1
        return refused + (self._part(part) if part else [])

    def _part(self, part: list[Report]) -> list[Refused]:
        refused: list[Refused] = []
        while part:
            body = b"[" + b",".join(one.value for one in part) + b"]"
            try:
                answer = self._http.post("/v1/events", content=body)
            except httpx.HTTPError as error:
                raise NotSent(type(error).__name__) from None
            if answer.status_code == HTTPStatus.ACCEPTED:
                return refused
            if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
                reasons = _reasons(answer, len(part))
                refused += [Refused(part[at], why) for at, why in sorted(reasons.items())]
                # None of the batch was taken: the others go again without these.
                part = [one for at, one in enumerate(part) if at not in reasons]
                continue
            if answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                if len(part) == 1:
                    return [*refused, Refused(part[0], "the router takes no event of this size")]
                half = len(part) // 2
                return [*refused, *self._part(part[:half]), *self._part(part[half:])]
            raise NotSent(f"the router answered {answer.status_code}")
        return refused

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _reasons(answer: httpx.Response, count: int) -> dict[int, str]:
    """Return why events were refused, by place in the request; raises :class:`NotSent` where that is not told."""
    try:
        errors: list[Mapping[str, Any]] = orjson.loads(answer.content)["errors"]
        reasons = {int(one["index"]): f"{one['reason']}: {one['detail']}" for one in errors}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise NotSent("the router refused events and did not say which") from None
    if not reasons or not all(0 <= at < count for at in reasons):
        raise NotSent("the router refused events that were not sent")
    return reasons


class KafkaSink:
    """Ingress itself, by an idempotent producer; for those who have the broker at hand."""

    def __init__(self, bootstrap: str, *, seconds: float = 15.0, options: Mapping[str, Any] | None = None) -> None:
        from confluent_kafka import Producer

        self._seconds = seconds
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "delivery.timeout.ms": round(seconds * 1000),
                "log_level": 0,
                **(options or {}),
            }
        )

    def send(self, batch: Sequence[Report]) -> list[Refused]:
        """Send ``batch`` and wait for the acknowledgements; raises :class:`NotSent` where one does not come."""
        errors: list[str] = []
        refused: list[Refused] = []
        acknowledged = 0

        def on_delivery(one: Report, error: Any) -> None:
            nonlocal acknowledged
            if error is None:
                acknowledged += 1
            elif error.name() == "MSG_SIZE_TOO_LARGE":
                refused.append(Refused(one, "the broker takes no event of this size"))
            else:
                errors.append(error.name())

        for one in batch:
            self._produce(one, on_delivery)
        self._producer.flush(self._seconds + 1)
        if errors or acknowledged + len(refused) < len(batch):
            raise NotSent(", ".join(sorted(set(errors))) or "no acknowledgement in time")
        return refused

    def _produce(self, one: Report, on_delivery: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    INGRESS, one.value, one.key, on_delivery=lambda error, _: on_delivery(one, error)
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def close(self) -> None:
        """Give up what is not acknowledged; it is still in the buffer."""
        self._producer.purge()
        self._producer.flush(1)


class ListSink:
    """A list in memory: for tests, and for sagas in virtual time."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def send(self, batch: Sequence[Report]) -> list[Refused]:
        """Keep ``batch``."""
        self.reports += batch
        return []

    def close(self) -> None:
        """Nothing is to be let go."""
