"""Retention: what words and TTLs say, and how a store stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ml.retention import Held, Ttl, period, state_of, ttl_of, words_of

NOW = datetime(2026, 5, 4, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("400 days", 400 * DAY), ("3 years", 1095 * DAY), (" 1 week ", 7 * DAY), ("as long as the decision", None),
     ("400 days or longer", None), ("", None)],
)  # fmt: skip
def test_words(words: str, expected: timedelta | None) -> None:
    assert period(words) == expected


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("ReplacingMergeTree ORDER BY at TTL toDateTime(at) + toIntervalDay(400) SETTINGS a = 1",
         Ttl("toDateTime(at)", 400 * DAY)),
        ("MergeTree ORDER BY h TTL hour + toIntervalMonth(2)", Ttl("hour", 60 * DAY)),
        ("MergeTree ORDER BY h", None),
        ("MergeTree ORDER BY h TTL at + toIntervalDay(3) TO DISK 'cold'", None),
        ("MergeTree ORDER BY h TTL at + toIntervalDay(3) WHERE kind = 'a'", None),
        ("MergeTree ORDER BY h TTL at + toIntervalDay(3) DELETE", Ttl("at", 3 * DAY)),
    ],
)  # fmt: skip
def test_ttl(engine: str, expected: Ttl | None) -> None:
    assert ttl_of(engine) == expected


HELD = Held("table a.b", personal=True, limit=400 * DAY, oldest=NOW - 399 * DAY, items=3)


@pytest.mark.parametrize(
    ("held", "state"),
    [
        (HELD, "kept"),
        (replace(HELD, oldest=NOW - 400.5 * DAY, past=1), "kept"),  # within the grace
        (replace(HELD, oldest=NOW - 402 * DAY, past=1), "overdue"),
        (replace(HELD, oldest=None, items=0), "empty"),
        (replace(HELD, limit=None), "undeclared"),
        (replace(HELD, limit=None, personal=False), "endless"),
        (replace(HELD, limit=None, criterion="while a row holds its token"), "criterion"),
        (replace(HELD, differs="retention.ms is 1, 2 is declared"), "unlike"),
        (replace(HELD, differs="x", unreachable="KafkaUnavailable"), "unreachable"),
    ],
)
def test_state(held: Held, state: str) -> None:
    found = state_of(held, NOW)
    assert found == state
    assert bool(words_of(held, found)) == (state in {"overdue", "undeclared", "unlike", "unreachable"})
