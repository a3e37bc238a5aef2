"""A rulebook: everything that was learned of one table's good rows, and the verdicts on a batch by it.

What belongs here: how the rules come together, whom they hold back, what is repaired. What does not: the rules.

A row is held back where its own columns contradict what good rows showed, where its neighbours in the entity's time
do, or where a number is out of any range (Benjamini and Hochberg over the batch). It is repaired only where the right
value is certain: form, a name of a column, a value that two others agree on, a copy, a place in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ml.drift.discovery import q_values
from ml.monitors.tails import TwoTails, two_tails
from ml.verdicts.chain import Chain, learn_chain
from ml.verdicts.columns import Coded, Column, encode, learn_column, micros
from ml.verdicts.expected import Expected, learn_expected
from ml.verdicts.habits import Habits, learn_habits
from ml.verdicts.relations import (
    Combinations,
    Content,
    Functions,
    Numbers,
    Presence,
    Ranges,
    learn_combinations,
    learn_content,
    learn_functions,
    learn_numbers,
    learn_presence,
    learn_ranges,
)
from ml.verdicts.schema import align
from ml.verdicts.types import COLLAPSED, QUARANTINED, REPAIRED, SERVED, Judged, Layout, Mask

#: Discovery rate of improbable numbers and delays in a batch.
RATE = 0.002
#: Share of good rows that a check may break before its word no longer holds a row back.
_LOOSE = 2e-4
#: The rate in a batch of which it is known that a column is wrong in places, and the checks that know it.
_HARDER, _TELLING = 0.1, {"spread", "range", "record", "expected", "numbers"}
#: Checks that hold back nothing by themselves: how often good rows break them is counted, whatever it is.
_COUNTED = {"record", "grain", "holes"}
#: Number columns out of their range at once from which on a row tells of an event, not of a wrong value.
_EVENT = 3
_HOUR_US = 3_600_000_000
#: Rows that the sisters of a check stand for, and broken rows that what is taken for granted of clumps does.
_SISTERS, _CLUMPED, _CLUMP = 20_000, 5, 0.02


@dataclass(frozen=True, slots=True)
class Rulebook:
    """What good rows of a table look like.

    ``counts`` has, for each check, how many held-back good rows broke it of those that it looked at, and in how many
    batches; ``most`` the most at once, ``rates`` the share that is to be expected, ``clumps`` how likely one more
    breaks it where one did. ``muted`` checks were wrong too often.
    """

    layout: Layout
    columns: dict[str, Column]
    combinations: Combinations
    functions: Functions
    numbers: Numbers
    ranges: Ranges
    expected: Expected
    presence: Mapping[str, Presence]
    content: Content
    habits: Habits
    lag: TwoTails
    chain: Chain | None
    muted: frozenset[str] = frozenset()
    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    clumps: dict[str, float] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def judge(self, batch: pd.DataFrame, context: pd.DataFrame | None = None, doubted: Mask | None = None) -> Judged:
        """Return verdicts on ``batch``. ``context`` has rows that came lately, by which late ones are placed.

        ``doubted`` are rows of the context that were held back: they fill their place, and prove nothing.

        Raises :class:`ValueError` for a batch that has none of the learned columns.
        """
        if not set(batch.columns) & set(self.columns):
            raise ValueError(f"the batch has none of the columns {sorted(self.columns)[:10]}")
        aligned = align(batch.reset_index(drop=True), self.columns, (self.layout.time, self.layout.arrival))
        coded = encode(aligned.frame, self.columns, self.layout)
        judged = Judged(coded.frame, np.full(len(batch), SERVED, np.int8), np.zeros(len(batch), np.bool_))
        changed = np.zeros(len(batch), np.bool_)
        if aligned.words:
            judged.broken["schema"], judged.looked["schema"] = len(aligned.words), 1
            judged.hard = frozenset({"schema"})
            for name in aligned.renamed.values():
                changed |= aligned.frame[name].notna().to_numpy()
        copies = self._copies(coded, context, judged)
        held, mended = self._by_itself(coded, judged)
        for name in aligned.lost:
            if name in self.presence:
                held |= self.presence[name].expected(coded)
        improbable = self._improbable(coded, judged) | self._out_of_habit(coded, context, judged)
        late, early = self._delays(coded, judged)
        held |= improbable | early
        held |= self._in_order(coded, context, doubted, judged, held | copies, late)
        for normalised in coded.normalised.values():
            changed |= normalised
        judged.late = late & ~held & ~copies
        judged.verdict[changed | mended | judged.late] = REPAIRED
        judged.verdict[held] = QUARANTINED
        judged.verdict[copies] = COLLAPSED
        return judged

    def _note(self, judged: Judged, check: str, bad: Mask, looked: int | None = None) -> Mask:
        """Count the rows that broke ``check`` of those ``looked`` at (all); return those that it holds back."""
        judged.looked[check] = len(bad) if looked is None else looked
        judged.broken[check] = int(bad.sum())
        if bad.any():
            judged.reasons[check] = bad
        return np.zeros_like(bad) if check in self.muted else bad

    def _copies(self, coded: Coded, context: pd.DataFrame | None, judged: Judged) -> Mask:
        """Return the rows that are there already: by all their columns but the arrival, or by all but the key too."""
        names = [*self.columns, self.layout.time]
        before = 0
        frame = coded.frame
        if context is not None and len(context):
            known = context[context[self.layout.name].isin(frame[self.layout.name])]
            before = len(known)
            frame = pd.concat([known[names], frame[names]], ignore_index=True)
        # The first to come is the one that stands.
        order = np.concatenate([np.arange(before), before + np.argsort(coded.arrival, kind="stable")])
        mine = order >= before

        def after_the_first(columns: list[str]) -> Mask:
            found = np.zeros(len(coded), np.bool_)
            found[order[mine] - before] = frame.iloc[order].duplicated(columns).to_numpy()[mine]
            return found

        exact = after_the_first(names)
        again = self.content.again(coded.frame.iloc[np.argsort(coded.arrival, kind="stable")])
        content = np.zeros(len(coded), np.bool_)
        content[np.argsort(coded.arrival, kind="stable")] = again
        copies = exact | self._note(judged, "content", content & ~exact)
        judged.looked["copies"], judged.broken["copies"] = len(coded), int(exact.sum())
        there = coded.frame[self.layout.name].notna().to_numpy()
        judged.reasons["key"] = after_the_first(list(self.layout.key)) & ~copies & there
        judged.looked["key"], judged.broken["key"] = len(coded), int(judged.reasons["key"].sum())
        return copies

    def _by_itself(self, coded: Coded, judged: Judged) -> tuple[Mask, Mask]:
        """Return the rows that contradict good ones by themselves, and those that could be mended."""
        held = judged.reasons["key"].copy()
        for name, wrong in coded.wrong.items():
            self._note(judged, f"form:{name}", wrong | coded.normalised[name], int((~coded.nulls[name]).sum()))
            if f"form:{name}" not in self.muted:
                held |= wrong
        for name, bad in self.combinations.broken(coded).items():
            held |= self._note(judged, f"together:{name}", bad)
        for name, bad in self.numbers.broken(coded).items():
            held |= self._note(judged, f"numbers:{name}", bad)
        implied = self.functions.broken(coded)
        contradicted, mended = np.zeros(len(coded), np.bool_), np.zeros(len(coded), np.bool_)
        for name, bad in implied.items():
            contradicted |= self._note(judged, f"implied:{name}", bad)
        if contradicted.any():
            mended = self._mend(coded, contradicted & ~held)
        return held | (contradicted & ~mended), mended

    def _mend(self, coded: Coded, rows: Mask) -> Mask:
        """Set values that two other columns agree on; return the rows that nothing contradicts any more."""
        mended = np.zeros(len(coded), np.bool_)
        for name in {b for _, b in self.functions.maps}:
            agreed = self.functions.votes(coded, name)
            wrong = rows & pd.notna(agreed) & (agreed != coded.texts[name])
            if wrong.any():
                coded.texts[name] = np.where(wrong, agreed, coded.texts[name])
                coded.frame[name] = coded.texts[name]
                mended |= wrong
        for bad in self.functions.broken(coded).values():
            mended &= ~bad
        return mended

    def _improbable(self, coded: Coded, judged: Judged) -> Mask:
        held = np.zeros(len(coded), np.bool_)
        out: dict[str, Mask] = {}
        for name in self.ranges.by:
            p = judged.tails[name] = self.ranges.p(coded, name)
            there = ~np.isnan(coded.numbers[name])
            out[name] = np.zeros(len(coded), np.bool_)
            out[name][there] = q_values(p[there]) <= RATE
        event = np.sum(list(out.values()), axis=0) >= _EVENT if out else held
        for name, bad in out.items():
            held |= self._note(judged, f"range:{name}", bad & ~event, int((~np.isnan(coded.numbers[name])).sum()))
        for name, p in self.expected.p(coded).items():
            held |= self._note(judged, f"expected:{name}", q_values(p) <= RATE)
        return held

    def _out_of_habit(self, coded: Coded, context: pd.DataFrame | None, judged: Judged) -> Mask:
        """Return the rows that their columns' habits hold back; the others are held back where they alarm."""
        held = np.zeros(len(coded), np.bool_)
        odd = self.habits.odd(coded)
        records = [bad for check, (bad, _, _) in odd.items() if check.startswith("record:")]
        event = np.sum(records, axis=0) >= _EVENT if records else held
        for check, (bad, looked, holds) in odd.items():
            said = self._note(judged, check, bad & ~event if check.startswith("record:") else bad, looked)
            held |= said & holds
            if check == f"grain:{self.layout.time}" and bad.any():
                # Events of an entity at one moment are round together.
                moments = pd.DataFrame({"time": coded.time[bad], "entity": coded.texts[self.layout.entity][bad]})
                judged.broken[check] = len(moments.drop_duplicates())
        for one in self.habits.sequences:
            before = np.empty(0, object) if context is None else context[one.column].to_numpy(object)
            check = f"holes:{one.column}"
            judged.broken[check] = one.holes(coded.texts[one.column], before)
            judged.looked[check] = max(1, len(coded))
        return held

    def _delays(self, coded: Coded, judged: Judged) -> tuple[Mask, Mask]:
        """Return which rows came late, and which say that they happened after they came."""
        known = (coded.time > np.iinfo(np.int64).min) & (coded.arrival > np.iinfo(np.int64).min)
        lag = np.where(known, (coded.arrival - coded.time) / 1e6, np.nan)
        unusual = q_values(self.lag.p(lag)) <= RATE
        late = self._note(judged, "late", unusual & (lag > 0))
        early = self._note(judged, "early", (unusual & (lag <= 0)) | ~known)
        return late, early

    def _in_order(  # noqa: PLR0917
        self,
        coded: Coded,
        context: pd.DataFrame | None,
        doubted: Mask | None,
        judged: Judged,
        doubtful: Mask,
        late: Mask,
    ) -> Mask:
        """Return the rows that do not fit among their entity's; a late one must show that it does."""
        if self.chain is None:
            return np.zeros(len(coded), np.bool_)
        rows, before, every, unsure = len(coded), 0, coded, np.zeros(0, np.bool_)
        known = coded.time[coded.time > 0]
        if context is not None and len(context) and len(known):
            since = int(known.min()) - 2 * _HOUR_US
            known_to = context[self.layout.entity].isin(pd.unique(coded.frame[self.layout.entity])).to_numpy()
            known_to = known_to & (micros(context[self.layout.time]) >= since)
            near = context[known_to]
            if len(near):
                before = len(near)
                unsure = np.zeros(before, np.bool_) if doubted is None else doubted[known_to]
                mine = {name: one for name, one in self.columns.items() if name in self.chain.columns}
                columns = [*mine, self.layout.time, self.layout.arrival]
                every = encode(pd.concat([near[columns], coded.frame[columns]], ignore_index=True), mine, self.layout)
        seen = self.chain.look(every, np.concatenate([unsure, doubtful]), before)
        held = np.zeros(rows, np.bool_)
        for name, bad in seen.reasons.items():
            held |= self._note(judged, f"chain:{name}", bad[before:])
        for name, count in seen.counts.items():
            judged.broken[f"chain:{name}"], judged.looked[f"chain:{name}"] = count, max(1, rows)
        return held | (late & ~seen.paired[before:])


