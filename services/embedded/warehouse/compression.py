"""HTTP content encodings, both ways; every codec works by chunk, so nothing is held whole."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import zstandard

from services.embedded.warehouse.errors import INCORRECT_DATA, UNKNOWN_COMPRESSION_METHOD, Fault

_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "x-gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
# The cheapest first.
_ENCODINGS = ("lz4", "zstd", "gzip", "deflate")


class Compressor:
    """Compresses a response by chunk; :meth:`flush` ends the stream."""

    def __init__(self, encoding: str) -> None:
        self._head = b""
        if encoding == "lz4":
            self._codec: Any = lz4.frame.LZ4FrameCompressor()
            self._head = bytes(self._codec.begin())
        elif encoding == "zstd":
            self._codec = zstandard.ZstdCompressor(level=1).compressobj()
        else:
            self._codec = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)

    def compress(self, data: bytes) -> bytes:
        """Return what is ready to be sent; often nothing."""
        head, self._head = self._head, b""
        return head + bytes(self._codec.compress(data))

    def flush(self) -> bytes:
        """Return the rest."""
        head, self._head = self._head, b""
        return head + bytes(self._codec.flush())


class Decompressor:
    """Decompresses a request by chunk; a body may be several frames, one after the other."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in _DECODERS:
            raise Fault(UNKNOWN_COMPRESSION_METHOD, f"Unknown Content-Encoding {name}; known: {', '.join(_ENCODINGS)}")
        self._name, self._make = name, _DECODERS[name]
        self._codec: Any = None

    def decompress(self, data: bytes) -> bytes:
        """Return the plain bytes of a chunk."""
        plain = []
        while data:
            if self._codec is None:
                self._codec = self._make()
            try:
                plain.append(self._codec.decompress(data))
            except (zlib.error, RuntimeError, EOFError, zstandard.ZstdError) as error:
                raise Fault(
                    INCORRECT_DATA, f"The body is not {self._name}, as its Content-Encoding says: {error}"
                ) from error
            data = b""
            if self._codec.eof:
                data, self._codec = self._codec.unused_data or b"", None
        return b"".join(plain)

    def finish(self) -> None:
        """Raise where the last frame is not whole."""
        if self._codec is not None:
            raise Fault(INCORRECT_DATA, f"The {self._name} body is cut short")


def negotiate(accepted: str) -> str | None:
    """Return the cheapest encoding of an Accept-Encoding header that we speak, None for none."""
    names = set()
    for part in accepted.split(","):
        name, *options = (word.strip().lower() for word in part.split(";"))
        if not any(option.replace(" ", "") in ("q=0", "q=0.0") for option in options):
            names.add(name)
    return next((name for name in _ENCODINGS if name in names), None)
