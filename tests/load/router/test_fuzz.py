"""Mutated messages never stop the router; each ends once, in a domain topic or as a dead letter."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from tests.load.router.fuzz import Outcome, in_process, through_a_router
from tests.load.router.report import dated, write

SEED = 20_261_124
SHORT, LONG = 20_000, 1_000_000


def assert_sound(outcome: Outcome, count: int) -> None:
    assert not outcome.wrong, outcome.wrong[:5]
    assert outcome.routed + outcome.reasons.total() == count
    assert outcome.routed > 0.05 * count
    # Each way of refusing is met, so the mutators do what they are for.
    assert outcome.reasons.keys() >= {
        "empty",
        "malformed-json",
        "invalid-envelope",
        "invalid-data",
        "unknown-type",
        "unknown-version",
        "too-large",
    }
    assert "internal-error" not in outcome.reasons


def test_any_record_has_one_fate_and_a_way_back() -> None:
    assert_sound(in_process(SEED, SHORT), SHORT)


def test_no_record_stops_a_router(kafka_bootstrap: str, tmp_path: Path) -> None:
    assert_sound(through_a_router(kafka_bootstrap, tmp_path, SEED + 1, SHORT), SHORT)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_records_have_one_fate_each_and_stop_nothing(kafka_bootstrap: str, tmp_path: Path) -> None:
    pure = in_process(SEED, LONG)
    whole = through_a_router(kafka_bootstrap, tmp_path, SEED + 1, LONG)
    broker = "Apache Kafka" if os.environ.get("ISTHMUS_TEST_KAFKA") else "embedded broker"
    rows = {
        "Date, seed, machine": dated(SEED, f"{os.cpu_count()} cores, {platform.system()}"),
        "`route()` in process": _told(pure),
        f"Through a router process, {broker}": _told(whole),
        "Refused there": ", ".join(f"{count:,} {reason}" for reason, count in whole.reasons.most_common()),
        "**Exceptions, losses, doubles, wrong topics**": f"**{len(pure.wrong) + len(whole.wrong) or 'none'}**",
        "The process afterwards": "alive, ready, ended by SIGTERM with 0",
    }
    write("router-fuzz", rows)
    assert_sound(pure, LONG)
    assert_sound(whole, LONG)


def _told(outcome: Outcome) -> str:
    return (
        f"{outcome.count:,} mutants in {outcome.seconds:.0f} s: {outcome.routed:,} routed, "
        f"{outcome.reasons.total():,} refused"
    )
