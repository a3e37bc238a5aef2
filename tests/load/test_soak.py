"""Exactness, the long form: the whole data set, Dagster's own daemon, fifty kills; the result goes into the docs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resources.settings import get_settings
from tests.load.bench import KAFKA
from tests.load.report import write
from tests.load.soak import IN_FLIGHT, run_long

LOANS = get_settings().data / "saga_bpic2012"
KILLS = 50


@pytest.mark.soak
@pytest.mark.timeout(5400)
@pytest.mark.skipif(
    not LOANS.is_dir(), reason=f"no data set at {LOANS} (ISTHMUS_DATA names the folder of the data sets)"
)
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path, broker: str) -> None:
    kafka = os.environ.get(KAFKA, "") if broker == "kafka" else ""
    if broker == "kafka" and not kafka:
        pytest.skip(f"{KAFKA} names no real Kafka (python -m tests.services --only kafka … starts one)")
    result = run_long(tmp_path, LOANS, seed=20_261_123, kills=KILLS, kafka=kafka)
    write(result)
    assert result.verdict.differences == []
    assert result.verdict.offsets == result.verdict.raw_rows == result.replay.sent
    assert result.verdict.events == result.replay.distinct
    assert len(result.kills) >= KILLS
    assert result.in_flight >= IN_FLIGHT * KILLS
