"""What stands on the disk, read without the code under test: files of ClickHouse, of the broker, and any other."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import lz4.block
import zstandard
from aiokafka.record import MemoryRecords


def forms(values: Iterable[str]) -> list[bytes]:
    """Return every form of ``values``, in lower case; each value must be one that stands in no other person's."""
    made: set[bytes] = set()
    for value in values:
        for text in (value, unicodedata.normalize("NFD", value), unicodedata.normalize("NFC", value)):
            raw = text.encode()
            once = json.dumps(text)[1:-1]
            own = json.dumps(text, ensure_ascii=False)[1:-1].encode()
            made |= {raw, once.encode(), json.dumps(once)[1:-1].encode(), own}
            made |= {raw.hex().encode(), text.encode("utf-16-le"), text.encode("utf-16-be")}
            made |= {base64.b64encode(b"." * shift + raw)[(0, 2, 3)[shift] : -4] for shift in range(3)}
    return [one.lower() for one in sorted(made) if len(one) > 4]


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and what they hold unpacked."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".bin":
        yield b"".join(_clickhouse(raw))
    elif path.suffix == ".log" and path.stem.isdigit():
        yield b"\n".join(_kafka(raw))
    elif path.suffix == ".gz":
        yield gzip.decompress(raw)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def _clickhouse(raw: bytes) -> Iterator[bytes]:
    """Yield the blocks of a column: checksum (16), method (1), size with this header (4), size unpacked (4), data."""
    at = 0
    while at + 25 <= len(raw):
        method, size, plain = struct.unpack_from("<BII", raw, at + 16)
        data = raw[at + 25 : at + 16 + size]
        if method == 0x82:
            yield lz4.block.decompress(data, uncompressed_size=plain)
        elif method == 0x90:
            yield zstandard.ZstdDecompressor().decompress(data, max_output_size=plain)
        else:
            yield data
        at += 16 + size


def _kafka(raw: bytes) -> Iterator[bytes]:
    records = MemoryRecords(raw)
    while records.has_next():
        batch = records.next_batch()
        if batch is None or batch.is_control_batch:
            continue
        for one in batch:
            yield one.key or b""
            yield one.value or b""
            yield from (part for name, value in one.headers for part in (name.encode(), value or b""))


def found(folder: Path, wanted: list[bytes]) -> list[str]:
    """Return the files under ``folder`` that hold any of ``wanted``."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(one in text.lower() for text in contents(path) for one in wanted)
    ]
