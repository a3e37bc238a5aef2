"""Connections: frames in, handlers, frames out. One request at a time per connection, in order, as Kafka promises.

What belongs here: framing, dispatch, what happens to bytes that make no sense. What does not: any request's meaning.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

from services.embedded.broker.api import APIS, NEVER, decode_header
from services.embedded.broker.core import Broker
from services.embedded.broker.errors import Code
from services.embedded.broker.handlers import Context, Handler, admin, data, groups, transactions
from services.embedded.broker.messages import admin as admin_messages
from services.embedded.broker.messages import data as data_messages
from services.embedded.broker.messages import groups as group_messages
from services.embedded.broker.messages import transactions as transaction_messages
from services.embedded.broker.wire import Malformed, Message

logger = logging.getLogger(__name__)
LARGEST_REQUEST = 100 << 20  # Kafka: socket.request.max.bytes
FRAME = struct.Struct(">i")
HEAD = struct.Struct(">hhi")  # api, version, correlation id
MANY_BYTES = 1 << 16  # of an answer: then the connection's buffer is waited for


async def api_versions(broker: Broker, request: Message, context: Context) -> Message | None:
    """List what we speak."""
    return {"apis": [{"key": api.key, "first": api.first, "last": api.last} for api in APIS.values()]}


HANDLERS: dict[int, Handler] = {
    data_messages.PRODUCE.key: data.produce,
    data_messages.FETCH.key: data.fetch,
    data_messages.LIST_OFFSETS.key: data.list_offsets,
    data_messages.METADATA.key: data.metadata,
    data_messages.API_VERSIONS.key: api_versions,
    group_messages.OFFSET_COMMIT.key: groups.offset_commit,
    group_messages.OFFSET_FETCH.key: groups.offset_fetch,
    group_messages.OFFSET_DELETE.key: groups.offset_delete,
    group_messages.FIND_COORDINATOR.key: groups.find_coordinator,
    group_messages.JOIN_GROUP.key: groups.join_group,
    group_messages.HEARTBEAT.key: groups.heartbeat,
    group_messages.LEAVE_GROUP.key: groups.leave_group,
    group_messages.SYNC_GROUP.key: groups.sync_group,
    group_messages.DESCRIBE_GROUPS.key: groups.describe_groups,
    group_messages.LIST_GROUPS.key: groups.list_groups,
    group_messages.DELETE_GROUPS.key: groups.delete_groups,
    admin_messages.CREATE_TOPICS.key: admin.create_topics,
    admin_messages.DELETE_TOPICS.key: admin.delete_topics,
    admin_messages.DELETE_RECORDS.key: admin.delete_records,
    admin_messages.CREATE_PARTITIONS.key: admin.create_partitions,
    admin_messages.DESCRIBE_CONFIGS.key: admin.describe_configs,
    admin_messages.ALTER_CONFIGS.key: admin.alter_configs,
    admin_messages.INCREMENTAL_ALTER_CONFIGS.key: admin.incremental_alter_configs,
    transaction_messages.INIT_PRODUCER_ID.key: transactions.init_producer_id,
    transaction_messages.ADD_PARTITIONS_TO_TXN.key: transactions.add_partitions_to_txn,
    transaction_messages.ADD_OFFSETS_TO_TXN.key: transactions.add_offsets_to_txn,
    transaction_messages.END_TXN.key: transactions.end_txn,
    transaction_messages.TXN_OFFSET_COMMIT.key: transactions.txn_offset_commit,
}


class Server:
    """Listens on loopback and serves a :class:`Broker`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises ``OSError`` where the port is taken."""
        options = self._broker.options
        self._server = await asyncio.start_server(self._accept, options.host, options.port, limit=1 << 20)

    async def stop(self) -> None:
        """Close the listener and every connection; requests that wait end unanswered."""
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the broker stops
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, or was told to
        except Malformed as problem:
            logger.warning("closed a connection that sent what is no request: %s", problem)
        except Exception:
            logger.exception("a request failed; its connection is closed")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = FRAME.unpack(await reader.readexactly(FRAME.size))
            if not HEAD.size <= size <= LARGEST_REQUEST:
                raise Malformed(f"a request of {size} bytes")
            correlation, parts = await self._answer(memoryview(await reader.readexactly(size)))
            if parts is None:
                continue
            length = FRAME.size + sum(map(len, parts))
            writer.writelines([struct.pack(">ii", length, correlation), *parts])
            if length > MANY_BYTES:
                await writer.drain()

    async def _answer(self, frame: memoryview) -> tuple[int, list[bytes] | None]:
        """Return correlation id and response of one request; raises :class:`Malformed`."""
        key, version, correlation = HEAD.unpack_from(frame)
        api = APIS.get(key)
        if api is None:
            raise Malformed(f"unknown request type {key}")
        if key == data_messages.API_VERSIONS.key and version > api.last:
            # A newer client asks first in its own version; this answer, in the oldest, tells it to ask in ours.
            listed = await api_versions(self._broker, {}, Context("", 0))
            assert listed is not None
            return correlation, api.encode(listed | {"error_code": Code.UNSUPPORTED_VERSION}, 0)
        if not api.first <= version <= api.last:
            raise Malformed(f"{api.name} version {version}; ours are {api.first} to {api.last}")
        client_id, at = decode_header(frame, HEAD.size, version >= api.flexible)
        request = api.decode(frame, at, version)
        response = await HANDLERS[key](self._broker, request, Context(client_id, version))
        if response is None:
            return correlation, None
        parts = api.encode(response, version)
        # Flexible responses have tags in their header, but for ApiVersions: a client must be able to read that blind.
        if NEVER > api.flexible <= version and key != data_messages.API_VERSIONS.key:
            parts.insert(0, b"\0")
        return correlation, parts
