"""The interceptor on a Temporal server: workflows become sagas, activities steps, and the advice is obeyed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import Client as Temporal
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from events.codec import Event, decode
from examples.client import Client
from examples.client.reporting import Reports
from examples.client.sinks import ListSink
from examples.client.temporal import SagaInterceptor
from tests.integration.examples.temporal_orders import CALLS, Order, charge, release, reserve
from tests.unit.examples.client.world import POLICY, Says

pytestmark = pytest.mark.services
PARTICIPANTS = {"reserve": "inventory", "charge": "payment"}


def run(adviser: Says, *orders: tuple[str, float]) -> tuple[list[Any], dict[str, list[Event]]]:
    """Run orders (workflow id, amount) one after the other; return what each came to, and its events."""
    CALLS.clear()
    sink = ListSink()
    client = Client("/tests/temporal", Reports(sink), adviser=adviser, minimum_retries=10)

    async def all_of_them() -> list[Any]:
        temporal = await Temporal.connect(os.environ["ISTHMUS_TEST_TEMPORAL"])
        saga = SagaInterceptor(client, PARTICIPANTS, undoes={"release": "reserve"}, deadline_seconds=60)
        activities: list[Callable[..., Any]] = [reserve, charge, release, *saga.activities]
        ended: list[Any] = []
        async with Worker(temporal, task_queue="orders", workflows=[Order], activities=activities, interceptors=[saga]):
            for name, amount in orders:
                try:
                    ended.append(await temporal.execute_workflow(Order.run, amount, id=name, task_queue="orders"))
                except WorkflowFailureError as error:
                    ended.append(_type(error))
        await client.aclose()
        return ended

    ended = asyncio.run(all_of_them())
    events: dict[str, list[Event]] = {name: [] for name, _ in orders}
    for report in sink.reports:
        events[report.key.decode()].append(decode(report.value))
    return ended, events


def _type(error: WorkflowFailureError) -> str | None:
    """Return the type of what ended the activity that ended the workflow."""
    activity = error.cause
    cause = activity.cause if isinstance(activity, ActivityError) else None
    return cause.type if isinstance(cause, ApplicationError) else None


def course(events: list[Event]) -> list[str]:
    return [event.id.partition("/")[2] for event in events]


def test_workflows_are_sagas_whose_attempts_follow_the_advice() -> None:
    adviser = Says(policy=POLICY)
    ended, events = run(adviser, ("good", 20.0), ("flaky", 20.0), ("dead", 20.0), ("declined", 4000.0))
    assert ended == ["paid", "paid", "StepFailed", "Declined"]
    assert course(events["good"]) == [
        "started",
        *(f"reserve@inventory/1/{status}" for status in ("scheduled", "started", "completed")),
        *(f"charge@payment/1/{status}" for status in ("scheduled", "started", "completed")),
        "ended",
    ]
    assert [call[2] for call in CALLS if call[:2] == ("flaky", "charge")] == [1, 2, 3]
    assert [call[2] for call in CALLS if call[:2] == ("dead", "charge")] == [1, 2, 3], "as many as are advised"
    assert [call[2] for call in CALLS if call[:2] == ("declined", "charge")] == [1]
    assert course(events["flaky"])[-6:] == [
        *("charge@payment/2/failed", "charge@payment/2/retried"),
        *("charge@payment/3/scheduled", "charge@payment/3/started", "charge@payment/3/completed"),
        "ended",
    ]
    assert course(events["dead"])[-2:] == ["reserve@inventory/1/compensated", "ended"]
    assert events["dead"][-1].data == {"saga_type": "order", "reason": "technical", "detail": "StepFailed"}
    assert events["declined"][-1].data == {"saga_type": "order", "reason": "business", "detail": "CardDeclined"}
    told = [q for q in adviser.questions if q.saga_id == "good"][-1]
    assert [(one.step, one.status) for one in told.events] == [("reserve", "completed")], "the prefix goes with it"


def test_hold_ends_the_workflow_and_not_the_saga() -> None:
    ended, events = run(Says("go_on", "go_on", "hold"), ("held", 20.0))
    assert ended == ["Held"]
    assert not [call for call in CALLS if call[1] == "charge"]
    assert "ended" not in course(events["held"])
