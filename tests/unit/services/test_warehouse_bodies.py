"""Bodies of several compressed frames, as clickhouse-connect sends an insert of more than one block."""

import gzip
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard

from services.embedded.warehouse.compression import Decompressor
from services.embedded.warehouse.errors import Fault

CODECS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("lz4", lz4.frame.compress),
    ("zstd", zstandard.compress),
    ("gzip", gzip.compress),
]


@pytest.mark.parametrize(("encoding", "compress"), CODECS)
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_every_frame_of_a_body_counts_wherever_it_is_cut(
    encoding: str, compress: Callable[[bytes], bytes], chunk: int
) -> None:
    body = compress(b"first " * 50) + compress(b"second " * 50) + compress(b"third")
    codec = Decompressor(encoding)
    parts = [codec.decompress(body[start : start + chunk]) for start in range(0, len(body), chunk)]
    codec.finish()
    assert b"".join(parts) == b"first " * 50 + b"second " * 50 + b"third"


@pytest.mark.parametrize(("encoding", "compress"), CODECS)
def test_a_body_that_ends_inside_a_frame_is_refused(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    codec = Decompressor(encoding)
    codec.decompress(compress(b"whole") + compress(b"half of it " * 50)[:-9])
    with pytest.raises(Fault, match="cut short"):
        codec.finish()
