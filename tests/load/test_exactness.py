"""Exactness, the short form: cases of BPI Challenge 2012, an evening hour of the shop, kills, duplicates, late events.

The long form (``soak``) plays the whole set and kills Dagster's own processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from examples.replay import ReplayReport, replay
from examples.shop import traffic
from examples.source import Source
from resources.settings import get_settings
from tests.load.bench import Bench, KillLog
from tests.load.kills import Journal, kill_while_landing
from tests.load.shop import events as shop_events
from tests.load.verify import verify
from tests.oracle import loans

SEED = 20_261_123
CASES = 400
KILLS = 6
SHOP_END = datetime(2026, 11, 1, 21, tzinfo=UTC)  # when it is busiest: load makes attempts fail
LOANS = get_settings().data / "saga_bpic2012"

pytestmark = pytest.mark.skipif(
    not LOANS.is_dir(), reason=f"no data set at {LOANS} (ISTHMUS_DATA names the folder of the data sets)"
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows of some cases, in the data set's own form."""
    folder = tmp_path_factory.mktemp("cases")
    log = pl.read_parquet(LOANS / "events.parquet")
    chosen = log.get_column("case:concept:name").unique(maintain_order=True).sample(CASES, seed=SEED)
    log.filter(pl.col("case:concept:name").is_in(chosen.implode())).write_parquet(folder / "events.parquet")
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    # Small blocks, so that a batch has several and a kill can come between two.
    with Bench(tmp_path / "home", {"ISTHMUS_LANDING_BLOCK_EVENTS": "300"}) as bench:
        yield bench


def send(bench: Bench, source: str | Source) -> ReplayReport:
    report = replay(source, bootstrap=bench.bootstrap, seed=SEED, duplicates=0.1, late=0.05)
    assert report.rejected == 0
    assert report.duplicates > 0.05 * report.distinct
    return report


def test_every_event_once_and_every_figure_right(bench: Bench, cases: Path, tmp_path: Path) -> None:
    shop = traffic(seed=SEED, days=0.03, brownouts_per_day=120, end=SHOP_END)
    reports = [send(bench, str(cases)), send(bench, shop)]
    sent = sum(report.sent for report in reports)
    bench.wait_routed(sent)
    draw, log, journal = random.Random(SEED), KillLog(tmp_path / "kills.jsonl"), Journal(tmp_path / "journal.jsonl")
    options = ("--journal", str(journal.file), "--limit", "1200", "--seed", str(SEED), "--stop-at", str(sent))
    lander = bench.run("lander", "tests.load.lander", *options, ready=False)
    kill_while_landing(bench, lander, journal, log, kills=KILLS, draw=draw)
    assert log.with_batch >= KILLS - 2

    bench.call("tests.load.build", "run", "--quiet")
    again = Journal(tmp_path / "again.jsonl")
    bench.call("tests.load.lander", "--journal", str(again.file), "--limit", "3000", "--seed", "1", "--again")
    bench.call("tests.load.build", "run", "--quiet")

    events = pl.concat([loans.events(cases), shop_events(shop)], how="diagonal")
    assert {"failed", "timed_out", "retried", "compensated"} <= set(events.get_column("status"))
    verdict = verify(bench, events, distinct=events.height)
    assert verdict.differences == []
    assert verdict.offsets == verdict.raw_rows == sent
    assert events.height < sum(report.distinct for report in reports), "metrics and health are landed, but no sagas"
