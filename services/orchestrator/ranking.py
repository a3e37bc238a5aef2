"""Whom traces, logs and metrics blame: the form of a question about a window, and its answer, in a process of its own.

What belongs here: bounds, frames for ``ml.root_cause``, and the process that ranks. What does not: the ranking itself.

``python -m services.orchestrator.ranking`` reads a question from its standard input and writes status and answer to its
standard output. A process, since thousands of spans cost seconds of computation that advice must not wait for: a thread
would share the interpreter with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_BODY_BYTES: Final = 33_554_432
MOST_ROWS: Final = 100_000
SECONDS: Final = 60.0
_AT_ONCE: Final = 1

Id = Annotated[str, Field(max_length=200)]
Us = Annotated[int, Field(ge=0, lt=1 << 62)]


class Form(BaseModel):
    """A part of the question; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class Span(Form):
    """One span of a trace; times are microseconds since 1970, UTC."""

    trace: Id
    span: Id
    parent: Id = Field(default="", description="Empty at the front.")
    service: Id
    operation: Annotated[str, Field(max_length=500)]
    start_us: Us
    end_us: Us


class Line(Form):
    """One log line; without ``trace`` and ``span`` it counts only where it has a time and there are no spans."""

    trace: Id = ""
    span: Id = ""
    service: Id
    text: Annotated[str, Field(max_length=2_000)]
    time_us: Us | None = None


class Sample(Form):
    """Metrics of a service at a moment, by name."""

    time_us: Us
    service: Id
    values: dict[Id, Annotated[float, Field(allow_inf_nan=False)]] = Field(max_length=50)


class Seen(Form):
    """What was seen of all services over some time."""

    spans: list[Span] = Field(default_factory=list, max_length=MOST_ROWS)
    logs: list[Line] = Field(default_factory=list, max_length=MOST_ROWS)
    metrics: list[Sample] = Field(default_factory=list, max_length=MOST_ROWS)


class RootCauseQuestion(Form):
    """The window in which something is wrong, and a time in which nothing was, or little."""

    window: Seen
    reference: Seen
    kinds: dict[Id, Literal["use", "served"]] = Field(
        default_factory=dict,
        max_length=50,
        description="What each metric says: use of a resource, or latency served to callers. Others are left out.",
    )
    limit: int = Field(default=10, ge=1, le=1_000, description="Most services that are named.")

    @model_validator(mode="after")
    def _something(self) -> RootCauseQuestion:
        if not (self.window.spans or self.window.logs or self.window.metrics):
            raise ValueError("the window is empty")
        return self


class Reasoned(BaseModel):
    """One piece of evidence: of which family, by which instrument, how strong (0 to 1), and in words."""

    family: Literal["time", "behaviour", "use"]
    instrument: Literal["traces", "logs", "links", "metrics"]
    strength: float
    words: str


class Blamed(BaseModel):
    """A service and how much it is to blame: 0 to 1, comparable within this ranking, no probability."""

    service: str
    score: float
    evidence: list[Reasoned]


class RootCauseAnswer(BaseModel):
    """The services, the most to blame first; one without evidence has the score 0."""

    ranking: list[Blamed]
    used: list[Literal["traces", "logs", "links", "metrics"]] = Field(
        description="Sources that there was evidence from."
    )
    services: int = Field(description="How many were seen.")


class Busy(Exception):
    """As many rankings run as may."""


class Failed(Exception):
    """A ranking did not come to its end."""


class Ranker:
    """Runs rankings, each in a process of its own and with a limit of time."""

    def __init__(self, *, at_once: int = _AT_ONCE, seconds: float = SECONDS) -> None:
        self._at_once = at_once
        self._seconds = seconds
        self._running = 0

    async def rank(self, body: bytes) -> tuple[int, bytes]:
        """Return status and answer to a question; raises :class:`Busy` and :class:`Failed`."""
        if self._running >= self._at_once:
            raise Busy
        self._running += 1
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.orchestrator.ranking",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
            try:
                answer, _ = await asyncio.wait_for(process.communicate(body), self._seconds)
            except TimeoutError:
                raise Failed(f"it took longer than {self._seconds:g} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if process.returncode != 0 or not answer:
                raise Failed("it broke off")
            return int(answer[:3]), answer[3:]
        finally:
            self._running -= 1


def ranked(body: bytes) -> tuple[int, bytes]:
    """Return the status and the answer to a question as JSON."""
    try:
        asked = RootCauseQuestion.model_validate_json(body)
    except ValidationError as error:
        # Places and what is wrong, never a value.
        problems = [{"at": ["body", *one["loc"]], "problem": one["msg"]} for one in error.errors(include_input=False)]
        return 422, orjson.dumps({"detail": "The question has not the right form.", "problems": problems[:100]})
    from ml.root_cause import NothingToRank, learn, rank

    try:
        found = rank(_observed(asked.window, asked.kinds), learn(_observed(asked.reference, asked.kinds)))
    except NothingToRank as error:
        return 422, orjson.dumps({"detail": f"There is nothing to rank by: {error}."})
    blames = [
        {
            "service": blame.service,
            "score": blame.score,
            "evidence": [
                {"family": one.family, "instrument": one.instrument, "strength": one.strength, "words": one.words}
                for one in blame.evidence
            ],
        }
        for blame in found.blames[: asked.limit]
    ]
    return 200, orjson.dumps({"ranking": blames, "used": found.used, "services": len(found.blames)})


def _observed(seen: Seen, kinds: dict[str, Literal["use", "served"]]) -> Any:
    import pandas as pd

    from ml.root_cause import Observed

    spans = pd.DataFrame([one.model_dump() for one in seen.spans]) if seen.spans else None
    logs = metrics = None
    if seen.logs:
        logs = pd.DataFrame([one.model_dump() for one in seen.logs])
        if logs["time_us"].isna().any():
            logs = logs.drop(columns="time_us")
    if seen.metrics and kinds:
        metrics = pd.DataFrame(
            [
                {"time_us": one.time_us, "service": one.service, **{name: one.values.get(name) for name in kinds}}
                for one in seen.metrics
            ]
        )
        metrics[list(kinds)] = metrics[list(kinds)].astype("float64")
    return Observed(spans=spans, logs=logs, metrics=metrics, kinds=kinds)


def main() -> int:
    """Answer one question; return the process's exit code."""
    os.nice(10)  # who waits for advice goes first
    status, answer = ranked(sys.stdin.buffer.read())
    sys.stdout.buffer.write(b"%d%s" % (status, answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
