"""The description of the HTTP side (``/openapi.json``): forms of answers and refusals, and examples.

What belongs here: what is told about answers. What does not: making them; they are encoded as they are, so that a
description costs a request nothing. A test holds real answers to these forms.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, get_type_hints

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import models_json_schema

from services.orchestrator.advice import Advice, Risk
from services.orchestrator.ranking import RootCauseQuestion
from services.orchestrator.suspects import Suspect

TEXTS: Final = {
    "saga_type": "As in the path.",
    "saga_id": "As in the question.",
    "action": "What to do next; `hold`: a person decides.",
    "because": "Why, in a sentence.",
    "risk": "Null where no model can tell; `defaults` says why.",
    "steps": "For each step that has not completed; the entry `*` is the default for any other one.",
    "decision_id": "The policy that it rests on; null where none is in force.",
    "valid_to": "When that policy's validity ends or has ended.",
    "stale": "Whether that validity has ended; the last good policy stays in force.",
    "defaults": "What the answer does not rest on, and why; empty where policy and model both speak.",
    "compensation": "What to undo, in order, where the action is `compensate` or `hold`.",
}
#: A question and its answer, as the tests of the description hold them to their forms.
QUESTION: Final[dict[str, Any]] = {
    "saga_id": "o-1",
    "started_at": "2026-11-24T12:00:00Z",
    "amount": 20,
    "events": [
        {
            "at": "2026-11-24T12:00:01Z",
            "step": "charge",
            "participant": "payment",
            "status": "failed",
            "error": "ServiceUnavailable",
        }
    ],
    "load": {"payment": 12},
}
ROOT_CAUSE: Final[dict[str, Any]] = {
    "window": {
        "spans": [
            {
                "trace": "t-9", "span": "1", "parent": "", "service": "shop", "operation": "POST /orders",
                "start_us": 1_764_000_000_000_000, "end_us": 1_764_000_003_000_000,
            },
            {
                "trace": "t-9", "span": "2", "parent": "1", "service": "payment", "operation": "charge",
                "start_us": 1_764_000_000_100_000, "end_us": 1_764_000_002_900_000,
            },
        ],
        "metrics": [{"time_us": 1_764_000_000_000_000, "service": "payment", "values": {"cpu": 0.93}}],
    },
    "reference": {"spans": [], "metrics": []},
    "kinds": {"cpu": "use"},
    "limit": 5,
}  # fmt: skip


class Strict(BaseModel):
    """What an answer does not have is no part of the description."""

    model_config = ConfigDict(extra="forbid")


class Term(Strict):
    """A term that the failure and a document share, and its share of the document's score."""

    term: str
    share: float


class Document(Strict):
    """A runbook or a past incident, with its best passage and why it was found."""

    id: str
    title: str
    heading: str
    passage: str
    because: list[Term]


class Found(Strict):
    """What was found; ``found`` is empty where nothing fits, and ``said`` says so."""

    said: str
    confidence: float = Field(ge=0, le=1, description="Probability that the first one fits; shown from 0.5 on.")
    found: list[Document]


class Past(Strict):
    """What incidents and runbooks say of a failure; ``question`` is what they were asked."""

    question: str
    incidents: Found
    runbook: Found


class Explanation(Strict):
    """Whom the saga's own events point at, and what the past says."""

    suspects: list[Suspect]
    past: Past


class Problem(BaseModel):
    """A refusal; ``problems`` (of 422) are places and what is wrong there, never a value."""

    detail: str
    problems: list[dict[str, Any]] | None = None


class Ready(BaseModel):
    """What the service knows; ``problems`` names the parts that do not work, and the class of the error."""

    ok: bool
    policies: list[str]
    champions: list[str]
    runbooks: int
    incidents: int
    timeouts: str | None
    problems: dict[str, str]


def _of(dataclass: type[Any], name: str, **more: Any) -> type[BaseModel]:
    """Return a model with a dataclass's fields, so that a new one cannot be forgotten here, and ``more``."""
    hints = get_type_hints(dataclass)
    own = {each.name: (hints[each.name], Field(description=TEXTS.get(each.name))) for each in fields(dataclass)}
    return create_model(name, __base__=Strict, __doc__=(dataclass.__doc__ or "").strip(), **own | more)


RiskAnswer = _of(Risk, "RiskAnswer", alarm=(bool, Field(description="Whether it lies at or above `threshold`.")))
Answer = _of(
    Advice,
    "Answer",
    risk=(RiskAnswer | None, Field(description=TEXTS["risk"])),
    explanation=(
        Explanation | None,
        Field(description="Null unless the newest step ended badly or the risk alarms."),
    ),
)


def _refusal(text: str) -> dict[str, Any]:
    return {"model": Problem, "description": text}


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    401: _refusal("No token, or one that is not known."),
    411: _refusal("The request does not say how long its body is."),
    413: _refusal("The body is too long."),
    422: _refusal("The question has not the right form."),
    503: _refusal("Too many ask; `Retry-After` says in how many seconds to ask again."),
}


def described(app: FastAPI) -> None:
    """Make ``app`` tell also of the question about root causes, whose body no route parses."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, forms = models_json_schema(
                [(RootCauseQuestion, "validation")], ref_template="#/components/schemas/{model}"
            )
            schema["components"]["schemas"].update(forms["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
