"""Temporal (https://temporal.io): an interceptor for workers, so that workflows are sagas and activities are steps.

What belongs here: the worker's two sides, activities and workflows. What does not: what is advised, budgets, reports
(the same :class:`Client` as elsewhere).

    saga = SagaInterceptor(client, {"charge_payment": "payment"}, undoes={"void_payment": "charge_payment"})
    Worker(…, activities=[charge_payment, void_payment, *saga.activities], interceptors=[saga])

The workflow's type is the saga's, its id the saga's id, an activity's type the step. Retries stay Temporal's: a failed
attempt ends as an ``ApplicationError`` that says when the next one is due, or that there is none. Its type tells why
(``Declined``, ``StepFailed``, ``Held``, ``FallBackAdvised``, ``CompensationAdvised``); what follows is the workflow's
code. An activity declines by raising an ``ApplicationError`` of type ``Declined``, or :class:`Declined`.

A workflow may not look outside, since it is replayed: it is told the policies once, at its start, by a local activity,
and they bound its activities' time-outs and attempts; what has happened goes with each activity as a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RetryPolicy
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from examples.client.attempt import Attempt, Outcome
from examples.client.attempts import Attempts
from examples.client.client import Client
from examples.client.errors import Declined, Permanent
from examples.client.reporting import Happened
from examples.client.saga import Saga

HEADER: Final = "isthmus-saga"
BEGIN: Final = "isthmus.saga.begin"
END: Final = "isthmus.saga.end"
_LOCAL: Final = timedelta(seconds=30)
_PAYLOADS: Final = PayloadConverter.default
_TYPES: Final = {
    "declined": "Declined",
    "failed": "StepFailed",
    "hold": "Held",
    "fall_back": "FallBackAdvised",
    "compensate": "CompensationAdvised",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What both sides know: who does a step, and which activity undoes which."""

    participants: Mapping[str, str]
    undoes: Mapping[str, str]
    deadline_seconds: float | None


class SagaInterceptor(Interceptor):
    """For ``Worker(interceptors=[…])``; its :attr:`activities` belong to the worker's.

    ``participants`` names who does each activity that is a step, by the activity's type; others are left alone.
    ``undoes`` names the step that an activity undoes: it is run as it is, and reported. ``deadline_seconds`` bounds a
    saga from its start.
    """

    def __init__(
        self,
        client: Client,
        participants: Mapping[str, str],
        *,
        undoes: Mapping[str, str] | None = None,
        deadline_seconds: float | None = None,
    ) -> None:
        self._client = client
        self._options = Options(participants, undoes or {}, deadline_seconds)
        if unknown := set(self._options.undoes.values()) - set(participants):
            raise ValueError(f"these are undone, but no participant does them: {', '.join(sorted(unknown))}")

    @property
    def activities(self) -> Sequence[Callable[..., Any]]:
        """The local activities by which a workflow asks and reports."""

        @activity.defn(name=BEGIN)
        async def begin(saga_type: str, saga_id: str, started_at: str) -> dict[str, Any]:
            saga = self._saga(saga_type, saga_id, started_at, [])
            saga.report_started()
            advice = await saga.ask()
            await self._client.settled()
            return {
                f"{step}@{participant}": [policy.timeout, policy.attempts, policy.backoff]
                for step, participant in self._places()
                if (policy := advice.step(step, participant)).known
            }

        @activity.defn(name=END)
        async def end(saga_type: str, saga_id: str, ended_at: str, aborted: tuple[str, str] | None) -> None:
            saga = self._saga(saga_type, saga_id, ended_at, [])
            saga.report_ended(datetime.fromisoformat(ended_at), aborted)
            await self._client.settled()

        return [begin, end]

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Return the activities' side."""
        return _Activities(next, self._client, self._options, self._saga)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return the workflows' side."""
        options = self._options

        class Workflows(_Workflows):
            """The workflows' side, with this worker's options."""

            def __init__(self, next: WorkflowInboundInterceptor) -> None:
                super().__init__(next, options)

        return Workflows

    def _places(self) -> list[tuple[str, str]]:
        return list(self._options.participants.items())

    def _saga(self, saga_type: str, saga_id: str, started_at: str, events: Sequence[Happened]) -> Saga:
        saga = self._client.saga(saga_type, saga_id, deadline_seconds=self._options.deadline_seconds)
        saga.resume(datetime.fromisoformat(started_at), events)
        return saga


