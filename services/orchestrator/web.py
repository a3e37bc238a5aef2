"""The HTTP side of the advice service: ``POST /v1/sagas/{type}/advice``, ``/health``, ``/ready``, ``/metrics``.

What belongs here: the form of a question and an answer, who may ask, and figures. What does not: what is advised
(:mod:`services.orchestrator.advice`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ml.knowledge.incidents import FailingSaga
from ml.sagas.features import FAILED
from ml.sagas.spec import NAN, SagaEvent
from services.doors import Tokens
from services.orchestrator import description
from services.orchestrator.advice import Advice, Risk, advise
from services.orchestrator.gate import Gate, Queue, problem
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.ranking import MAX_BODY_BYTES, Busy, Failed, Ranker, RootCauseAnswer
from services.orchestrator.standing import Keeper
from services.orchestrator.steering import Asked, Coming, TooManyParticipants, TurnAnswer, Turns
from services.orchestrator.suspects import suspects

log = logging.getLogger("isthmus.orchestrator")

MAX_EVENTS: Final = 1_000
#: The gate has looked at the token by then; this is for the description.
_TOKEN: Final = HTTPBearer(auto_error=False, description="A token of `ISTHMUS_ADVICE_TOKENS`.")
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_ROOT_CAUSE: Final = "/v1/root-cause"
_ANSWER: Final = tuple(each.name for each in fields(Advice))
_RISK: Final = tuple(each.name for each in fields(Risk))
Name = Annotated[str, Field(min_length=1, max_length=200)]
Status = Literal["scheduled", "started", "completed", "failed", "timed_out", "retried", "compensated"]


class Told(BaseModel):
    """One event of the saga, as its orchestrator tells it."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime = Field(description="When it happened, with its offset from UTC.")
    step: Name
    participant: Name
    status: Status
    attempt: int = Field(default=1, ge=1, le=1_000_000)
    worker: str = Field(default="", max_length=200)
    error: str = Field(default="", max_length=2_000, description="What a failed attempt said; it is not kept.")
    duration_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    load: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Requests in flight at the participant then."
    )


class Question(BaseModel):
    """A running saga: what happened so far, oldest first."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [description.QUESTION]})

    saga_id: Name
    started_at: AwareDatetime
    amount: float | None = Field(default=None, allow_inf_nan=False)
    events: list[Told] = Field(default_factory=list, max_length=MAX_EVENTS)
    load: dict[Name, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, max_length=1_000, description="Requests in flight now, by participant."
    )
    giving_up: bool = Field(
        default=False, description="Its orchestrator will undo it whatever is advised: the plan is asked for."
    )


class Figures:
    """What the service counts."""

    def __init__(self, keeper: Keeper, live: Live, turns: Turns) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(live)
        self.registry.register(turns)
        ProcessCollector(registry=self.registry)
        prefix = "isthmus_orchestrator_"
        self.advice = Counter(prefix + "advice", "Answers, by action.", ["action"], registry=self.registry)
        self.defaults = Counter(
            prefix + "defaults", "Answers without a policy or a model.", ["missing"], registry=self.registry
        )
        self.refused = Counter(prefix + "refused", "Requests refused, by status.", ["status"], registry=self.registry)
        self.seconds = Histogram(
            prefix + "advice_seconds", "Seconds that an answer took.", buckets=_BUCKETS, registry=self.registry
        )
        self.waiting = Gauge(prefix + "waiting", "Questions that wait for their turn.", registry=self.registry)
        for name, text, figure in (
            ("policies", "Policies in force.", lambda: len(keeper.standing.policies)),
            ("champions", "Champion models.", lambda: sum(map(len, keeper.standing.champions.values()))),
            ("problems", "Stores that do not answer.", lambda: len(keeper.standing.problems)),
            ("standing_age_seconds", "Seconds since the stores were read.", lambda: keeper.age or 0.0),
        ):
            Gauge(prefix + name, text, registry=self.registry).set_function(figure)


def application(
    keeper: Keeper, tokens: Mapping[str, str], live: Live, past: Past, *, most_waiting: int = 64
) -> FastAPI:
    """Return the ASGI application; ``tokens`` are those who may ask, name → token.

    More than ``most_waiting`` questions do not wait: what comes then is refused with 503.
    """
    turns = Turns(lambda: keeper.standing)
    figures = Figures(keeper, live, turns)
    queue = Queue(most_waiting)
    figures.waiting.set_function(lambda: len(queue))
    # Its pages for people load scripts from elsewhere.
    app = FastAPI(title="Isthmus: saga advice", version=version("isthmus"), docs_url=None, redoc_url=None)
    app.add_middleware(
        Gate,
        tokens=Tokens(tokens),
        queue=queue,
        refused=lambda status: figures.refused.labels(str(status)).inc(),
        most_bytes={_ROOT_CAUSE: MAX_BODY_BYTES},
    )
    description.described(app)
    ranker = Ranker()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        # The library's own answer repeats the values, which may be personal.
        problems = [{"at": list(one["loc"]), "problem": one["msg"]} for one in error.errors()]
        return problem(422, "The question has not the right form.", problems=problems)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the process lives."""
        return {"ok": True}

    @app.get("/ready", response_model=description.Ready, responses={503: {"model": description.Ready}})
    async def ready(response: Response) -> dict[str, Any]:
        """Whether it has read what stands; it is ready, with what it knows, also while a store does not answer."""
        standing, read = keeper.standing, keeper.age is not None
        response.status_code = 200 if read else 503
        return {
            "ok": read,
            "policies": sorted(standing.policies),
            "champions": sorted(f"{one.version.name}/{one.version.version}" for one in _all(standing.champions)),
            "runbooks": len(past.known.runbooks),
            "incidents": len(past.known.incidents),
            "timeouts": standing.timeouts.at or None,
            "problems": {**standing.problems, **live.problems, **past.problems},
        }

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/v1/sagas/{saga_type}/advice",
        dependencies=[Depends(_TOKEN)],
        response_model=description.Answer,
        responses=description.REFUSALS,
    )
    async def advice(saga_type: Annotated[str, Path(min_length=1, max_length=200)], question: Question) -> Response:
        """What this saga should do next: an action, the risk with its reasons, time-outs and retries of what comes."""
        began = time.perf_counter()
        events = _events(question)
        # What the question tells wins over what the stream has seen.
        load = {**live.loads, **question.load}
        answer = advise(
            saga_type,
            question.saga_id,
            events,
            keeper.standing,
            now=datetime.now(UTC),
            load=load,
            giving_up=question.giving_up,
        )
        plain = _plain(answer)
        plain["explanation"] = _explanation(question, events, answer, keeper, past)
        figures.advice.labels(answer.action).inc()
        for missing in answer.defaults:
            figures.defaults.labels(missing.partition(":")[0]).inc()
        figures.seconds.observe(time.perf_counter() - began)
        return Response(orjson.dumps(plain), media_type="application/json")

    @app.post(
        _ROOT_CAUSE,
        dependencies=[Depends(_TOKEN)],
        response_model=RootCauseAnswer,
        responses=description.REFUSALS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/RootCauseQuestion"},
                        "example": description.ROOT_CAUSE,
                    }
                },
            }
        },
    )
    async def root_cause(request: Request) -> Response:
        """Which service is to blame for what is unusual about a window, by traces, logs and metrics, with reasons.

        It is ranked in a process of its own, one question at a time; a second one meanwhile is refused with 503.
        """
        try:
            status, answer = await ranker.rank(await request.body())
        except Busy:
            return problem(503, "Another ranking runs; ask again.", {"Retry-After": "5"})
        except Failed as error:
            log.warning("a ranking of services failed: %s", error)
            return problem(500, f"The ranking failed: {error}.")
        return Response(answer, status, media_type="application/json")

    @app.post(
        "/v1/attempts",
        dependencies=[Depends(_TOKEN)],
        response_model=TurnAnswer,
        responses={**description.REFUSALS, 204: {"description": "It only told how attempts ended."}},
    )
    async def attempts(asked: Asked, request: Request) -> Response:
        """Whether a saga's next attempt is made now (`send`), later (`wait`), or not at all (`stop`)."""
        for one in asked.ended:
            turns.tell(one.participant, one.ticket, one.outcome)
        if asked.participant is None:
            return Response(status_code=204)
        try:
            coming = Coming(
                asked.participant,
                asked.saga_id,
                asked.left_ms / 1000,
                attempts=asked.attempts,
                asked=asked.asked,
                then=asked.then,
                step=asked.step,
            )
            turn = await turns.ask_and_wait(coming, hold=asked.hold_ms / 1000, is_gone=request.is_disconnected)
        except TooManyParticipants as error:
            return problem(422, str(error))
        if turn is None:
            return Response(status_code=499)
        answer = {"move": turn.move, "ms": turn.seconds * 1000, "because": turn.because, "ticket": turn.ticket}
        return Response(orjson.dumps(answer), media_type="application/json")

    return app


