"""Reconciliation's arithmetic: the order of a hash's links, segments and their sums, classes of differences."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from ml.reconcile import clickhouse, postgres
from ml.reconcile.classify import Row, classify
from ml.reconcile.rowhash import Column, chain
from ml.reconcile.segments import ascending, candidates, differing, gathered, joined, located

COLUMNS = [
    Column("id", "bigint"),
    Column("total", "bigint", nullable=True),
    Column("a", "integer"),
    Column("b", "integer"),
    Column("note", "text"),
    Column("at", "timestamp with time zone"),
    Column("share", "double precision"),
]


@pytest.mark.parametrize("seed", range(20))
def test_a_chain_takes_every_column_once_and_no_two_numbers_between_hashes(seed: int) -> None:
    chosen = random.Random(seed).sample(COLUMNS, k=1 + seed % len(COLUMNS))
    links = chain(chosen)
    assert sorted(link.column.name for link in links if link.column) == sorted(column.name for column in chosen)
    assert links[-1].step == "hash"
    assert all(not (one.step == two.step == "xor") for one, two in itertools.pairwise(links))
    for one, two in itertools.pairwise(links):
        # A zero's seed goes on as it is, so what follows a float is hashed before a number comes in.
        assert not (one.column and one.column.kind == "float" and two.step == "xor")
    assert chain(chosen[::-1]) == links


def test_names_cannot_leave_their_quotes() -> None:
    assert postgres.quoted('a"b') == '"a""b"'
    assert clickhouse.quoted("a`b\\") == "`a\\`b\\\\`"
    for bad in ("", "a\0b"):
        with pytest.raises(ValueError, match="name"):
            postgres.quoted(bad)


def test_chunks_out_of_order_fall_out() -> None:
    assert ascending([1, 5, 9, 3, 12, 2]).tolist() == [0, 1, 2, 4]
    assert ascending([7, 7, 8]).tolist() in ([0, 2], [1, 2])
    assert ascending([]).tolist() == []


def test_parts_are_gathered_and_differences_located() -> None:
    bounds = np.array([10, 20, 30], np.int64)
    assert located(bounds, np.array([-5, 10, 19, 20, 99], np.int64)).tolist() == [0, 0, 0, 1, 2]
    at = np.array([0, 0, 2], np.intp)
    left = gathered(3, at, np.array([1, 1, -1]), np.array([5, 5, 9], np.uint64))
    assert left.rows.tolist() == [2, 0, -1]
    assert left.checksums.tolist() == [0, 0, 9]
    right = gathered(3, at, np.array([1, 1, -1]), np.array([5, 4, 9], np.uint64))
    assert differing(left, right).tolist() == [0]
    assert joined(bounds, np.array([0, 1])) == [(None, 30)]
    assert joined(bounds, np.array([0, 2])) == [(None, 20), (30, None)]


def test_rows_that_are_there_twice_are_candidates() -> None:
    def sums(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.array(values, np.uint64)

    keys = np.array([1, 2, 3, 4])
    assert candidates(keys, sums(1, 2, 3, 4), keys[::-1], sums(4, 3, 2, 1)) == []
    # 2 is changed, 3 is missing, 4 stands there three times (whose sums cancel), 9 is extra.
    assert candidates(keys, sums(1, 2, 3, 4), np.array([1, 2, 4, 4, 4, 9]), sums(1, 7, 4, 4, 4, 9)) == [2, 3, 4, 9]
    assert candidates(np.array(["a"]), sums(1), np.array(["b"]), sums(1)) == ["a", "b"]


ROW: Row = {"a": "1.50", "b": "x", "at": "2026-01-01 00:00:00.123456", "n": None}


@pytest.mark.parametrize(
    ("changes", "kind", "columns"),
    [
        ({}, None, ()),
        ({"a": "1.5"}, "type_drift", ("a",)),
        ({"b": "x "}, "type_drift", ("b",)),
        ({"at": "2026-01-01 00:00:00.123000"}, "type_drift", ("at",)),
        ({"at": "2026-01-01T00:00:00"}, "type_drift", ("at",)),
        ({"at": "2026-01-01 00:00:00.123457"}, "changed", ("at",)),
        ({"n": ""}, "changed", ("n",)),
        ({"a": "1.5", "b": "y"}, "changed", ("a", "b")),
        ({"a": "-1.50"}, "changed", ("a",)),
    ],
)
def test_classes(changes: Row, kind: str | None, columns: tuple[str, ...]) -> None:
    found = classify(1, ROW, [{**ROW, **changes}])
    assert (found.kind, found.columns) == (kind, columns) if found else kind is None


def test_rows_on_one_side() -> None:
    assert classify(1, None, []) is None
    for source, held, kind in ((ROW, [], "missing"), (None, [ROW], "extra"), (ROW, [ROW, ROW], "extra")):
        found = classify(1, source, held)
        assert found is not None
        assert found.kind == kind
        assert "1.50" not in str(found.as_record()), "no value stands in a report"
