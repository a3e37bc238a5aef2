"""Segments of a key's range: their sums on both sides, and which of them differ.

What belongs here: arithmetic over counts and checksums. What does not: where they are computed.

A checksum is the XOR of the hashes of a segment's rows: it needs no order, and rows that are found elsewhere than
expected can be moved from one segment to another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Sums = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows and checksum of each segment, arrays of one length."""

    rows: Keys
    checksums: Sums


def ascending(first: Sequence[int]) -> NDArray[np.intp]:
    """Return which of ``first`` (a key of each chunk of the table, in the chunks' order) rise: as many as can.

    Rows that were updated lie in other pages than their neighbours by key; chunks of these fall out of the order.
    """
    tails: list[int] = []  # the smallest end of a rising run of each length
    ends: list[int] = []  # and where it stands
    before = np.full(len(first), -1, np.int64)
    for at, key in enumerate(first):
        length = bisect_left(tails, key)
        before[at] = ends[length - 1] if length else -1
        tails[length : length + 1], ends[length : length + 1] = [key], [at]
    run: list[int] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        run.append(at)
        at = int(before[at])
    return np.array(run[::-1], np.intp)


def located(bounds: Keys, keys: Keys) -> NDArray[np.intp]:
    """Return the segment of each key: the last whose bound is not above it; what lies below all is in the first."""
    return np.maximum(np.searchsorted(bounds, keys, side="right") - 1, 0)


def gathered(segments: int, at: NDArray[np.intp], rows: Keys, checksums: Sums) -> Sizes:
    """Return the sizes of ``segments`` segments from parts: part ``i`` belongs to segment ``at[i]``."""
    total, checksum = np.zeros(segments, np.int64), np.zeros(segments, np.uint64)
    np.add.at(total, at, rows)
    np.bitwise_xor.at(checksum, at, checksums)
    return Sizes(total, checksum)


def differing(left: Sizes, right: Sizes) -> NDArray[np.intp]:
    """Return the segments whose rows or checksums differ."""
    return np.flatnonzero((left.rows != right.rows) | (left.checksums != right.checksums))


def joined(bounds: Keys, chosen: NDArray[np.intp]) -> list[tuple[int | None, int | None]]:
    """Return the key ranges ``[low, high)`` of the chosen segments, neighbours as one; None is no limit."""
    ranges: list[tuple[int | None, int | None]] = []
    for at in chosen.tolist():
        low = None if at == 0 else int(bounds[at])
        high = int(bounds[at + 1]) if at + 1 < len(bounds) else None
        if ranges and ranges[-1][1] is not None and ranges[-1][1] == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return ranges


def candidates(
    left_keys: NDArray[np.generic], left: Sums, right_keys: NDArray[np.generic], right: Sums
) -> list[int | str]:
    """Return, in order, the keys whose rows differ: on one side only, of another hash, or there more than once."""
    keys, inverse = np.unique(np.concatenate([left_keys, right_keys]), return_inverse=True)
    half = len(left_keys)
    counts = np.zeros((2, len(keys)), np.int64)
    sums = np.zeros((2, len(keys)), np.uint64)
    for side, (at, hashes) in enumerate(((inverse[:half], left), (inverse[half:], right))):
        np.add.at(counts[side], at, 1)
        np.bitwise_xor.at(sums[side], at, hashes)
    found: list[int | str] = keys[(counts[0] != counts[1]) | (sums[0] != sums[1])].tolist()
    return found
