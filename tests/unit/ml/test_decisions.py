"""The gate's rules one by one: whatever is unknown refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.decisions import Cause, CheckRead, Decision, InputRead, ModelRead, cause_of, decision_id, gate

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
INPUT = InputRead(
    asset="marts/fct_sagas",
    data_version="v7",
    version=70,
    run_id="build",
    materialized_at=NOW - timedelta(minutes=10),
    landed_at=NOW - timedelta(minutes=30),
    max_age=timedelta(hours=1),
)
CHECK = CheckRead(
    asset="marts/fct_sagas",
    check="nulls",
    passed=True,
    evaluated_at=NOW - timedelta(minutes=5),
    run_id="report",
    version=70,
    data_version="v7",
)


def reasons(input_read: InputRead = INPUT, *checks: CheckRead, **options: object) -> str:
    verdict = gate([input_read], checks or (CHECK,), as_of=NOW, **options)  # type: ignore[arg-type]
    assert verdict.allowed is not bool(verdict.reasons)
    return "; ".join(verdict.reasons)


def test_sound_evidence_is_allowed() -> None:
    assert reasons() == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passed": None}, "has no evaluation"),
        ({"passed": False, "detail": "3 rows break it"}, "check nulls failed: 3 rows break it"),
        ({"data_version": "v6"}, "looked at data version v6, the input has v7"),
        ({"version": 69, "data_version": None}, "looked at an earlier materialization"),
        (
            {"version": None, "data_version": None, "evaluated_at": NOW - timedelta(minutes=11)},
            "is older than the input's newest materialization",
        ),
        ({"version": None, "data_version": None, "evaluated_at": None}, "is older than"),
    ],
)
def test_an_evaluation_that_says_nothing_good_of_the_input_refuses(change: dict[str, object], words: str) -> None:
    assert words in reasons(INPUT, replace(CHECK, **change))  # type: ignore[arg-type]


def test_an_evaluation_by_the_run_that_made_the_input_counts_whatever_the_order_of_their_events() -> None:
    check = replace(CHECK, run_id="build", version=69, data_version=None, evaluated_at=NOW - timedelta(minutes=11))
    assert reasons(INPUT, check) == ""


def test_the_same_run_does_not_excuse_another_data_version() -> None:
    assert "data version" in reasons(INPUT, replace(CHECK, run_id="build", data_version="v6"))


def test_a_warning_refuses_nothing() -> None:
    assert reasons(INPUT, CHECK, replace(CHECK, check="ranges", passed=False, severity="WARN")) == ""


def test_an_input_that_only_warnings_look_at_refuses() -> None:
    assert "no check that blocks stands on it" in reasons(INPUT, replace(CHECK, severity="WARN"))


def test_a_failed_check_upstream_refuses() -> None:
    assert "raw/events: check rows failed" in reasons(INPUT, CHECK, CheckRead("raw/events", "rows", False))


def test_a_check_upstream_is_not_judged_by_version() -> None:
    assert reasons(INPUT, CHECK, CheckRead("raw/events", "rows", True, version=1)) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"materialized_at": None, "version": None}, "was never materialized"),
        ({"landed_at": None}, "its age is unknown"),
        ({"landed_at": NOW - timedelta(minutes=61)}, "landed 61 min ago; the limit is 60 min"),
        ({"landed_at": NOW - timedelta(days=3, hours=2)}, "landed 3 d 2 h ago"),
        ({"landed_at": NOW - timedelta(hours=4, minutes=7)}, "landed 4 h 7 min ago"),
    ],
)
def test_an_input_that_is_old_or_unknown_refuses(change: dict[str, object], words: str) -> None:
    assert words in reasons(replace(INPUT, **change))  # type: ignore[arg-type]


def test_age_is_taken_against_the_time_that_a_replay_names() -> None:
    old = replace(INPUT, landed_at=NOW - timedelta(days=30))
    assert not gate([old], [CHECK], as_of=NOW).allowed
    assert gate([old], [CHECK], as_of=NOW - timedelta(days=30)).allowed


def test_exactly_at_the_limit_is_fresh() -> None:
    assert reasons(replace(INPUT, landed_at=NOW - timedelta(hours=1))) == ""


def test_no_limit_needs_no_landing_time() -> None:
    assert reasons(replace(INPUT, max_age=None, landed_at=None)) == ""


def test_models() -> None:
    model = ModelRead("saga_failure_order", "7", "run", calibrated=True)
    assert reasons(model=model, model_required=True) == ""
    assert "not calibrated" in reasons(model=replace(model, calibrated=False))
    assert "no registered model" in reasons(model_required=True)
    assert reasons(model=None) == ""


def test_what_is_found_live_refuses() -> None:
    assert "fails now" in reasons(live_failures=["marts/fct_sagas: check nulls fails now: 3 rows"])


def test_reasons_come_once() -> None:
    bad = CheckRead("raw/events", "rows", False)
    assert gate([INPUT], [CHECK, bad, bad], as_of=NOW).reasons == ("raw/events: check rows failed",)


@given(
    st.integers(0, 2**42).map(lambda ms: datetime(1971, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)),
    st.text(max_size=40),
)
def test_ids_are_version_7_carry_their_time_and_repeat(at: datetime, seed: str) -> None:
    made = decision_id(at, "saga_policy", seed)
    assert made == decision_id(at, "saga_policy", seed)
    assert made.version == 7
    assert made.variant == UUID("0190163d-8694-739b-aea5-966c26f8ad91").variant
    assert made.int >> 80 == int(at.timestamp() * 1000)
    assert made != decision_id(at, "saga_policy", seed + "x")


def test_ids_sort_by_time() -> None:
    assert str(decision_id(NOW, "b")) < str(decision_id(NOW + timedelta(milliseconds=1), "a"))


@pytest.mark.parametrize(
    "change", [{"made_at": NOW.replace(tzinfo=None)}, {"valid_to": NOW}, {"valid_to": NOW - timedelta(hours=1)}]
)
def test_a_decision_needs_zones_and_a_validity(change: dict[str, datetime]) -> None:
    fields = {"made_at": NOW, "valid_from": NOW, "valid_to": NOW + timedelta(hours=1), **change}
    with pytest.raises(ValueError, match=r"time zone|valid_to"):
        Decision(
            decision_id=decision_id(NOW),
            kind="saga_policy",
            subject="order",
            made_at=fields["made_at"],
            valid_from=fields["valid_from"],
            valid_to=fields["valid_to"],
            inputs=(),
            checks=(),
            action={},
            expected=(),
            guardrails=(),
            undo=None,
        )


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("marts/fct_sagas: check expect_nulls failed: 3 rows", Cause("marts/fct_sagas", "expect_nulls", "failed")),
        ("marts/fct_sagas: check expect_nulls fails now: a", Cause("marts/fct_sagas", "expect_nulls", "failed")),
        ("raw/events: check rows has no evaluation", Cause("raw/events", "rows", "not evaluated")),
        ("raw/events: check rows looked at data version a, the input has b", Cause("raw/events", "rows", "outdated")),
        ("marts/fct_sagas: its newest data landed 30 h 0 min ago; the limit is 26 h 0 min",
         Cause("marts/fct_sagas", "", "too old")),
        ("model m version 7 is not calibrated", Cause("", "", "other")),
    ],
)  # fmt: skip
def test_a_reason_names_its_check(reason: str, cause: Cause) -> None:
    assert cause_of(reason) == cause


def test_every_reason_of_the_gate_is_understood() -> None:
    reads = [
        InputRead("a/never", None, None, None, None, None),
        InputRead("a/empty", None, 1, "r", NOW, None, timedelta(hours=1)),
        InputRead("a/old", None, 1, "r", NOW, NOW - timedelta(hours=5), timedelta(hours=1)),
    ]
    checks = [
        CheckRead("a/old", "failing", False, evaluated_at=NOW, run_id="r"),
        CheckRead("a/old", "missing", None),
        CheckRead("a/old", "stale", True, version=0, run_id="other"),
    ]
    reasons = gate(reads, checks, as_of=NOW).reasons
    assert len(reasons) >= 6
    assert all(cause_of(reason).asset for reason in reasons)
