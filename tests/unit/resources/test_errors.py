"""Retries: bounded, only for what may succeed later, and never a second time for what may have happened."""

from __future__ import annotations

import pytest

from resources.errors import KafkaError, WarehouseError, WarehouseUnavailable, retrying


def test_an_unavailable_server_is_asked_again_and_then_given_up() -> None:
    calls: list[int] = []
    slept: list[float] = []

    def call() -> None:
        calls.append(1)
        raise WarehouseUnavailable("away")

    with pytest.raises(WarehouseUnavailable):
        retrying(call, attempts=4, sleep=slept.append)
    assert (len(calls), len(slept)) == (4, 3)
    assert sum(slept) <= 0.1 + 0.2 + 0.4


@pytest.mark.parametrize("error", [WarehouseError("no"), KafkaError("no"), ValueError("ours")])
def test_a_permanent_error_is_not_repeated(error: Exception) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        retrying(call, attempts=4, sleep=lambda _: None)
    assert len(calls) == 1


@pytest.mark.parametrize(("sent", "expected"), [(True, 1), (False, 3)])
def test_what_is_not_idempotent_is_repeated_only_where_it_was_never_sent(sent: bool, expected: int) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise WarehouseUnavailable("away", sent=sent)

    with pytest.raises(WarehouseUnavailable):
        retrying(call, attempts=3, idempotent=False, sleep=lambda _: None)
    assert len(calls) == expected
