"""A client that says exactly what a test wants, right or wrong: the wire's own codec, turned around."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Any, Self

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from services.embedded.broker.api import Api
from services.embedded.broker.wire import Message, compile_schema


def batch(
    *values: bytes,
    producer: tuple[int, int] = (-1, -1),
    sequence: int = -1,
    transactional: bool = False,
    timestamp: int = 1_000_000,
) -> bytes:
    """Return a record batch; ``producer`` is id and epoch, ``timestamp`` milliseconds."""
    builder = DefaultRecordBatchBuilder(2, 0, transactional, *producer, sequence, 1 << 24)
    for index, value in enumerate(values):
        builder.append(index, timestamp, None, value, [])
    return bytes(builder.build())


def request(api: Api, version: int, message: Message, correlation: int = 7) -> bytes:
    """Return a request's frame without its length."""
    flexible = version >= api.flexible
    parts: list[bytes] = [struct.pack(">hhih", api.key, version, correlation, 3), b"raw", b"\0" * flexible]
    compile_schema(api.request, version, flexible)[1](parts, message)
    return b"".join(parts)


class Raw:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def frame(self, data: bytes) -> None:
        """Send bytes with their length in front."""
        self.send(struct.pack(">i", len(data)) + data)

    def receive(self) -> bytes:
        """Return the next frame, empty where the broker closed the connection."""
        head = self._exactly(4)
        return self._exactly(struct.unpack(">i", head)[0]) if head else b""

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            data += more
        return data

    def ask(self, api: Api, version: int, message: Message) -> Message:
        """Send a request and return its response."""
        self.frame(request(api, version, message))
        answer = memoryview(self.receive())
        flexible = version >= api.flexible
        at = 5 if flexible and api.name != "ApiVersions" else 4
        body: Message = compile_schema(api.response, version, flexible)[0](answer, at)[0]
        return body

    def produce(self, produce: Api, topic: str, data: bytes | None, **fields: Any) -> Message:
        """Produce one batch to partition 0 and return that partition's result."""
        partitions = [{"index": 0, "records": data}]
        message = {"transactional_id": None, "acks": -1, "timeout_ms": 1000, **fields}
        answer = self.ask(produce, 8, message | {"topics": [{"name": topic, "partitions": partitions}]})
        result: Message = answer["topics"][0]["partitions"][0]
        return result
