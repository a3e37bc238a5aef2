"""The policies in force as keys in Redis, for readers that want nothing but a time-out.

What belongs here: names and fields of the keys, and keeping them as what stands says. What does not: the standing
(:mod:`services.orchestrator.standing`), and the client (``resources.redis``).

A key is ``isthmus:policy:{saga type}:{step}:{participant}``, each part quoted as in a URL, and holds a hash. It expires
with the policy's validity. Beyond that the last good policy stays, as everywhere, but marked ``stale``, and under a
lease: when nobody renews it, it goes. ``isthmus:policies`` is the set of all keys; what a policy names no more is
removed in the same transaction that writes the others.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from resources.errors import RedisError
from resources.redis import RedisResource, typed
from services.orchestrator.advice import (
    SAFE_ATTEMPTS,
    SAFE_BACKOFF_MS,
    SAFE_RATIO,
    SAFE_WINDOW_SECONDS,
)
from services.orchestrator.standing import InForce, Keeper

if TYPE_CHECKING:
    import redis

log = logging.getLogger("isthmus.orchestrator")

PREFIX: Final = "isthmus:policy:"
INDEX: Final = "isthmus:policies"
LEASE_SECONDS: Final = 60.0
"""How long a policy that is beyond its validity stays without being written again."""


def key_of(saga_type: str, step: str, participant: str) -> str:
    """Return the key of a step's policy; a colon within a name is quoted, so that no two names share a key."""
    return PREFIX + ":".join(quote(part, safe="") for part in (saga_type, step, participant))


def keys_of(policies: Mapping[str, InForce], now: datetime) -> dict[str, tuple[dict[str, str], int]]:
    """Return the keys of what stands, each with its fields and the time (milliseconds since 1970) at which it goes."""
    found = {}
    for saga_type, policy in policies.items():
        stale = now >= policy.valid_to
        ends = now.timestamp() + LEASE_SECONDS if stale else policy.valid_to.timestamp()
        for entry in policy.action["steps"]:
            fields = {
                **_fields(entry),
                "decision_id": policy.decision_id,
                "valid_to": policy.valid_to.astimezone(UTC).isoformat(),
                "stale": str(int(stale)),
            }
            found[key_of(saga_type, entry["step"], entry["participant"])] = fields, math.ceil(ends * 1000)
    return found


def _fields(entry: Mapping[str, Any]) -> dict[str, str]:
    retry = entry.get("retry_budget", {})
    figures: dict[str, float] = {
        "timeout_ms": entry["timeout_ms"],
        "attempts": retry.get("max_attempts", SAFE_ATTEMPTS),
        "ratio": retry.get("ratio", SAFE_RATIO),
        "window_seconds": retry.get("window_seconds", SAFE_WINDOW_SECONDS),
        "backoff_ms": retry.get("backoff_ms", SAFE_BACKOFF_MS),
    }
    return {name: repr(value) for name, value in figures.items()}


class PolicyKeys:
    """Writes the keys when what stands changes, and again every ``seconds``: Redis may have lost them."""

    def __init__(
        self,
        resource: RedisResource,
        keeper: Keeper,
        *,
        seconds: float = 5.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.problem = ""
        """The class of the error, where the last writing failed."""
        self.writes = 0
        self.failures = 0
        self.keys = 0
        """Keys that stood after the last writing."""
        self._client: redis.Redis = resource.client()
        self._keeper = keeper
        self._seconds = seconds
        self._clock = clock
        self._stop = Event()
        self._thread = Thread(target=self._run, name="redis", daemon=True)

    def start(self) -> None:
        """Begin to write, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; the keys stay, each until its policy ends."""
        self._stop.set()
        self._thread.join(5)
        self._client.close()

    def _run(self) -> None:
        written, due = None, 0.0
        while not self._stop.wait(min(0.2, self._seconds)):
            standing, now = self._keeper.standing, time.monotonic()
            if self._keeper.age is None or (standing.policies is written and now < due):
                continue
            try:
                # What the warehouse does not tell is not gone.
                self._write(standing.policies, complete="warehouse" not in standing.problems)
                written = standing.policies
                self._say("")
            except RedisError as error:
                self.failures += 1
                self._say(str(error))
            except Exception as error:  # noqa: BLE001 (a defect must not end the thread)
                self.failures += 1
                self._say(type(error).__name__)
            due = time.monotonic() + self._seconds

    def _write(self, policies: Mapping[str, InForce], *, complete: bool) -> None:
        wanted = keys_of(policies, self._clock())
        with typed():
            there: Any = self._client.smembers(INDEX)
            gone = there - wanted.keys() if complete else set()
            with self._client.pipeline(transaction=True) as pipe:
                for key, (fields, ends) in wanted.items():
                    # Deleted first: a field of an older form must not stay beside these.
                    pipe.delete(key)
                    pipe.hset(key, items=[part for field in fields.items() for part in field])
                    pipe.pexpireat(key, ends)
                if gone:
                    pipe.delete(*gone)
                    pipe.srem(INDEX, *gone)
                if wanted:
                    pipe.sadd(INDEX, *wanted)
                pipe.execute()
        self.writes += 1
        self.keys = len(wanted)

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("Redis does not take the policies (%s); it is tried again", problem)
        elif self.problem and not problem:
            log.info("Redis takes the policies again")
        self.problem = problem
