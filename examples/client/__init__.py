"""The client library: what an orchestrator needs to ask for advice, to obey it, and to report its steps.

What belongs here: asking, time-outs, retries within a budget, shedding by deadline, compensation, reporting, and
adapters for durable orchestrators. What does not: any participant, any store, anything that the services import.
"""

from examples.client.attempt import Attempt
from examples.client.client import Client
from examples.client.errors import (
    Backlog,
    CompensationAdvised,
    CompensationFailed,
    Declined,
    FallBackAdvised,
    Held,
    Permanent,
    SagaError,
    StepFailed,
    Undelivered,
)
from examples.client.saga import Saga, Step
from examples.client.steps import step

__all__ = [
    "Attempt",
    "Backlog",
    "Client",
    "CompensationAdvised",
    "CompensationFailed",
    "Declined",
    "FallBackAdvised",
    "Held",
    "Permanent",
    "Saga",
    "SagaError",
    "Step",
    "StepFailed",
    "Undelivered",
    "step",
]
