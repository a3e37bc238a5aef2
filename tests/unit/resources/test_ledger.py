"""Intervals and identities of the ledger."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resources.ledger import Range, merge, missing

intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(intervals, st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_missing_is_what_no_interval_holds(covered: list[tuple[int, int]], within: tuple[int, int]) -> None:
    held = {at for first, last in covered for at in range(first, last)}
    left = missing(within, covered)
    assert [at for first, last in left for at in range(first, last)] == [at for at in range(*within) if at not in held]
    assert merge(left) == left


def test_a_landing_is_named_by_its_work() -> None:
    assert Range("t", 1, 5, 9).landing_id == "t/1/5-9"
    assert Range("t", 1, 5, 9, generation=2).landing_id == "t@2/1/5-9"
