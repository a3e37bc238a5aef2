"""Dead letters as they stand in their topic: finding, reading, joining the parts of a cut record.

What belongs here: reading. What does not: their form (:mod:`services.router.dead_letter`), sending one back
(:mod:`services.router.letters.replay`), printing (``cli.dlq``).

Memory stays bounded whatever the topic holds: a look through it keeps counts and the newest few, never the records.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from events.catalogue import DEAD_LETTER
from events.codec import MalformedEvent, parse
from resources.errors import KafkaError, RangeGone
from resources.kafka import KafkaResource
from resources.ranges import Records, Span
from services.router.dead_letter import PREFIX, DeadLetter, original
from services.router.routing import Headers

REPLAYED: Final = PREFIX + "replayed"
"""Header of a record that was put back: the id of its dead letter."""
REPLAYED_BY: Final = PREFIX + "replayed-by"
"""Header of a record that was put back: who did it."""

_BATCH: Final = 500
_NEAR_MS: Final = 600_000
_GAP: Final = 500
_TYPE: Final = re.compile(rb'"type"\s*:\s*"([\w.-]{1,100})"')
_SOURCE: Final = re.compile(rb'"source"\s*:\s*"([^"\\\x00-\x1f]{1,200})"')
_BEGINNING: Final = 4096

Progress = Callable[[int, int], None]
"""Told (offsets done, offsets in all)."""


class LetterError(KafkaError):
    """A dead letter cannot be had as it was asked for; the message says what to do."""


class LetterId(NamedTuple):
    """Where a dead letter stands: partition and offset of the dead-letter topic."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id in ``text``; raises :class:`LetterError`."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,18})", text.strip())
        if match is None:
            raise LetterError(
                f"{text!r} is no id of a dead letter: it is partition/offset, as `isthmus dlq list` prints"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; ``at`` is when the broker took it (ms since 1970), ``marks`` what the router says of it."""

    id: LetterId
    at: int
    record: DeadLetter
    marks: dict[str, str]

    @property
    def reason(self) -> str:
        """Why it was refused; ``unknown`` where the router did not write it."""
        return self.marks.get("reason", "unknown")

    @property
    def origin(self) -> str:
        """Where the record was read: topic/partition/offset."""
        return "/".join(self.marks.get(f"source-{name}", "?") for name in ("topic", "partition", "offset"))

    @property
    def part(self) -> tuple[int, int]:
        """(number, of how many); (1, 1) where the record is not cut."""
        number, _, of = self.marks.get("part", "1/1").partition("/")
        return int(number), int(of)

    @property
    def whole(self) -> tuple[str, str, int]:
        """What the parts of one record have in common: an interrupted router may have begun the same one before."""
        return self.origin, self.marks.get("refused-at", ""), self.part[1]

    @property
    def replay_of(self) -> str:
        """Id of the dead letter whose replay ended as this one; empty where it is no replay."""
        found = [content for name, content in self.record.headers if name == REPLAYED]
        return (found[-1] or b"").decode(errors="replace") if found else ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list tells of a dead letter; ``type`` and ``source`` are empty where they cannot be read."""

    id: LetterId
    at: int
    reason: str
    detail: str
    schema_path: str
    type: str
    source: str
    origin: str
    parts: int
    bytes: int
    replay_of: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters; what is empty or None does not restrict. Times are ms since 1970, ``until`` excluded."""

    reasons: Collection[str] = ()
    types: Collection[str] = ()
    sources: Collection[str] = ()
    since: int | None = None
    until: int | None = None

    def takes(self, summary: Summary) -> bool:
        """Return whether ``summary`` is chosen."""
        return (
            (not self.reasons or summary.reason in self.reasons)
            and (not self.types or summary.type in self.types)
            and (not self.sources or summary.source in self.sources)
            and (self.since is None or summary.at >= self.since)
            and (self.until is None or summary.at < self.until)
        )


@dataclass(slots=True)
class Overview:
    """What a look through the topic came to: how many of each reason, and the newest, newest first."""

    counts: Counter[str] = field(default_factory=Counter)
    newest: list[Summary] = field(default_factory=list)


def look(
    kafka: KafkaResource, choice: Choice, *, limit: int, progress: Progress = lambda _done, _all: None
) -> Overview:
    """Count the chosen dead letters by reason and keep the ``limit`` newest. A cut record counts once."""
    overview = Overview()
    newest: list[tuple[int, LetterId, Summary]] = []
    for summary in chosen(kafka, choice, progress=progress):
        overview.counts[summary.reason] += 1
        entry = (summary.at, summary.id, summary)
        if len(newest) < limit:
            heapq.heappush(newest, entry)
        elif newest and entry[:2] > newest[0][:2]:
            heapq.heapreplace(newest, entry)
    overview.newest = [summary for _, _, summary in sorted(newest, key=lambda entry: entry[:2], reverse=True)]
    return overview


def chosen(kafka: KafkaResource, choice: Choice, *, progress: Progress = lambda _done, _all: None) -> Iterator[Summary]:
    """Yield the chosen dead letters, of a cut record its first part; in order within a partition."""
    for letter in _scan(kafka, window(kafka, choice.since, choice.until), progress):
        if letter.part[0] == 1 and choice.takes(summary := summarised(letter)):
            yield summary


def fetch(kafka: KafkaResource, ids: Iterable[LetterId]) -> Iterator[Letter]:
    """Yield the dead letters with these ids; raises :class:`LetterError` for one that is not there (any more)."""
    wanted = set(ids)
    marks = _watermarks(kafka)
    for letter_id in sorted(wanted):
        _assert_there(letter_id, marks)
    spans: list[Span] = []
    for partition, offset in sorted(wanted):
        if spans and spans[-1].partition == partition and offset - spans[-1].to_offset < _GAP:
            spans[-1] = spans[-1]._replace(to_offset=offset + 1)
        else:
            spans.append(Span(DEAD_LETTER, partition, offset, offset + 1))
    for letter in _scan(kafka, spans):
        if letter.id in wanted:
            wanted.discard(letter.id)
            yield letter
    if wanted:
        raise LetterError(f"there is no dead letter {min(wanted)}: the offset holds no record")


def parts(kafka: KafkaResource, letter: Letter) -> list[Letter]:
    """Return all parts of the record of which ``letter`` is one, in order; itself alone where it is not cut.

    Parts may lie in several partitions, so they are looked for ten minutes around. Raises :class:`LetterError` where
    one is missing.
    """
    of = letter.part[1]
    if of == 1:
        return [letter]
    found: dict[int, Letter] = {}
    for other in _scan(kafka, window(kafka, letter.at - _NEAR_MS, letter.at + _NEAR_MS)):
        if other.whole == letter.whole:
            found.setdefault(other.part[0], other)
    if missing := set(range(1, of + 1)) - found.keys():
        raise LetterError(
            f"{letter.id} is part {letter.part[0]} of {of}, and part {min(missing)} is not there: its router was "
            f"killed in between. Look for the whole one: `isthmus dlq list` shows what else came from {letter.origin}"
        )
    return [found[number] for number in range(1, of + 1)]


def restored(letters: list[Letter]) -> tuple[bytes | None, bytes | None, Headers]:
    """Return key, value and headers of the record as they came; ``letters`` are all its parts in order."""
    if "reason" not in letters[0].marks:
        raise LetterError(f"{letters[0].id} was not written by the router: it has no header {PREFIX}reason")
    return original([letter.record for letter in letters])


def window(kafka: KafkaResource, since: int | None, until: int | None) -> list[Span]:
    """Return the offsets of the dead-letter topic that the broker took in ``[since, until)`` (ms since 1970)."""
    topics = list(kafka.topics([DEAD_LETTER]).values())
    marks = _watermarks(kafka)
    first = kafka.offsets_at(topics, max(0, since)) if since is not None else {}
    last = kafka.offsets_at(topics, max(0, until)) if until is not None else {}
    spans = [
        Span(
            DEAD_LETTER,
            partition,
            max(low, first.get((DEAD_LETTER, partition), low)),
            min(high, last.get((DEAD_LETTER, partition), high)),
        )
        for partition, (low, high) in sorted(marks.items())
    ]
    return [span for span in spans if span.to_offset > span.from_offset]


def summarised(letter: Letter) -> Summary:
    """Return what a list tells of ``letter``."""
    name, source = _described(letter.record.value or b"")
    marks = letter.marks
    return Summary(
        id=letter.id,
        at=letter.at,
        reason=letter.reason,
        detail=marks.get("detail", ""),
        schema_path=marks.get("schema-path", ""),
        type=name,
        source=source,
        origin=letter.origin,
        parts=letter.part[1],
        bytes=len(letter.record.value or b""),
        replay_of=letter.replay_of,
    )


def _described(value: bytes) -> tuple[str, str]:
    """Return type and CloudEvents source of an event, also of one that is cut short; empty what cannot be read."""
    try:
        document = parse(value)
    except MalformedEvent:
        matches = (pattern.search(value, 0, _BEGINNING) for pattern in (_TYPE, _SOURCE))
        name, source = (match[1].decode(errors="replace") if match else "" for match in matches)
        return name, source
    found = (document.get("type"), document.get("source"))
    name, source = (text[:200] if isinstance(text, str) and text.isprintable() else "" for text in found)
    return name, source


def _watermarks(kafka: KafkaResource) -> dict[int, tuple[int, int]]:
    marks = kafka.watermarks(DEAD_LETTER)
    if not marks:
        raise LetterError(f"there is no topic {DEAD_LETTER}: the router makes it when it starts (`isthmus up`)")
    return marks


def _assert_there(letter_id: LetterId, marks: dict[int, tuple[int, int]]) -> None:
    if letter_id.partition not in marks:
        raise LetterError(f"there is no dead letter {letter_id}: {DEAD_LETTER} has the partitions 0 to {max(marks)}")
    low, high = marks[letter_id.partition]
    if letter_id.offset >= high:
        raise LetterError(
            f"there is no dead letter {letter_id}: the next one of this partition will be "
            f"{letter_id.partition}/{high}. `isthmus dlq list` prints those that there are"
        )
    if letter_id.offset < low:
        raise LetterError(
            f"dead letter {letter_id} has aged out: the oldest of this partition is {letter_id.partition}/{low}. "
            f"retention.ms of {DEAD_LETTER} says how long they are kept"
        )


def _scan(kafka: KafkaResource, spans: list[Span], progress: Progress = lambda _done, _all: None) -> Iterator[Letter]:
    done = dict.fromkeys(spans, 0)
    total = sum(span.to_offset - span.from_offset for span in spans)
    progress(0, total)
    try:
        for at, records in kafka.read_ranges(spans, batch=_BATCH):
            span = spans[at]
            yield from _letters(span.partition, records)
            done[span] = int(records.offsets[-1]) + 1 - span.from_offset
            progress(sum(done.values()), total)
    except RangeGone as error:
        raise LetterError(f"dead letters aged out while they were read; try again ({error})") from None
    progress(total, total)


def _letters(partition: int, records: Records) -> Iterator[Letter]:
    columns = zip(records.offsets.tolist(), records.appended_at.tolist(), records.keys, records.values, strict=True)
    for index, (offset, at, key, value) in enumerate(columns):
        headers = records.headers.get(index, [])
        # An empty key and none cannot be told apart here; the router keys by the event either way.
        record = DeadLetter(key or None, value or None, headers)
        yield Letter(LetterId(partition, offset), at, record, _marks(headers))


def _marks(headers: Headers) -> dict[str, str]:
    names = [name for name, _ in headers]
    if PREFIX + "reason" not in names:
        return {}
    begin = len(names) - 1 - names[::-1].index(PREFIX + "reason")
    return {name.removeprefix(PREFIX): (content or b"").decode(errors="replace") for name, content in headers[begin:]}