def learn(frame: pd.DataFrame, layout: Layout, *, batch_us: int = _HOUR_US) -> Rulebook:
    """Learn a table's rulebook from good rows in any order; the newest third says how often it would be wrong.

    ``batch_us`` is how the rows come in later. Raises :class:`ValueError` where there are too few rows to learn from.
    """
    if len(frame) < 500:
        raise ValueError(f"{len(frame)} rows are too few to learn what a good one looks like: at least 500")
    frame = frame.sort_values(layout.arrival, kind="stable").reset_index(drop=True)
    cut = round(0.67 * len(frame))
    first = _fit(frame.iloc[:cut], layout, batch_us)
    broken: dict[str, int] = {}
    looked: dict[str, int] = {}
    most: dict[str, int] = {}
    times: dict[str, int] = {}
    for batch, context in batches(frame.iloc[cut:], layout, batch_us):
        judged = first.judge(batch, context)
        for check, count in judged.looked.items():
            looked[check] = looked.get(check, 0) + count
            broken[check] = broken.get(check, 0) + judged.broken[check]
            most[check] = max(most.get(check, 0), judged.broken[check])
            times[check] = times.get(check, 0) + (judged.broken[check] > 0)
    muted = {check for check, count in looked.items() if broken[check] > max(1, _LOOSE * count)}
    muted -= {"late", "early", "copies", "key", *(c for c in looked if c.split(":")[0] in _COUNTED)}
    counts = {check: (broken[check], count, times[check]) for check, count in looked.items()}
    whole = _fit(frame, layout, batch_us)
    # A step of roundness that only all rows show has no count of good rows behind it.
    grain = {name: one for name, one in whole.habits.grain.items() if first.habits.grain.get(name) == one}
    whole = replace(whole, habits=replace(whole.habits, grain=grain))
    book = replace(whole, muted=frozenset(muted), counts=counts, most=most)
    return pooled({"": book})[""]