def _all(champions: Mapping[str, Any]) -> list[Any]:
    return [one for ones in champions.values() for one in ones]


def _us(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def _events(question: Question) -> list[SagaEvent]:
    """Return the saga's events in the order of time; those of one moment stay as they were told."""
    amount = NAN if question.amount is None else question.amount
    started = SagaEvent(question.saga_id, "started", _us(question.started_at), amount=amount)
    told = [
        SagaEvent(
            question.saga_id,
            "step",
            _us(one.at),
            step=one.step,
            participant=one.participant,
            status=one.status,
            attempt=one.attempt,
            worker=one.worker,
            duration_ms=NAN if one.duration_ms is None else one.duration_ms,
            load=NAN if one.load is None else one.load,
        )
        for one in question.events
    ]
    return [started, *sorted(told, key=lambda one: one.us)]


def _explanation(
    question: Question, events: list[SagaEvent], answer: Advice, keeper: Keeper, past: Past
) -> dict[str, Any] | None:
    """Return whom a failing saga points at and what the past says; None where neither a step nor the risk alarms."""
    if not question.events:
        return None
    # The newest; of those of one moment the one that was told last.
    told = max(reversed(question.events), key=lambda one: one.at)
    fails, step, participant = told.status in FAILED, told.step, told.participant
    if not fails:
        if answer.risk is None or not answer.risk.alarm:
            return None
        worst = max(answer.risk.reasons, key=lambda one: one.moved, default=None)
        if worst is not None:
            step, participant = worst.step, worst.participant
    error = (told.error or told.status.replace("_", " ")) if fails else ""
    policy = keeper.standing.policies.get(answer.saga_type)
    return {
        "suspects": suspects(events, policy.action["steps"] if policy else ()),
        "past": past.of(FailingSaga(answer.saga_type, step, participant, error)),
    }


def _plain(answer: Advice) -> dict[str, Any]:
    """Return an answer as the encoder takes it, which knows dataclasses by itself but not their properties."""
    plain = {name: getattr(answer, name) for name in _ANSWER}
    if answer.risk is not None:
        plain["risk"] = {name: getattr(answer.risk, name) for name in _RISK} | {"alarm": answer.risk.alarm}
    return plain
