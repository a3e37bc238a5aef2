"""Topics: ingress, domain topics and dead letters.

What belongs here: which records go, and what has to be true before. What does not: how a broker lets go of records
(``resources.removal``).

Ingress and the domain topics are ways, not places: what was routed stands in a domain topic or a dead letter, what was
landed stands in the warehouse. Their beginning is removed up to where everybody has read. A dead letter stands nowhere
else, so those of others are written behind first, exactly once and in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from assets.compliance.stores import Item, Notes, NotYet
from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
from ml.privacy.matching import Found, Matcher
from resources.kafka import KafkaResource
from resources.ledger import Ledger
from resources.ranges import Span
from resources.removal import Message, Place, committed, end_files, messages, remove_before, write_behind
from resources.warehouse import WarehouseResource

ROUTER: Final = "isthmus-router"
ADVICE: Final = "isthmus-advice"
_PART: Final = "isthmus-part"
_WHOLE: Final = ("isthmus-source-topic", "isthmus-source-partition", "isthmus-source-offset", "isthmus-refused-at")
_POLL: Final = 0.2


def text_of(message: Message) -> bytes:
    """Return key, headers and value as one blob to search; what stands apart does not touch."""
    headers = [part for name, value in message.headers for part in (name.encode(), value or b"")]
    return b"\n".join([message.key or b"", *headers, message.value or b""])


@dataclass
class BusStore:
    """The platform's topics. ``patience`` is how long (seconds) readers are waited for."""

    kafka: KafkaResource
    warehouse: WarehouseResource
    patience: float = 60.0
    name: str = "kafka"
    absent: str = ""
    foreign: str = ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the records that mention the person; of a cut dead letter every part."""
        for message, found in self._found(matcher):
            value = (message.value or b"").decode("utf-8", "backslashreplace")
            yield Item(f"{message.topic}/{message.partition}/{message.offset}", value, found is Found.NEAR)

    def _found(self, matcher: Matcher) -> Iterator[tuple[Message, Found]]:
        marks = self.kafka.watermarks_of(self.kafka.topics([INGRESS, *DOMAIN_TOPICS, DEAD_LETTER]).values())
        parted: dict[tuple[str, ...], list[Message]] = {}
        for (topic, partition), (low, high) in sorted(marks.items()):
            if low == high:
                continue
            for message in messages(self.kafka, Span(topic, partition, low, high)):
                if topic == DEAD_LETTER and (whole := _whole(message)):
                    parted.setdefault(whole, []).append(message)
                elif (found := matcher.find(text_of(message))) is not Found.NOTHING:
                    yield message, found
        for parts in parted.values():
            # A value may be cut in the middle.
            joined = b"".join(one.value or b"" for one in sorted(parts, key=_number))
            found = max(matcher.find(joined), *(matcher.find(text_of(one)) for one in parts))
            if found is not Found.NOTHING:
                yield from ((one, found) for one in parts)

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Remove the records that mention the person; raises :class:`NotYet` while somebody has not read them."""
        theirs: dict[Place, set[int]] = {}
        for message, found in self._found(matcher):
            if found is Found.PERSON:
                theirs.setdefault((message.topic, message.partition), set()).add(message.offset)
        half_done = self._written_behind()
        if not theirs and not half_done:
            return Notes("no topic mentions the person")
        ends = end_files(self.kafka, {*theirs, *half_done})
        letters = {place: end for place, end in ends.items() if place[0] == DEAD_LETTER}
        ways = {place: end for place, end in ends.items() if place[0] != DEAD_LETTER}
        kept, left = write_behind(
            self.kafka, letters, lambda one: one.offset not in theirs.get((one.topic, one.partition), ())
        )
        remove_before(self.kafka, letters)
        self._wait(ways)
        remove_before(self.kafka, ways)
        return Notes(
            "ingress and domain topics: removed up to where router, landing and advice have read; dead letters: those "
            "of others written behind in one transaction, then all before removed; files ended, so that the broker "
            "deletes them",
            {
                "partitions": len(ends),
                "dead_letters_of_others_kept": kept,
                "dead_letters_left_out": left,
                "disk": "the embedded broker at once; Apache Kafka within log.retention.check.interval.ms and "
                "file.delete.delay.ms, on every replica",
            },
        )

    def _written_behind(self) -> list[Place]:
        """Return places of dead letters that a killed erasure wrote behind and did not remove."""
        marks = self.kafka.watermarks_of(self.kafka.topics([DEAD_LETTER]).values())
        done = committed(self.kafka, "isthmus-erasure", marks)
        return [place for place, offset in done.items() if marks[place][0] < offset]

    def _wait(self, ways: dict[Place, int]) -> None:
        """Wait until everybody has read up to these offsets."""
        deadline = time.monotonic() + self.patience
        readers: Sequence[Callable[[dict[Place, int]], list[str]]] = (self._unrouted, self._unlanded, self._unheard)
        while late := [words for reader in readers for words in reader(ways)]:
            if time.monotonic() > deadline:
                raise NotYet("; ".join(late))
            time.sleep(_POLL)

    def _unrouted(self, ways: dict[Place, int]) -> list[str]:
        wanted = {place: end for place, end in ways.items() if place[0] == INGRESS}
        done = committed(self.kafka, ROUTER, wanted)
        late = sum(self._unread(place, done.get(place, 0), end) for place, end in wanted.items())
        return [f"the router has not read {late} partitions of {INGRESS} that far: is it running?"] if late else []

    def _unlanded(self, ways: dict[Place, int]) -> list[str]:
        ledger = Ledger(self.warehouse)
        seen, landed = ledger.seen(), ledger.landed()
        late = []
        for place, end in ways.items():
            if place[0] in DOMAIN_TOPICS:
                spans = landed.get((*place, seen[place].generation), []) if place in seen else []
                low = self._low(place)
                done = max((last for first, last in spans if first <= low), default=low)
                if self._unread(place, done, end):
                    late.append(f"{place[0]}/{place[1]}")
        return [f"not landed that far: {', '.join(late)}"] if late else []

    def _unheard(self, ways: dict[Place, int]) -> list[str]:
        wanted = {place: end for place, end in ways.items() if place[0] in DOMAIN_TOPICS}
        done = committed(self.kafka, ADVICE, wanted)
        late = sum(self._unread(place, offset, wanted[place]) for place, offset in done.items())
        return [f"the advice service has not read {late} partitions that far: is it running?"] if late else []

    def _unread(self, place: Place, done: int, end: int) -> bool:
        """Return whether a record stands between what was read and the end; markers and aborted ones are none."""
        begin = max(done, self._low(place))
        return begin < end and any(True for _ in messages(self.kafka, Span(*place, begin, end)))

    def _low(self, place: Place) -> int:
        return self.kafka.watermarks_of(self.kafka.topics([place[0]]).values())[place][0]


def _whole(message: Message) -> tuple[str, ...]:
    """Return what the parts of a cut dead letter have in common; empty where it is not cut."""
    marks = {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers}
    if _PART not in marks:
        return ()
    return (*(marks.get(name, "") for name in _WHOLE), marks[_PART].partition("/")[2])


def _number(message: Message) -> int:
    part = dict(message.headers)[_PART] or b"0"
    return int(part.partition(b"/")[0])
