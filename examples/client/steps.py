"""Steps as decorated functions, for sagas that read like plain code.

What belongs here: the decorator. What does not: what a step does (:class:`examples.client.saga.Saga`).

    @step("charge_payment", "payment", compensate=void)
    async def charge(attempt: Attempt, order: Order) -> Charge: ...

    async with client.saga("order", order.id):
        await charge(order)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from examples.client.attempt import Attempt, Call
from examples.client.saga import Saga, Step

P = ParamSpec("P")
T = TypeVar("T")
Function = Callable[Concatenate[Attempt, P], Awaitable[T]]
Other = Callable[..., Awaitable[object]]
"""A function with the same arguments as the step's."""


def step(
    name: str,
    participant: str,
    *,
    compensate: Other | None = None,
    fall_back: tuple[str, str, Other] | None = None,
) -> Callable[[Function[P, T]], Callable[P, Awaitable[T]]]:
    """Make a function a step of whatever saga it is called in; raises LookupError where it is called in none.

    The function, ``compensate`` and the one in ``fall_back`` (name, participant, function) are given the
    :class:`Attempt`, then the arguments of the call.
    """

    def decorated(function: Function[P, T]) -> Callable[P, Awaitable[T]]:
        @wraps(function)
        async def called(*args: P.args, **kwargs: P.kwargs) -> T:
            def bound(one: Other) -> Call:
                return lambda attempt: one(attempt, *args, **kwargs)

            other = None if fall_back is None else Step(fall_back[0], fall_back[1], bound(fall_back[2]))
            undo = None if compensate is None else bound(compensate)
            saga = Saga.current()
            result = await saga.step(name, participant, bound(function), compensate=undo, fall_back=other)
            return cast(T, result)

        return called

    return decorated
