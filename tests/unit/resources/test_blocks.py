"""Blocks: the same for a range however its records were fetched, and their columns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.landing.pipeline import Block, blocks, table
from resources.ledger import Range
from resources.ranges import Records


def records(offsets: list[int]) -> Records:
    values = [b"x" * (offset % 5) for offset in offsets]
    return Records(
        np.array(offsets, np.int64),
        np.array(offsets, np.int64),
        np.array([len(value) for value in values], np.int64),
        [b"k"] * len(offsets),
        values,
        {at: [("o", str(offset).encode())] for at, offset in enumerate(offsets) if offset % 3 == 0},
    )


def cut(offsets: list[int], fetch: int, size: int, max_bytes: int) -> list[Block]:
    work = Range("t", 0, 3, 100)
    fetched = ((0, records(offsets[at : at + fetch])) for at in range(0, len(offsets), fetch))
    return [block for _, block in blocks([work], fetched, size=size, max_bytes=max_bytes)]


@settings(deadline=None)  # the first call imports
@given(st.sets(st.integers(3, 99)), st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 60))
def test_blocks_do_not_depend_on_the_fetches(
    chosen: set[int], fetch: int, other: int, size: int, max_bytes: int
) -> None:
    offsets = sorted(chosen)
    first, second = cut(offsets, fetch, size, max_bytes), cut(offsets, other, size, max_bytes)
    assert [block.span for block in first] == [block.span for block in second]
    held = [table(block, landed_at_ms=0)["offset"].to_pylist() for block in first]
    assert [offset for block in held for offset in block] == offsets
    for block, own in zip(first, held, strict=True):
        assert all(block.span.from_offset <= offset < block.span.to_offset for offset in own)
    ends = [(block.span.from_offset, block.span.to_offset) for block in first]
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


def test_columns_of_a_block() -> None:
    [block] = cut([3, 4, 6], 2, 50, 1000)
    rows = table(block, landed_at_ms=7).to_pylist()
    assert [row["value"] for row in rows] == [b"xxx", b"xxxx", b"x"]
    assert [row["headers"] for row in rows] == [[(b"o", b"3")], [], [(b"o", b"6")]]
    assert {(row["topic"], row["partition"], row["generation"], row["key"]) for row in rows} == {("t", 0, 0, b"k")}
