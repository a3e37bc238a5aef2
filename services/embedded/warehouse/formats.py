"""Output formats: which of them can be streamed, and how.

chDB formats each block of a stream by itself. Where a format is only rows, the blocks may be strung together; where it
begins with a header, each block repeats it, so it is cut off all but the first; other formats (JSON with its totals,
Parquet, Pretty) are one document, and are built whole.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator

CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNamesAndTypes": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "RowBinaryWithNamesAndTypes": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Parquet": "application/octet-stream",
}
_CSV_LINE = re.compile(rb'(?:"(?:[^"]|"")*"|[^"\n])*\n')
_ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def _no_header(_: bytes) -> int:
    return 0


def _lines(count: int) -> Callable[[bytes], int]:
    def end(block: bytes) -> int:
        at = 0
        for _ in range(count):
            at = block.index(b"\n", at) + 1
        return at

    return end


def _csv_lines(count: int) -> Callable[[bytes], int]:
    def end(block: bytes) -> int:
        at = 0
        for _ in range(count):
            found = _CSV_LINE.match(block, at)
            at = found.end() if found else len(block)
        return at

    return end


def _varint(block: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = block[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _row_binary(strings_per_column: int) -> Callable[[bytes], int]:
    """A count of columns, then their names, then perhaps their types; each with its length before it."""

    def end(block: bytes) -> int:
        columns, at = _varint(block, 0)
        for _ in range(columns * strings_per_column):
            length, at = _varint(block, at)
            at += length
        return at

    return end


def _arrow_schema(block: bytes) -> int:
    """The schema is the first message: a mark, the length of its metadata, the metadata; it has no body."""
    mark, length = struct.unpack_from("<II", block)
    assert mark == 0xFFFFFFFF
    return 8 + int(length)


_ROWS_ONLY = (
    "Native TabSeparated TSV TabSeparatedRaw TSVRaw Raw CSV RowBinary JSONEachRow JSONLines NDJSON "
    "JSONCompactEachRow JSONStringsEachRow LineAsString"
)
# Where the header of a block ends.
_HEADERS: dict[str, Callable[[bytes], int]] = {
    **dict.fromkeys(_ROWS_ONLY.split(), _no_header),
    "TabSeparatedWithNames": _lines(1),
    "TSVWithNames": _lines(1),
    "JSONCompactEachRowWithNames": _lines(1),
    "TabSeparatedWithNamesAndTypes": _lines(2),
    "TSVWithNamesAndTypes": _lines(2),
    "JSONCompactEachRowWithNamesAndTypes": _lines(2),
    "CSVWithNames": _csv_lines(1),
    "CSVWithNamesAndTypes": _csv_lines(2),
    "RowBinaryWithNames": _row_binary(1),
    "RowBinaryWithNamesAndTypes": _row_binary(2),
    "ArrowStream": _arrow_schema,
}


def can_stream(layout: str) -> bool:
    """Return whether a result of this format can be sent block by block."""
    return layout in _HEADERS


def join_blocks(layout: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a stream so that they make one document of format ``layout``."""
    header, arrow, first = _HEADERS[layout], layout == "ArrowStream", True
    for block in blocks:
        end = len(block) - len(_ARROW_END) if arrow and block.endswith(_ARROW_END) else len(block)
        data = block[0 if first else header(block) : end]
        first = False
        if data:
            yield data
    if arrow and not first:
        yield _ARROW_END