def pooled(books: Mapping[str, Rulebook]) -> dict[str, Rulebook]:
    """Return the rulebooks with rates that rest on all of them: what a check's sisters on other tables and columns do.

    A check that was never wrong about a few hundred good rows is then trusted as far as its kind has earned.
    """
    families: dict[str, list[int]] = {}
    for book in books.values():
        for check, (bad, rows, times) in book.counts.items():
            if check in book.muted:
                continue
            family = families.setdefault(_family(check), [0, 0, 0])
            family[0] += bad
            family[1] += rows
            family[2] += times
    found = {}
    for name, book in books.items():
        rates, clumps = {}, {}
        for check, (bad, rows, _) in book.counts.items():
            every, looked, times = families.get(_family(check), [0, 0, 0])
            prior = (every + 0.5) / (looked + 1)
            rates[check] = (bad + prior * _SISTERS) / (rows + _SISTERS)
            clumps[check] = (every - times + _CLUMPED * _CLUMP) / (every + _CLUMPED)
        found[name] = replace(book, rates=rates, clumps=clumps)
    return found


def _family(check: str) -> str:
    parts = check.split(":")
    return ":".join(parts[:2]) if parts[0] == "chain" else parts[0]


def batches(
    frame: pd.DataFrame, layout: Layout, batch_us: int, *, memory: int = 2
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield ``frame`` (in order of arrival) in batches, each with the ``memory`` batches before it."""
    number = micros(frame[layout.arrival]) // batch_us
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(frame)]
    for place in range(len(bounds) - 1):
        low = bounds[max(0, place - memory)]
        yield frame.iloc[bounds[place] : bounds[place + 1]], frame.iloc[low : bounds[place]]


def _fit(frame: pd.DataFrame, layout: Layout, batch_us: int) -> Rulebook:
    names = [str(name) for name in frame.columns if name not in (layout.time, layout.arrival)]
    columns = {name: learn_column(name, frame[name]) for name in names}
    coded = encode(frame.reset_index(drop=True), columns, layout)
    chain = learn_chain(coded, layout)
    counters = chain.counters if chain else set()
    return Rulebook(
        layout,
        columns,
        learn_combinations(coded, layout.entity),
        learn_functions(coded),
        learn_numbers(coded, counters),
        learn_ranges(coded, counters),
        learn_expected(coded, counters),
        learn_presence(coded),
        learn_content(coded.frame, [name for name in (*names, layout.time) if name != layout.name]),
        learn_habits(coded, layout, counters, batch_us),
        two_tails((coded.arrival - coded.time) / 1e6),
        chain,
    )


def look_harder(judged: Judged, alarmed: set[str]) -> None:
    """Hold back more rows where a check or monitor of a number column is an alarm: it is known that some are wrong.

    ``alarmed`` are names of checks, ``family:column``. Changes ``judged.verdict`` in place.
    """
    for name, p in judged.tails.items():
        if any(check.split(":", 1)[-1] == name and check.split(":", 1)[0] in _TELLING for check in alarmed):
            bad = q_values(p) <= _HARDER
            judged.verdict[bad & (judged.verdict != COLLAPSED)] = QUARANTINED
    for check in alarmed & judged.reasons.keys():
        if check.startswith("grain:"):
            judged.verdict[judged.reasons[check] & (judged.verdict != COLLAPSED)] = QUARANTINED
