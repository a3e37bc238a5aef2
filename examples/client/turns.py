"""Turns: whether an attempt is made now, decided by who sees the attempts of all sagas.

What belongs here: asking for a turn and telling how it ended, within bounds, whatever the service does. What does not:
the attempt itself (:mod:`examples.client.attempt`), and advice (:mod:`examples.client.asking`).

The service holds its answer until the saga's turn comes, so waiting costs one connection and no polling.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol, get_args

import httpx
import orjson

from examples.client.advice import Nonsense
from examples.client.attempt import Outcome
from examples.client.breaker import Breaker
from examples.client.loops import Connections

log = logging.getLogger("isthmus.client")

MOST_LEFT: Final = 86_400.0
MOST_TOLD: Final = 100
"""Ends that one request tells."""
HOLD: Final = 20.0
"""Seconds that the service may hold an answer back."""
_REFUSING: Final = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
MoveName = Literal["send", "wait", "stop"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the saga may do now: make the attempt within ``seconds``, or ``stop``, since it would be too late."""

    move: Literal["send", "stop"]
    seconds: float = 0.0
    because: str = ""
    ticket: int | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """An attempt that a saga would make; ``left`` are the seconds that it has, ``then`` whom it calls afterwards."""

    saga_id: str
    step: str
    participant: str
    left: float
    attempts: int
    then: Sequence[str] = ()


class Turner(Protocol):
    """Who gives turns."""

    async def turn(self, coming: Coming, now: float) -> Turn | None:
        """Return the turn when it has come; None where nobody decides. ``now``: seconds of the saga's clock."""

    def ended(self, participant: str, ticket: int, outcome: Outcome) -> None:
        """Tell how an attempt ended; returns at once."""

    async def aclose(self) -> None:
        """Let go of connections."""


class NoTurner:
    """Nobody gives turns: each saga decides for itself."""

    async def turn(self, coming: Coming, now: float) -> Turn | None:
        """Return None."""
        return None

    def ended(self, participant: str, ticket: int, outcome: Outcome) -> None:
        """Nobody is told."""

    async def aclose(self) -> None:
        """Nothing is to be let go."""


@dataclass(frozen=True, slots=True)
class _Ended:
    participant: str
    ticket: int
    outcome: str


@dataclass(slots=True)
class HttpTurner:
    """The advice service's turns over HTTP.

    An answer is awaited for ``hold`` seconds, in which the service may hold it, and ``seconds`` more. Where none comes
    in time, or nonsense, nobody decides: the saga goes on by its advice and budget. ``breaker`` keeps a service that
    is down from costing each attempt its ``seconds``.
    """

    url: str
    token: str = field(repr=False)
    seconds: float = 0.5
    hold: float = HOLD
    breaker: Breaker = field(default_factory=Breaker)
    _http: Connections = field(init=False)
    _told: deque[_Ended] = field(init=False, default_factory=lambda: deque(maxlen=10_000))
    _telling: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _problem: str = field(init=False, default="")

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        # Each saga that waits has a connection; the time is bounded around each question.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._http = Connections(timeout=None, headers=headers, limits=limits)

    async def turn(self, coming: Coming, now: float) -> Turn | None:
        """Return the turn when it has come; None where nobody decides."""
        if not self.breaker.may_ask(now):
            return None
        loop = asyncio.get_running_loop()
        began, asked = loop.time(), 0
        while True:
            waited = loop.time() - began
            left = min(coming.left - waited, MOST_LEFT)
            if left <= 0:
                return Turn("stop", because="its time is over")
            # A saga asks again in time to be told that it is too late.
            hold = min(self.hold, left)
            ends = self._take()
            try:
                async with asyncio.timeout(hold + self.seconds):
                    move, turn, pause = _parsed(await self._post(_question(coming, left, asked, hold, ends)))
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, Nonsense) as error:
                self._told.extendleft(reversed(ends))
                self.breaker.failed(now + waited)
                self._tell(str(error) if isinstance(error, Nonsense) else type(error).__name__)
                return None
            self.breaker.answered()
            self._tell("")
            if move != "wait":
                return turn
            asked += 1
            await asyncio.sleep(min(pause, left))

    def ended(self, participant: str, ticket: int, outcome: Outcome) -> None:
        """Tell how an attempt ended, with the next question or soon, whichever is first."""
        self._told.append(_Ended(participant, ticket, told(outcome)))
        if not self._telling:
            task = asyncio.get_running_loop().create_task(self._tell_ends())
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def aclose(self) -> None:
        """Tell what is left, and close the connections of this loop."""
        await self._tell_ends()
        await self._http.aclose()

    async def _tell_ends(self) -> None:
        """Tell ends until none is left; what cannot be told is let go, the service counts it off by itself."""
        while ends := self._take():
            body = orjson.dumps({"saga_id": "-", "ended": [asdict(one) for one in ends]})
            try:
                async with asyncio.timeout(self.seconds):
                    await self._http.here().post(f"{self.url.rstrip('/')}/v1/attempts", content=body)
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
                log.info("how %d attempts ended could not be told (%s)", len(ends), type(error).__name__)
                return

    def _take(self) -> list[_Ended]:
        return [self._told.popleft() for _ in range(min(len(self._told), MOST_TOLD))]

    async def _post(self, question: dict[str, Any]) -> Any:
        answer = await self._http.here().post(f"{self.url.rstrip('/')}/v1/attempts", content=orjson.dumps(question))
        if answer.status_code != httpx.codes.OK:
            raise Nonsense(f"the service answered {answer.status_code}")
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            raise Nonsense("the answer is not JSON") from None

    def _tell(self, problem: str) -> None:
        """Log what has changed: once, not for each attempt."""
        if problem and not self._problem:
            log.warning("no turns are given (%s); sagas go on by their advice and their retry budgets", problem)
        elif self._problem and not problem:
            log.warning("turns are given again")
        self._problem = problem


def told(outcome: Outcome) -> str:
    """Return an attempt's end as the service takes it; ``refused``: the participant says that it has too much to do."""
    if outcome.status == "completed":
        return "ok"
    if outcome.status != "failed":
        return outcome.status
    cause = outcome.cause
    is_refusal = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in _REFUSING
    return "refused" if is_refusal or isinstance(cause, httpx.ConnectError | ConnectionRefusedError) else "error"


def _question(coming: Coming, left: float, asked: int, hold: float, ends: Sequence[_Ended]) -> dict[str, Any]:
    return {
        "saga_id": coming.saga_id,
        "participant": coming.participant,
        "step": coming.step,
        "left_ms": left * 1000,
        "attempts": coming.attempts,
        "asked": asked,
        "then": list(coming.then),
        "hold_ms": hold * 1000,
        "ended": [asdict(one) for one in ends],
    }


def _parsed(document: Any) -> tuple[MoveName, Turn, float]:
    """Return the move, the turn that it is, and the seconds to wait; raises :class:`Nonsense`."""
    move: Any = document.get("move") if isinstance(document, dict) else None
    if move not in get_args(MoveName):
        raise Nonsense("move: none that is known")
    ms, ticket = document.get("ms"), document.get("ticket")
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms <= MOST_LEFT * 1000 or math.isnan(ms):
        raise Nonsense("ms: no number of milliseconds")
    if move == "send" and not (isinstance(ticket, int) and ms > 0):
        raise Nonsense("ticket: none, though the attempt is to be made")
    seconds = ms / 1000
    because = str(document.get("because", ""))[:200]
    if move == "stop":
        return move, Turn("stop", because=because), 0.0
    # Never a busy loop, whatever the service says.
    return move, Turn("send", seconds, because, ticket), max(seconds, 0.01)
