"""HTTP content encodings, both ways; every codec works by chunk, so nothing is held whole."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import lz4.frame
import zstandard

from services.embedded.warehouse.errors import STD_EXCEPTION, Fault


class Compressor(Protocol):
    """Compresses by chunk; :meth:`flush` ends the stream."""

    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class Decompressor:
    """Decompresses by chunk a body of one or more frames: clickhouse-connect sends each block as a frame of its own."""

    def __init__(self, new: Callable[[], Any]) -> None:
        # A codec's object for one frame: `decompress`, `eof`, and `unused_data`, what came after the frame's end.
        self._new = new
        self._frame: Any = None

    def decompress(self, data: bytes) -> bytes:
        """Return what ``data`` holds; frames may begin and end anywhere in it."""
        out = []
        while data:
            if self._frame is None:
                self._frame = self._new()
            out.append(self._frame.decompress(data))
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data or b""
                self._frame = None
        return b"".join(out)

    def finish(self) -> None:
        """Raise EOFError where the body ended inside a frame: half of an insert must not pass for all of it."""
        if self._frame is not None:
            raise EOFError("it ends inside a frame")


class _Lz4Compressor:
    """lz4 frames want an explicit beginning."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._frame.begin())

    def compress(self, data: bytes) -> bytes:
        return self._begin() + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        return self._begin() + bytes(self._frame.flush())


def compressor(encoding: str) -> Compressor:
    """Return a compressor for a content encoding that :func:`negotiate` returned."""
    if encoding == "lz4":
        return _Lz4Compressor()
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=1).compressobj()
    return zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)


def decompressor(encoding: str) -> Decompressor | None:
    """Return a decompressor for a request's content encoding, None for identity."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Decompressor(lambda: zlib.decompressobj(31))
        case "deflate":
            return Decompressor(lambda: zlib.decompressobj(15))
        case "lz4":
            return Decompressor(lz4.frame.LZ4FrameDecompressor)
        case "zstd":
            return Decompressor(lambda: zstandard.ZstdDecompressor().decompressobj())
        case other:
            raise Fault(STD_EXCEPTION, f"Unknown Content-Encoding {other}")


def negotiate(accepted: str) -> str | None:
    """Return the cheapest encoding of an Accept-Encoding header that we speak, None for none."""
    names = {part.split(";")[0].strip().lower() for part in accepted.split(",") if "q=0" not in part.split(";")[1:]}
    return next((name for name in ("lz4", "zstd", "gzip", "deflate") if name in names), None)
