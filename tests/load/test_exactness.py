"""Exactness, the short form: a slice of BPI Challenge 2012, kills, duplicates, late events, ranges landed twice.

The long form (``soak``) plays the whole set and kills Dagster's own processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from examples.replay import ReplayReport, replay
from resources.settings import get_settings
from tests.load.bench import Bench, KillLog
from tests.load.kills import Journal, kill_while_landing
from tests.load.verify import verify
from tests.oracle import loans

SEED = 20_261_123
CASES = 400
KILLS = 6
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


def send(bench: Bench, folder: Path, *, seed: int, duplicates: float = 0.0, late: float = 0.0) -> ReplayReport:
    report = replay(str(folder), bootstrap=bench.bootstrap, seed=seed, duplicates=duplicates, late=late)
    assert report.rejected == 0
    bench.wait_routed(report.sent)
    return report


def test_every_event_once_and_every_figure_right(bench: Bench, cases: Path, tmp_path: Path) -> None:
    report = send(bench, cases, seed=SEED, duplicates=0.1, late=0.05)
    draw, log, journal = random.Random(SEED), KillLog(tmp_path / "kills.jsonl"), Journal(tmp_path / "journal.jsonl")
    assert report.duplicates > 0.05 * report.distinct
    options = ("--journal", str(journal.file), "--limit", "1200", "--seed", str(SEED), "--stop-at", str(report.sent))
    lander = bench.run("lander", "tests.load.lander", *options, ready=False)
    kill_while_landing(bench, lander, journal, log, kills=KILLS, draw=draw)
    assert log.with_batch >= KILLS - 2

    bench.call("tests.load.build", "run", "--quiet")
    again = Journal(tmp_path / "again.jsonl")
    bench.call("tests.load.lander", "--journal", str(again.file), "--limit", "3000", "--seed", "1", "--again")
    bench.call("tests.load.build", "run", "--quiet")

    verdict = verify(bench, loans.events(cases), distinct=report.distinct)
    assert verdict.differences == []
    assert verdict.offsets == verdict.raw_rows == report.sent
    assert verdict.events == report.distinct
