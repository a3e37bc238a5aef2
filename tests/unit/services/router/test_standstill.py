"""A loop that stands still ends its process; one that turns does not."""

from __future__ import annotations

import logging
import time

import pytest

from services.router.health import Health
from services.router.metrics import Metrics
from services.router.standstill import EXIT_CODE, watch


def test_a_loop_that_stands_still_ends_the_process_and_says_where(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    health = Health(Metrics())
    with caplog.at_level(logging.CRITICAL):
        watching = watch(health, seconds=0.05, every=0.01, end=ended.append)
        health.turned()
        watching.join(10)
    assert ended == [EXIT_CODE]
    assert "stood still" in caplog.text
    assert "test_standstill.py" in capfd.readouterr().err


def test_a_loop_that_turns_is_left_alone() -> None:
    ended: list[int] = []
    health = Health(Metrics())
    watching = watch(health, seconds=1_000.0, every=0.01, end=ended.append)
    time.sleep(0.05)
    health.turned()
    assert watching.is_alive()
    assert not ended
