"""Verdicts on rows of a small made-up table: each kind of fault, held back or put right; good rows left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml.verdicts.rulebook import Rulebook, batches, learn, look_harder
from ml.verdicts.types import COLLAPSED, QUARANTINED, REPAIRED, SERVED, Layout
from ml.verdicts.watch import p_values

LAYOUT = Layout(("source", "id"), "order", "at", "came")
HOUR = 3_600_000_000


def orders(count: int, *, seed: int, start: int = 0) -> pd.DataFrame:
    """Orders of three events each: placed, paid (with its duration), sent, told by who did them."""
    random = np.random.default_rng(seed)
    begin = np.datetime64("2026-03-02", "us") + (np.arange(count) * 60_000_000).astype("timedelta64[us]")
    took = (random.lognormal(8, 0.4, count) * 1_000).astype(np.int64)
    number = np.repeat(np.arange(start, start + count), 3)
    kind = np.tile(["placed", "paid", "sent"], count)
    at = np.repeat(begin, 3).copy()
    at[1::3] += took.astype("timedelta64[us]")
    at[2::3] = at[1::3]
    customer = np.repeat(random.integers(100, 300, count), 3)
    placed = kind == "placed"
    frame = pd.DataFrame(
        {
            "source": np.where(placed, "/shop", np.where(kind == "paid", "/bank", "/mail")).astype(object),
            "id": [f"order-{n}/{place}" for n, place in zip(number, np.tile([0, 1, 2], count), strict=True)],
            "order": [f"order-{n}" for n in number],
            "at": at,
            "kind": kind.astype(object),
            "amount": np.where(placed, np.repeat(random.lognormal(3, 0.5, count).round(2), 3), np.nan),
            "duration_ms": np.where(kind == "paid", np.repeat(took / 1_000, 3), np.nan),
            "customer": np.where(placed, [f"customer-{n}" for n in customer], None),
            "mail": np.where(placed, [f"customer-{n}@example.org" for n in customer], None),
            "account": np.where(placed, [f"AC{n * 7919 % 100_000:05d}" for n in customer], None),
        }
    )
    frame["came"] = frame["at"] + pd.to_timedelta(0.1 + random.exponential(0.1, len(frame)), unit="s").round("us")
    return frame.sort_values("came", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def book() -> Rulebook:
    return learn(orders(1_500, seed=1), LAYOUT)


@pytest.fixture
def batch() -> pd.DataFrame:
    return orders(60, seed=2, start=1_500)


def row(batch: pd.DataFrame, kind: str, number: int = 20) -> int:
    return int(np.flatnonzero(batch["kind"] == kind)[number])


def test_good_rows_are_served_as_they_are(book: Rulebook, batch: pd.DataFrame) -> None:
    judged = book.judge(batch)
    assert (judged.verdict == SERVED).all(), judged.broken
    # Now and then a good row is beyond all others, or round: that is counted, and holds nothing back.
    assert sum(count for check, count in judged.broken.items() if check.split(":")[0] not in ("record", "grain")) == 0


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("placed", "amount", None),
        ("placed", "amount", -20.0),
        ("placed", "amount", 20_000.0),
        ("placed", "amount", "many"),
        ("paid", "duration_ms", 12.5),
        ("paid", "kind", "payd"),
        ("paid", "kind", "sent"),
        ("sent", "order", "order-1"),
        ("sent", "source", "/bank"),
        ("placed", "customer", "someone"),
        ("placed", "amount", np.inf),
    ],
)
def test_a_wrong_value_is_held_back_alone(
    book: Rulebook, batch: pd.DataFrame, kind: str, column: str, value: object
) -> None:
    at = row(batch, kind)
    batch[column] = batch[column].astype(object)
    batch.loc[at, column] = value
    verdict = book.judge(batch).verdict
    assert verdict[at] == QUARANTINED
    assert (np.delete(verdict, at) == SERVED).all()


def test_what_is_certain_is_put_right(book: Rulebook, batch: pd.DataFrame) -> None:
    at, again, third = row(batch, "placed", 10), row(batch, "placed", 11), row(batch, "placed", 12)
    good = batch.copy()
    batch["amount"] = batch["amount"].astype(object)
    batch.loc[at, "amount"] = str(batch.loc[at, "amount"]).replace(".", ",")
    batch.loc[again, "customer"] = " " + str(batch.loc[again, "customer"]).upper()
    other = good["customer"].dropna()[good["customer"].dropna() != good.loc[third, "customer"]].iloc[0]
    batch.loc[third, "mail"] = f"{other}@example.org"
    judged = book.judge(batch)
    for place in (at, again, third):
        assert judged.verdict[place] == REPAIRED
    assert judged.frame.loc[at, "amount"] == good.loc[at, "amount"]
    assert judged.frame.loc[again, "customer"] == good.loc[again, "customer"]
    assert judged.frame.loc[third, "mail"] == good.loc[third, "mail"]


def test_copies_are_collapsed_under_any_key(book: Rulebook, batch: pd.DataFrame) -> None:
    exact, renamed = batch.iloc[[30]].copy(), batch.iloc[[40]].copy()
    renamed["id"] = "order-99999/7"
    for copy in (exact, renamed):
        copy["came"] += pd.Timedelta(seconds=5)
    judged = book.judge(pd.concat([batch, exact, renamed], ignore_index=True))
    assert judged.verdict[-2:].tolist() == [COLLAPSED, COLLAPSED]
    assert (judged.verdict[:-2] == SERVED).all()


def test_lost_rows_are_told_and_their_neighbours_served(book: Rulebook, batch: pd.DataFrame) -> None:
    judged = book.judge(batch.drop(index=[row(batch, "paid", 5), row(batch, "paid", 9)]))
    assert judged.broken["chain:missing"] == 2
    assert (judged.verdict == SERVED).all()


def test_a_late_row_is_placed_where_it_fits_and_a_wrong_clock_is_not(book: Rulebook, batch: pd.DataFrame) -> None:
    late = row(batch, "paid", 3)
    before, rest = batch.drop(index=late), batch.loc[[late]].copy()
    rest["came"] += pd.Timedelta(hours=6)
    judged = book.judge(rest, before)
    assert judged.late.tolist() == [True]
    assert judged.verdict.tolist() == [REPAIRED]
    shifted = batch.copy()
    shifted.loc[late, "at"] -= pd.Timedelta(hours=6)
    judged = book.judge(shifted)
    assert judged.verdict[late] == QUARANTINED
    assert (np.delete(judged.verdict, late) == SERVED).all()


def test_a_changed_schema_is_told(book: Rulebook, batch: pd.DataFrame) -> None:
    judged = book.judge(batch.rename(columns={"amount": "sum"}))
    assert "schema" in judged.hard
    assert judged.frame["amount"].equals(batch["amount"])
    assert (judged.verdict[batch["amount"].notna()] == REPAIRED).all()
    judged = book.judge(batch.drop(columns="amount"))
    assert (judged.verdict[batch["amount"].notna()] == QUARANTINED).all()
    assert (judged.verdict[batch["amount"].isna()] == SERVED).all()
    assert "schema" in book.judge(batch.assign(extra=1)).hard


def test_a_batch_may_be_empty_and_must_be_of_the_table(book: Rulebook, batch: pd.DataFrame) -> None:
    assert len(book.judge(batch.iloc[:0]).verdict) == 0
    with pytest.raises(ValueError, match="none of the columns"):
        book.judge(pd.DataFrame({"x": [1]}))


def test_an_alarm_on_a_column_looks_harder(book: Rulebook, batch: pd.DataFrame) -> None:
    places = np.flatnonzero(batch["kind"] == "placed")[:6]
    batch.loc[places, "amount"] = [190.0, 200.0, 210.0, 220.0, 230.0, 240.0]
    judged = book.judge(batch)
    before = int((judged.verdict == QUARANTINED).sum())
    look_harder(judged, {"spread:amount"})
    assert int((judged.verdict == QUARANTINED).sum()) >= before


def test_too_few_rows_are_refused_and_batches_cover_all() -> None:
    with pytest.raises(ValueError, match="at least 500"):
        learn(orders(10, seed=3), LAYOUT)
    frame = orders(200, seed=4)
    assert sum(len(one) for one, _ in batches(frame, LAYOUT, HOUR)) == len(frame)


def test_what_comes_in_company_is_told_by_its_habits(book: Rulebook, batch: pd.DataFrame) -> None:
    placed = np.flatnonzero(batch["kind"] == "placed")
    beyond = batch.copy()
    beyond.loc[placed[:4], "amount"] = book.habits.reach["amount"][1] + np.array([1.5, 2.25, 3.75, 4.5])
    judged = book.judge(beyond)
    assert judged.broken["record:amount"] >= 4
    assert p_values(book, judged)["record:amount"] < 1e-3
    again = batch.copy()
    again.loc[placed[:20], "amount"] = batch.loc[placed[0], "amount"]
    judged = book.judge(again)
    assert (judged.verdict[placed[:20]] == QUARANTINED).all()
    assert (np.delete(judged.verdict, placed[:20]) == SERVED).all()


def test_an_order_that_never_came_leaves_a_hole(book: Rulebook) -> None:
    every = orders(120, seed=2, start=1_500)
    before, batch = every.iloc[:150], every.iloc[150:].reset_index(drop=True)
    gone = batch["order"].isin([f"order-{n}" for n in range(1_570, 1_590)])
    assert book.judge(batch, before).broken["holes:order"] == 0
    judged = book.judge(batch[~gone], before)
    assert judged.broken["holes:order"] == 20
    assert (judged.verdict == SERVED).all()


def test_an_unknown_word_is_its_own_columns_matter(book: Rulebook, batch: pd.DataFrame) -> None:
    batch.loc[row(batch, "paid"), "kind"] = "refunded"
    judged = book.judge(batch)
    assert judged.broken["form:kind"] == 1
    assert not any(count for check, count in judged.broken.items() if check.startswith("together:"))
