"""The judgement of what was seen: shares, bounds, schemas, and whatever could not be evaluated."""

from __future__ import annotations

import pytest

from ml.quality import Check, Expectation, Observed, Suite, judge, judge_check, same_type, summary

IN_SET = Expectation("expect_column_values_to_be_in_set", {"column": "status", "value_set": ["a"], "mostly": 0.9})
NOT_NULL = Expectation("expect_column_values_to_not_be_null", {"column": "saga_id"})
ROWS = Expectation("expect_table_row_count_to_be_between", {"min_value": 10, "max_value": 20})
SUITE = Suite("marts/t", "marts.t", ())


@pytest.mark.parametrize(
    ("seen", "success"),
    [
        (Observed(elements=100, unexpected=10), True),
        (Observed(elements=100, unexpected=11), False),
        (Observed(elements=100, missing=50, unexpected=5), True),
        (Observed(elements=100, missing=50, unexpected=6), False),  # a share of the rows that are not null
        (Observed(elements=0), True),
        (Observed(elements=10, missing=10), True),
        (Observed(error="column status is missing"), False),
    ],
)
def test_a_share_of_the_rows_that_count(seen: Observed, success: bool) -> None:
    assert judge(IN_SET, seen).success is success


def test_nulls_are_a_share_of_all_rows() -> None:
    outcome = judge(NOT_NULL, Observed(elements=4, missing=1, unexpected=1))
    assert not outcome.success
    assert outcome.result["unexpected_percent"] == 25.0


@pytest.mark.parametrize(("rows", "success"), [(9, False), (10, True), (20, True), (21, False)])
def test_row_counts(rows: int, success: bool) -> None:
    outcome = judge(ROWS, Observed(elements=rows, value=rows))
    assert outcome.success is success
    assert outcome.result == {"observed_value": rows}
    assert success or "expected 10 to 20" in outcome.message


@pytest.mark.parametrize(
    ("exact", "columns", "success", "words"),
    [
        (False, ["a", "b", "c"], True, ""),
        (True, ["a", "b", "c"], False, "not expected c"),
        (True, ["b", "a"], True, ""),
        (False, ["a"], False, "missing b"),
    ],
)
def test_column_sets(exact: bool, columns: list[str], success: bool, words: str) -> None:
    expectation = Expectation("expect_table_columns_to_match_set", {"column_set": ["a", "b"], "exact_match": exact})
    outcome = judge(expectation, Observed(value=columns))
    assert outcome.success is success
    assert words in outcome.message


@pytest.mark.parametrize(
    ("actual", "wanted", "same"),
    [
        ("LowCardinality(String)", "String", True),
        ("LowCardinality(Nullable(String))", "Nullable(String)", True),
        ("DateTime64(3, 'UTC')", "DateTime64(3,'UTC')", True),
        ("UInt64", "Int64", False),
        ("Nullable(String)", "String", False),
    ],
)
def test_types(actual: str, wanted: str, same: bool) -> None:
    assert same_type(actual, wanted) is same
    outcome = judge(
        Expectation("expect_column_values_to_be_of_type", {"column": "a", "type_": wanted}), Observed(value=actual)
    )
    assert outcome.success is same


def test_an_unknown_expectation_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match="not an expectation that can be pushed down"):
        Expectation("expect_column_kl_divergence_to_be_less_than", {"column": "a"})


def test_what_was_not_evaluated_has_failed() -> None:
    outcome = judge_check(SUITE, Check("nulls", (NOT_NULL,)), {})
    assert not outcome.success
    assert "was not evaluated" in outcome.message


def test_a_message_is_for_people() -> None:
    expectation = Expectation(
        "expect_column_values_to_be_in_set", {"column": "status", "value_set": ["a"]}, because="a status is known"
    )
    outcome = judge(expectation, Observed(elements=9, unexpected=1, sample=("b",)))
    assert outcome.message == "1 row breaks it: a status is known, such as b"


def test_the_summary_counts() -> None:
    good = judge_check(SUITE, Check("a", (ROWS,)), {id(ROWS): Observed(elements=15, value=15)})
    warned = judge_check(SUITE, Check("b", (ROWS, NOT_NULL), severity="WARN"), {id(NOT_NULL): Observed(elements=1)})
    bad = judge_check(SUITE, Check("c", (ROWS,)), {})
    assert summary([good, warned, bad]) == {
        "checks": 3,
        "checks_failed": 2,
        "checks_failed_error": 1,
        "expectations": 4,
        "expectations_failed": 2,
    }
