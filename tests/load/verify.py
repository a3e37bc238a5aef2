"""What is right: the bus against raw, the ids that were sent against staging, the oracle against every mart.

What belongs here: comparisons that name each difference. What does not: how things came to be there (``bench``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from events.catalogue import DOMAIN_TOPICS
from resources.warehouse import WarehouseResource
from tests.load.bench import Bench
from tests.oracle.marts import KEYS, all_marts

# Columns that say where and when an event came, which no file knows; raw's comparison covers them.
FROM_THE_BUS = {"topic", "partition", "generation", "offset", "appended_at", "last_appended_at"}
# Quotients of whole numbers are compared to the last place but a few: two languages may round a mean differently.
TOLERANCE = 1e-12


@dataclass(slots=True)
class Verdict:
    """What was compared, and what differs; nothing differs is what should be."""

    offsets: int = 0
    raw_rows: int = 0
    events: int = 0
    figures: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def verify(bench: Bench, events: pl.DataFrame, *, distinct: int) -> Verdict:
    """Compare bus, raw, staging and marts; ``events`` are the oracle's, ``distinct`` the ids that were sent."""
    verdict = Verdict()
    compare_raw(bench, verdict)
    counted = bench.warehouse.query_rows(
        "SELECT count() AS n, uniqExact(source, event_id) AS ids FROM staging.stg_saga_events"
    )[0]
    verdict.events = counted["n"]
    if not counted["n"] == counted["ids"] == distinct:
        verdict.differences.append(f"staging: {counted['n']} events, {counted['ids']} ids, {distinct} ids sent")
    for mart, expected in all_marts(events).items():
        database = "staging" if mart.startswith("stg_") else "marts"
        actual = read(bench.warehouse, f"{database}.{mart}")
        verdict.figures[mart] = expected.height * (expected.width - len(KEYS[mart]))
        verdict.differences += compare(mart, expected, actual)
    return verdict


def compare_raw(bench: Bench, verdict: Verdict) -> None:
    """Compare every record of the domain topics with raw, read through its staging view: once, and byte for byte."""
    bus = records(bench)
    table = pl.DataFrame(
        bench.warehouse.query_arrow(
            "SELECT CAST(topic, 'String') AS topic, partition, offset, value FROM staging.stg_raw_events"
        )
    )
    values = table.get_column("value").cast(pl.Binary)
    found: dict[tuple[str, int, int], int] = {}
    for topic, partition, offset, value in zip(*table.select("topic", "partition", "offset"), values, strict=True):
        at = (topic, partition, offset)
        if at in found:
            verdict.differences.append(f"raw: {at} stands there twice")
        found[at] = crc32(value)
    verdict.offsets, verdict.raw_rows = len(bus), table.height
    if lost := bus.keys() - found.keys():
        verdict.differences.append(f"raw: {len(lost)} offsets lost, such as {sorted(lost)[:3]}")
    if made_up := found.keys() - bus.keys():
        verdict.differences.append(f"raw: {len(made_up)} offsets that the bus does not have")
    if changed := [at for at, value in found.items() if bus.get(at, value) != value]:
        verdict.differences.append(f"raw: {len(changed)} payloads changed, such as {changed[:3]}")


def records(bench: Bench) -> dict[tuple[str, int, int], int]:
    """Return the checksum of every record of the domain topics by (topic, partition, offset), read by a bare client."""
    marks = {at: high for at, (low, high) in bench.watermarks(*DOMAIN_TOPICS).items() if high > low}
    found: dict[tuple[str, int, int], int] = {}
    if not marks:
        return found
    consumer = Consumer(
        {"bootstrap.servers": bench.bootstrap, "group.id": "exactness-check", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(*at, OFFSET_BEGINNING) for at in marks])
        left = dict(marks)
        while left:
            for message in consumer.consume(10_000, timeout=20):
                if message.error():
                    raise RuntimeError(str(message.error()))
                at = (message.topic(), message.partition())
                found[(*at, message.offset())] = crc32(message.value() or b"")
                if message.offset() + 1 >= marks[at]:
                    left.pop(at, None)
        return found
    finally:
        consumer.close()


def read(warehouse: WarehouseResource, table: str) -> pl.DataFrame:
    """Return a table as Polars sees it; Arrow has no seconds of ClickHouse's DateTime, so they go as microseconds."""
    columns = warehouse.query_rows(f"DESCRIBE TABLE {table}")
    chosen = [
        f"toDateTime64({column['name']}, 6, 'UTC') AS {column['name']}"
        if column["type"].startswith("DateTime(")
        else column["name"]
        for column in columns
    ]
    frame = pl.DataFrame(warehouse.query_arrow(f"SELECT {', '.join(chosen)} FROM {table}"))
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def compare(mart: str, expected: pl.DataFrame, actual: pl.DataFrame) -> list[str]:
    """Return what differs between the oracle's mart and the warehouse's, in words; every column is compared."""
    differences = []
    missing, unknown = set(expected.columns) - set(actual.columns), set(actual.columns) - set(expected.columns)
    if missing:
        differences.append(f"{mart}: without {', '.join(sorted(missing))}")
    if unknown := unknown - FROM_THE_BUS:
        differences.append(f"{mart}: the oracle does not compute {', '.join(sorted(unknown))}")
    if expected.height != actual.height:
        differences.append(f"{mart}: {actual.height} rows, not {expected.height}")
    if differences:
        return differences
    keys = KEYS[mart]
    both = expected.sort(keys)
    ours = actual.select(pl.col(name).cast(expected.schema[name]) for name in expected.columns).sort(keys)
    for name, kind in expected.schema.items():
        left, right = both[name], ours[name]
        same = left.eq_missing(right)
        if kind.is_float():
            same |= ((left - right).abs() <= TOLERANCE * left.abs()).fill_null(False)
        if not same.all():
            row = int((~same).arg_true()[0])
            example = f"{both.select(keys).row(row)}: {right[row]}, not {left[row]}"
            differences.append(f"{mart}.{name}: {int((~same).sum())} of {len(same)} differ, such as {example}")
    return differences
