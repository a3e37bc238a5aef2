"""Asking for advice: within a bounded time, and with an answer whatever the service does.

What belongs here: the question, the breaker around it, the policies that were told last, and what is done without the
service. What does not: the form of an answer (:mod:`examples.client.advice`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx
import orjson

from examples.client.advice import Advice, Nonsense, Place, Source, StepPolicy, parse
from examples.client.breaker import Breaker
from examples.client.loops import Connections
from examples.client.reporting import Happened

log = logging.getLogger("isthmus.client")

MOST_EVENTS: Final = 1_000
"""Events that the service takes; of a longer saga it is told the last ones."""
MOST_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Question:
    """A saga so far."""

    saga_type: str
    saga_id: str
    started_at: datetime
    events: Sequence[Happened] = ()
    amount: float | None = None
    load: Mapping[str, float] = field(default_factory=dict)
    traceparent: str | None = None
    giving_up: bool = False
    """It will be undone whatever is advised: how is asked."""

    def failed(self) -> Counter[Place]:
        """Return how many attempts at each step have ended badly."""
        return Counter((one.step, one.participant) for one in self.events if one.ended_badly)

    def body(self) -> bytes:
        """Return it as the service reads it."""
        document = {
            "saga_id": self.saga_id,
            "started_at": self.started_at.isoformat(),
            "amount": self.amount,
            "events": [one.told() for one in self.events[-MOST_EVENTS:]],
            "load": dict(self.load),
            "giving_up": self.giving_up,
        }
        return orjson.dumps(document)


class Adviser(Protocol):
    """Who is asked."""

    async def ask(self, question: Question, now: float) -> Advice:
        """Return what the saga should do, soon, and without an exception; ``now`` is in seconds of the saga's clock."""

    async def aclose(self) -> None:
        """Let go of connections."""


def without_service(question: Question, steps: Mapping[Place, StepPolicy], problem: str, **more: Any) -> Advice:
    """Return what is done where the service has nothing to say: tried again while attempts are left, else undone."""
    source: Source = "cached" if steps else "defaults"
    advice = Advice("go_on", "the advice service does not answer", source, steps, problem=problem, **more)
    if any(one.status == "compensated" for one in question.events):
        return replace(advice, action="compensate")
    last = next((one for one in reversed(question.events) if one.status not in ("scheduled", "started")), None)
    if last is None or not last.ended_badly:
        return advice
    left = advice.step(last.step, last.participant).attempts - question.failed()[last.step, last.participant]
    return replace(advice, action="retry" if left > 0 else "compensate")


class NoAdviser:
    """Nobody is asked: safe defaults."""

    async def ask(self, question: Question, now: float) -> Advice:
        """Return the safe defaults."""
        return without_service(question, {}, "nobody is asked")

    async def aclose(self) -> None:
        """Nothing is to be let go."""


@dataclass(slots=True)
class _Known:
    steps: dict[Place, StepPolicy]
    decision_id: str | None
    at: float


class HttpAdviser:
    """The advice service over HTTP.

    It is asked within ``seconds``. Where it does not answer in time, or answers nonsense, what it said last of the saga
    type stands in, for ``cache_seconds``; then the safe defaults do. ``breaker`` keeps a service that is down from
    costing each step its ``seconds``.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = 0.05,
        cache_seconds: float = 3600.0,
        breaker: Breaker | None = None,
    ) -> None:
        self.figures: Counter[str] = Counter()
        """How often it was asked, answered, and each problem."""
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        # A durable orchestrator may have several loops. The time is bounded around each question.
        self._http = Connections(timeout=None, headers=headers)
        self._seconds = seconds
        self._cache_seconds = cache_seconds
        self._breaker = breaker or Breaker()
        self._known: dict[str, _Known] = {}
        self._problem = ""

    async def ask(self, question: Question, now: float) -> Advice:
        """Return the service's advice, or what stands in for it, marked as such."""
        if not self._breaker.may_ask(now):
            self.figures["not asked"] += 1
            return self._stand_in(question, self._problem, now)
        self.figures["asked"] += 1
        try:
            async with asyncio.timeout(self._seconds):
                advice = parse(await self._answer(question), question.failed())
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, Nonsense) as error:
            problem = str(error) if isinstance(error, Nonsense) else type(error).__name__
            self._breaker.failed(now)
            self._tell(problem)
            return self._stand_in(question, problem, now)
        self._breaker.answered()
        self._tell("")
        self._keep(question.saga_type, advice, now)
        return advice

    async def aclose(self) -> None:
        """Close the connections of this loop."""
        await self._http.aclose()

    async def _answer(self, question: Question) -> Any:
        headers = {"traceparent": question.traceparent} if question.traceparent else {}
        url = f"{self._url}/v1/sagas/{quote(question.saga_type, safe='')}/advice"
        answer = await self._http.here().post(url, content=question.body(), headers=headers)
        if answer.status_code != httpx.codes.OK:
            raise Nonsense(f"the service answered {answer.status_code}")
        if len(answer.content) > MOST_BYTES:
            raise Nonsense("the answer is too long")
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            raise Nonsense("the answer is not JSON") from None

    def _keep(self, saga_type: str, advice: Advice, now: float) -> None:
        known = self._known.get(saga_type)
        # An answer leaves out the steps that have completed: what was told of them under the same policy still holds.
        older = known.steps if known is not None and known.decision_id == advice.decision_id else {}
        self._known[saga_type] = _Known({**older, **advice.steps}, advice.decision_id, now)

    def _stand_in(self, question: Question, problem: str, now: float) -> Advice:
        known = self._known.get(question.saga_type)
        if known is None or now - known.at > self._cache_seconds:
            self.figures["defaults"] += 1
            return without_service(question, {}, problem)
        self.figures["cached"] += 1
        return without_service(question, known.steps, problem, decision_id=known.decision_id)

    def _tell(self, problem: str) -> None:
        """Count, and log what has changed: once, not for each step."""
        self.figures[problem or "answered"] += 1
        if problem and not self._problem:
            log.warning("the advice service does not help (%s); its last policies or safe defaults stand in", problem)
        elif self._problem and not problem:
            log.warning("the advice service answers again")
        self._problem = problem
