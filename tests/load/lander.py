"""``python -m tests.load.lander``: lands what is missing, range by range, until it is killed or all is landed.

The landing run as a bare process: the platform's own survey and pipeline, without Dagster around them. It writes what
it begins and what it has done to a journal, from which the harness knows what was in flight when it killed something.

    --journal FILE   where it writes
    --limit N        offsets of one batch, at most; each batch's own limit is drawn from 1 to N by --seed
    --again          land everything that was landed once more, cut anew
    --stop-at N      end when N offsets of the domain topics have been landed (0: run until it is killed)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path
from typing import TextIO

from assets.landing.pipeline import land
from assets.landing.planning import assess, cut, survey, unlanded
from events.catalogue import DOMAIN_TOPICS
from resources.errors import Unavailable
from resources.kafka import KafkaResource
from resources.ledger import Ledger, Range
from resources.settings import get_settings
from resources.warehouse import WarehouseResource


def main() -> None:
    """Land."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--stop-at", type=int, default=0)
    given = parser.parse_args()
    draw, kafka, warehouse = random.Random(given.seed), KafkaResource(), WarehouseResource(attempts=1)
    with given.journal.open("a", buffering=1) as journal:
        note(journal, "start")
        while True:
            try:
                ranges = everything(kafka) if given.again else missing(kafka, warehouse)
                if given.again:
                    draw.shuffle(ranges)
                while ranges:
                    batch = cut(ranges, draw.randint(1, given.limit))[0]
                    ranges = without(ranges, batch)
                    note(journal, "begin", [one.landing_id for one in batch])
                    land(
                        batch,
                        bus=kafka,
                        warehouse=warehouse,
                        block_events=get_settings().landing_block_events,
                        run_id=f"lander-{os.getpid()}",
                    )
                    note(journal, "done", [one.landing_id for one in batch])
                if given.again or (given.stop_at and landed(warehouse) >= given.stop_at):
                    note(journal, "end")
                    return
                time.sleep(0.05)
            except Unavailable as error:
                # The warehouse was killed: what was begun is not in the ledger, so it comes up as missing again.
                note(journal, "failed", [type(error).__name__])
                time.sleep(0.2)


def missing(kafka: KafkaResource, warehouse: WarehouseResource) -> list[Range]:
    """Return what stands on the bus and not in the ledger."""
    ledger = Ledger(warehouse)
    now = survey(DOMAIN_TOPICS, kafka, ledger)
    state = assess(now)
    ledger.see(state.new)
    return unlanded(now, state, {at: high for at, (_, high) in now.marks.items()})


def everything(kafka: KafkaResource) -> list[Range]:
    """Return all that stands on the bus."""
    marks = kafka.watermarks_of(kafka.topics(DOMAIN_TOPICS).values())
    return [Range(*at, low, high) for at, (low, high) in marks.items() if high > low]


def without(ranges: list[Range], batch: list[Range]) -> list[Range]:
    """Return ``ranges`` less the batch that was cut from their beginning."""
    done = {(one.topic, one.partition): one.to_offset for one in batch}
    left = []
    for one in ranges:
        begin = max(one.from_offset, done.get((one.topic, one.partition), one.from_offset))
        if begin < one.to_offset:
            left.append(Range(one.topic, one.partition, begin, one.to_offset, one.generation))
    return left


def landed(warehouse: WarehouseResource) -> int:
    """Return how many offsets the ledger holds."""
    spans = Ledger(warehouse).landed().values()
    return sum(last - first for intervals in spans for first, last in intervals)


def note(journal: TextIO, event: str, names: list[str] | None = None) -> None:
    """Write one line to the journal."""
    journal.write(json.dumps({"at": time.time(), "pid": os.getpid(), "event": event, "names": names or []}) + "\n")


if __name__ == "__main__":
    main()
