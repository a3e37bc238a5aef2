"""The landing itself: exact ranges of the bus into ``raw.events``, reading and inserting at the same time.

What belongs here: blocks, their deduplication tokens, and the order of writes that makes the ledger's row the commit
point. What does not: which ranges (``planning.py``) and Dagster.

A block is a fixed span of offsets counted from its range's start, whatever the fetches brought, cut further only where
its bytes would not fit in memory. Its token names its span. So the same range landed twice sends the same blocks, which
the warehouse takes once; a range cut differently sends rows that collapse on their offset.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

from assets.erased import guard as erased_persons
from assets.landing.standing import standing
from ml.privacy.guard import Guard
from resources.errors import WarehouseError
from resources.kafka import Bus
from resources.ledger import Landed, Ledger, Range
from resources.ranges import Records, Span
from resources.settings import get_settings
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Headers = dict[int, list[tuple[str, bytes | None]]]

log = logging.getLogger(__name__)

#: Bytes of payload from which a block is cut before its span is full.
MAX_BLOCK_BYTES = 32 * 1024 * 1024
#: Inserts at a time: one is parsed by the warehouse while the next is built and sent.
INSERTS = 2

# Objects from which the collector looks while records pass: more than one fetch brings.
_COLLECT_FROM = 100_000
# The rows of a block are in order and distinct already; looking for duplicates in them would cost a pass.
_INSERT_SETTINGS = {"optimize_on_insert": 0}


class Target(Protocol):
    """Where blocks go: the warehouse, or what stands in for it in a benchmark of the reading side."""

    def insert_arrow(self, table: str, data: pa.Table, *, token: str | None = None, settings: Any = None) -> None:
        """Append an Arrow table, once for a token."""


@dataclass(slots=True)
class Texts:
    """A column of bytes: what was appended, joined piece by piece, and the size of each value."""

    joined: list[bytes] = field(default_factory=list)
    sizes: list[Ints] = field(default_factory=list)

    def take(self, values: list[bytes], sizes: Ints) -> None:
        """Append ``values``, whose sizes are ``sizes``."""
        self.joined.append(b"".join(values))
        self.sizes.append(sizes)


@dataclass(slots=True)
class Block:
    """Consecutive records of one range, by column, and the span of offsets they stand for.

    Records are joined as they come, while they lie in the processor's cache, and their objects can go at once.
    """

    span: Range
    rows: int = 0
    bytes: int = 0
    offsets: list[Ints] = field(default_factory=list)
    appended_at: list[Ints] = field(default_factory=list)
    keys: Texts = field(default_factory=Texts)
    values: Texts = field(default_factory=Texts)
    headers: Headers = field(default_factory=dict)

    def take(self, records: Records, first: int, last: int) -> None:
        """Append the records at the positions ``[first, last)``."""
        import numpy as np

        keys, sizes = records.keys[first:last], records.sizes[first:last]
        self.offsets.append(records.offsets[first:last])
        self.appended_at.append(records.appended_at[first:last])
        self.keys.take(keys, np.fromiter(map(len, keys), np.int64, len(keys)))
        self.values.take(records.values[first:last], sizes)
        for at, headers in records.headers.items():
            if first <= at < last:
                self.headers[self.rows + at - first] = headers
        self.rows += last - first
        self.bytes += int(sizes.sum())

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self.offsets[-1][-1])


class Cutter:
    """Cuts the records of one range into blocks as they come.

    A block ends every ``size`` offsets, counted from the range's start, and after the record whose bytes reach
    ``max_bytes``: both depend on the records alone, not on how the fetches brought them. A span without any record
    makes no block.
    """

    def __init__(self, work: Range, *, size: int, max_bytes: int = MAX_BLOCK_BYTES) -> None:
        self._work, self._size, self._max_bytes = work, size, max_bytes
        self._block = self._start(work.from_offset)

    def _start(self, offset: int) -> Block:
        grid = self._work.from_offset + (offset - self._work.from_offset) // self._size * self._size
        return Block(replace(self._work, from_offset=offset, to_offset=min(self._work.to_offset, grid + self._size)))

    def take(self, records: Records) -> Iterator[Block]:
        """Take the next records of the range and yield the blocks that they complete."""
        at, end = 0, len(records.values)
        while at < end:
            first = int(records.offsets[at])
            if first >= self._block.span.to_offset:
                yield from self.rest()
                self._block = self._start(first - (first - self._work.from_offset) % self._size)
            block = self._block
            until = int(records.offsets.searchsorted(block.span.to_offset))
            filled = int(records.sizes[at:until].cumsum().searchsorted(self._max_bytes - block.bytes))
            until = min(until, at + filled + 1)
            block.take(records, at, until)
            at = until
            if block.bytes >= self._max_bytes:
                following = block.last_offset + 1
                yield replace(block, span=replace(block.span, to_offset=following))
                self._block = self._start(min(following, self._work.to_offset))
            elif block.last_offset + 1 == block.span.to_offset:
                # Nothing more can come for it; the next record may be far.
                yield block
                self._block = self._start(block.span.to_offset)

    def rest(self) -> Iterator[Block]:
        """Yield the block that is not complete, if it holds a record."""
        if self._block.rows:
            yield self._block


def blocks(
    ranges: Sequence[Range], batches: Iterator[tuple[int, Records]], *, size: int, max_bytes: int = MAX_BLOCK_BYTES
) -> Iterator[tuple[int, Block]]:
    """Yield (position in ``ranges``, block) for ``batches`` of their records, which may come interleaved."""
    cutters = [Cutter(work, size=size, max_bytes=max_bytes) for work in ranges]
    for at, records in batches:
        for block in cutters[at].take(records):
            yield at, block
    for at, cutter in enumerate(cutters):
        for block in cutter.rest():
            yield at, block


def table(block: Block, *, landed_at_ms: int) -> pa.Table:
    """Return ``block`` in the columns of ``raw.events``; no record is touched by itself on the way.

    ``landed_at_ms`` stands in where the broker kept the producer's time: partition and expiry must not follow that.
    """
    # Built from buffers: pa.array() of a list imports pandas, which costs a cold run more than its events do.
    import numpy as np
    import pyarrow as pa

    def numbers(values: Any, kind: pa.DataType) -> pa.Array:
        return pa.Array.from_buffers(kind, block.rows, [None, pa.py_buffer(values)])

    appended = np.concatenate(block.appended_at)
    appended[appended < 0] = landed_at_ms
    columns = {
        "topic": pa.DictionaryArray.from_arrays(
            numbers(np.zeros(block.rows, np.int32), pa.int32()), _plain([block.span.topic.encode()]).cast(pa.string())
        ),
        "partition": numbers(np.full(block.rows, block.span.partition, np.int32), pa.int32()),
        "generation": numbers(np.full(block.rows, block.span.generation, np.uint16), pa.uint16()),
        "offset": numbers(np.concatenate(block.offsets), pa.int64()),
        "appended_at": numbers(appended, pa.timestamp("ms", "UTC")),
        "key": _texts(block.keys),
        "value": _texts(block.values),
    }
    if block.headers:
        columns["headers"] = _headers(block)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def held_back(columns: pa.Table, guard: Guard | None) -> pa.Table:
    """Return ``columns`` with key, value and headers emptied where they mention an erased person; rows stay."""
    if not guard:
        return columns
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [columns.column(name) for name in ("key", "value")]
    if "headers" in columns.column_names:
        pairs = columns.column("headers").to_pylist()
        texts.append(pa.array([" ".join(f"{name} {value!r}" for name, value in one) for one in pairs], pa.string()))
    theirs = guard.mentions(texts)
    if not theirs.any():
        return columns
    mask = pa.array(theirs)
    for name in ("key", "value"):
        at = columns.schema.get_field_index(name)
        columns = columns.set_column(at, name, pc.if_else(mask, b"", columns.column(name)))
    if "headers" in columns.column_names:
        at = columns.schema.get_field_index("headers")
        kept = [[] if held else one for held, one in zip(theirs.tolist(), pairs, strict=True)]
        columns = columns.set_column(at, "headers", pa.array(kept, columns.schema.field(at).type))
    return columns


def _texts(texts: Texts) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    sizes = np.concatenate(texts.sizes)
    ends = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    data = pa.py_buffer(b"".join(texts.joined))
    return pa.Array.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(ends), data])


def _plain(values: list[bytes]) -> pa.Array:
    import numpy as np

    return _texts(Texts([b"".join(values)], [np.fromiter(map(len, values), np.int64, len(values))]))


def _headers(block: Block) -> pa.Array:
    """Return the headers column of ``block``; where a name repeats the last one stands."""
    import numpy as np
    import pyarrow as pa

    ends, names, values = [0], [], []
    for at in range(block.rows):
        for name, value in dict(block.headers.get(at, ())).items():
            names.append(name.encode())
            values.append(value or b"")
        ends.append(len(names))
    offsets = pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(np.array(ends, np.int32))])
    return pa.MapArray.from_arrays(offsets, _plain(names), _plain(values))


def land(
    ranges: Sequence[Range],
    *,
    bus: Bus,
    warehouse: Warehouse,
    block_events: int,
    run_id: str = "",
    clock: Callable[[], float] = time.time,
) -> list[Landed]:
    """Land ``ranges`` and return what each came to; their ledger rows are the last thing written.

    Landing the same ranges again, whole or cut differently, leaves the same rows. Raises what the bus or the warehouse
    raise (:mod:`resources.errors`); the ledger then holds nothing of this call.
    """
    guard = erased_persons(warehouse, get_settings())
    landed = copy(ranges, bus=bus, target=warehouse, block_events=block_events, clock=clock, guard=guard)
    lacking = _lacking(warehouse, landed)
    if lacking:
        # ClickHouse writes a token into its log before the part: killed in between, it knows the token of rows that it
        # does not have, and takes their repeat for done. Under another token they are written.
        log.warning("%d ranges are known to the warehouse and not there; landing them anew", len(lacking))
        anew = f"#{token_hex(8)}"
        copy(lacking, bus=bus, target=warehouse, block_events=block_events, clock=clock, anew=anew, guard=guard)
        if still := _lacking(warehouse, landed):
            raise WarehouseError(f"raw.events lacks rows that it acknowledged: {still[0].landing_id}")
    touch(warehouse, [landing.range for landing in landed if landing.rows])
    Ledger(warehouse).note(landed, run_id=run_id)
    return landed


def _lacking(warehouse: Warehouse, landed: Sequence[Landed]) -> list[Range]:
    counted = standing(warehouse, [one.range for one in landed])
    return [one.range for one, rows in zip(landed, counted, strict=True) if rows != one.rows]


def copy(
    ranges: Sequence[Range],
    *,
    bus: Bus,
    target: Target,
    block_events: int,
    clock: Callable[[], float] = time.time,
    anew: str = "",
    guard: Guard | None = None,
) -> list[Landed]:
    """Insert the records of ``ranges`` and return what each came to; nothing is noted.

    ``anew`` is added to each block's token, so that blocks which the warehouse claims to have are written again.
    Of a record that mentions a person whom ``guard`` knows, only the place is written.
    """
    rows, sizes = [0] * len(ranges), [0] * len(ranges)
    now = int(clock() * 1000)
    spans = [Span(work.topic, work.partition, work.from_offset, work.to_offset) for work in ranges]

    def insert(block: Block) -> None:
        columns = held_back(table(block, landed_at_ms=now), guard)
        target.insert_arrow("raw.events", columns, token=block.span.landing_id + anew, settings=_INSERT_SETTINGS)

    with _young_garbage_only(), ThreadPoolExecutor(INSERTS, thread_name_prefix="landing") as pool:
        under_way: deque[Future[None]] = deque()
        try:
            for at, block in blocks(ranges, bus.read_ranges(spans), size=block_events):
                rows[at] += block.rows
                sizes[at] += block.bytes
                # One block waits while the others are sent: memory stays bounded, and an error shows soon.
                while len(under_way) > INSERTS:
                    under_way.popleft().result()
                under_way.append(pool.submit(insert, block))
            while under_way:
                under_way.popleft().result()
        except BaseException:
            for future in under_way:
                future.cancel()
            raise
    return [Landed(work, rows[at], sizes[at]) for at, work in enumerate(ranges)]


@contextmanager
def _young_garbage_only() -> Iterator[None]:
    """Keep the garbage collector off the records, and off what was there before.

    Every record is an object for a moment, free of cycles; that many make the collector walk them, and the whole
    process, again and again, which takes more time than reading them does.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(before[0], _COLLECT_FROM) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def touch(warehouse: Warehouse, ranges: Sequence[Range]) -> None:
    """Note which subjects and hours ``ranges`` touched, computed by the warehouse from what was landed."""
    if not ranges:
        return
    parameters: dict[str, Any] = {}
    selects = []
    for at, work in enumerate(ranges):
        parameters |= {
            f"id{at}": work.landing_id,
            f"topic{at}": work.topic,
            f"partition{at}": work.partition,
            f"generation{at}": work.generation,
            f"from{at}": work.from_offset,
            f"to{at}": work.to_offset,
        }
        selects.append(
            f"SELECT DISTINCT {{id{at}:String}}, topic, tupleElement(envelope, 'subject') AS subject,"  # noqa: S608 (an index)
            " toStartOfHour(toDateTime(assumeNotNull(event_time), 'UTC')) AS hour FROM raw.events"
            f" WHERE topic = {{topic{at}:String}} AND partition = {{partition{at}:Int32}}"
            f" AND generation = {{generation{at}:UInt16}}"
            f" AND offset >= {{from{at}:Int64}} AND offset < {{to{at}:Int64}} AND subject != ''"
            # What the column can hold; an event outside of it is in quarantine.
            " AND event_time >= toDateTime64('1970-01-01 00:00:00', 6, 'UTC')"
            " AND event_time < toDateTime64('2106-01-01 00:00:00', 6, 'UTC')"
        )
    warehouse.command(
        f"INSERT INTO raw.touched (landing_id, topic, subject, hour) {' UNION ALL '.join(selects)}",
        parameters,
        idempotent=True,
    )