class _Activities(ActivityInboundInterceptor):
    """Asks before an attempt, bounds it, and says what follows it."""

    def __init__(
        self, next: ActivityInboundInterceptor, client: Client, options: Options, saga: Callable[..., Saga]
    ) -> None:
        super().__init__(next)
        self._client, self._options, self._saga = client, options, saga

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run an attempt of a step by the advice; any other activity as it is."""
        info = activity.info()
        told = input.headers.get(HEADER)
        if told is None or info.workflow_id is None or info.workflow_type is None:
            return await super().execute_activity(input)
        state = _PAYLOADS.from_payload(told, dict)
        events = [Happened(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in state["events"]]
        saga = self._saga(info.workflow_type, info.workflow_id, state["started_at"], events)
        undone = self._options.undoes.get(info.activity_type)
        if undone is not None:
            result = await super().execute_activity(input)
            saga.note(self._happened(undone, info.attempt, "compensated"))
            return result
        step, participant = info.activity_type, self._options.participants[info.activity_type]
        # What ended badly before is known here alone: the workflow sees an activity when all of its attempts are over.
        saga.resume(
            datetime.fromisoformat(state["started_at"]),
            [*events, *(Happened(info.scheduled_time, step, participant, n, "failed") for n in range(1, info.attempt))],
        )
        execute = super().execute_activity

        async def call(_: Attempt) -> Any:
            try:
                return await execute(input)
            except ApplicationError as error:
                if error.type == "Declined":
                    raise Declined(error.message) from error
                raise (Permanent(error.message) if error.non_retryable else error) from error

        ran: list[Outcome] = []
        record = await Attempts(saga, step, participant, call, ran, number=info.attempt).once()
        if record["end"] == "done":
            return record["result"]
        raise _error(record, ran) from (ran[-1].cause if ran else None)

    def _happened(self, step: str, number: int, status: str) -> Happened:
        return Happened(self._client.wall(), step, self._options.participants[step], number, status)


def _error(record: Mapping[str, Any], ran: Sequence[Outcome]) -> ApplicationError:
    """Return what the attempt ends with; Temporal tries again where it may be retried, after the pause that it says."""
    why = record["why"]
    if record["end"] == "again":
        return ApplicationError(why, type=ran[-1].error, next_retry_delay=timedelta(seconds=record["pause"]))
    return ApplicationError(why, type=_TYPES[record["end"]], non_retryable=True)


class _Workflows(WorkflowInboundInterceptor):
    """Reports begin and end of a workflow, and tells its activities what has happened."""

    def __init__(self, next: WorkflowInboundInterceptor, options: Options) -> None:
        super().__init__(next)
        self._state = _State(options)

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Put our outbound side in front."""
        super().init(_Outbound(outbound, self._state))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """Run the workflow as a saga."""
        info, state = workflow.info(), self._state
        state.started_at = info.workflow_start_time.isoformat()
        name = (info.workflow_type, info.workflow_id)
        state.policies = await _locally(BEGIN, *name, state.started_at)
        try:
            result = await super().execute_workflow(input)
        except FailureError as error:
            aborted = _why(error)
            if aborted[1] != "Held":
                await _locally(END, *name, workflow.now().isoformat(), aborted)
            raise
        await _locally(END, *name, workflow.now().isoformat(), None)
        return result


async def _locally(name: str, *arguments: Any) -> Any:
    return await workflow.execute_local_activity(name, args=arguments, start_to_close_timeout=_LOCAL)


def _why(error: BaseException) -> tuple[str, str]:
    """Return reason and detail of an end: the business's word, or the name of a technical failure."""
    cause = error.cause if isinstance(error, ActivityError) and error.cause is not None else error
    if isinstance(cause, ApplicationError) and cause.type == "Declined":
        return "business", cause.message
    name = cause.type if isinstance(cause, ApplicationError) else None
    return "technical", name or type(cause).__name__


class _State:
    """What a workflow knows of its saga."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.started_at = ""
        self.policies: dict[str, list[float]] = {}
        self.events: list[dict[str, Any]] = []

    def note(self, step: str, ended: asyncio.Future[Any]) -> None:
        """Remember how an activity ended."""
        if ended.cancelled():
            return
        undone = self.options.undoes.get(step)
        if undone is not None and ended.exception() is not None:
            return
        status = "compensated" if undone else "failed" if ended.exception() else "completed"
        name = undone or step
        happened = Happened(workflow.now(), name, self.options.participants[name], 1, status)
        self.events.append({**happened.told(), "status": status})

    def header(self) -> Payload:
        """Return what goes with an activity."""
        return _PAYLOADS.to_payload({"started_at": self.started_at, "events": self.events})


class _Outbound(WorkflowOutboundInterceptor):
    """Bounds activities by the policies, and tells them what has happened."""

    def __init__(self, next: WorkflowOutboundInterceptor, state: _State) -> None:
        super().__init__(next)
        self._state = state

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """Start an activity; one that is no step as it is."""
        state, step = self._state, input.activity
        if step not in state.options.participants and step not in state.options.undoes:
            return super().start_activity(input)
        input.headers = {**input.headers, HEADER: state.header()}
        policy = state.policies.get(f"{step}@{state.options.participants.get(step)}")
        if policy is not None:
            # The worker gives up at the time-out that holds by then; this one is for a worker that has died.
            advised = timedelta(seconds=policy[0]) * 2
            input.start_to_close_timeout = min(advised, input.start_to_close_timeout or advised)
            # An attempt says itself when the next one is due; the interval is for those that say nothing any more.
            interval = timedelta(seconds=max(0.001, policy[2]))
            advised_retries = RetryPolicy(initial_interval=interval, maximum_attempts=max(1, int(policy[1])))
            input.retry_policy = input.retry_policy or advised_retries
        handle = super().start_activity(input)
        handle.add_done_callback(partial(state.note, step))
        return handle
