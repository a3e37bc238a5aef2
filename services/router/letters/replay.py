"""Replay of dead letters: repaired and checked, back to ingress, marked and audited.

What belongs here: the plan of a replay and its sending. What does not: finding dead letters
(:mod:`services.router.letters`), repairs (:mod:`services.router.letters.repair`), asking a person (``cli.dlq``).

A replayed record has the original key and headers, then ``isthmus-replayed`` (the dead letter's id) and
``isthmus-replayed-by``; it is the one exception from the order per key. Its row in ``ops.audit`` is written before it
is sent, so a replay that was cut off counts as done rather than being forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from events.catalogue import DEAD_LETTER, INGRESS
from events.compiled import CATALOGUE, Schemas
from events.validation import SchemaUnavailable
from resources.errors import ResourceError
from resources.kafka import KafkaResource
from resources.warehouse import Warehouse
from services.router.letters import REPLAYED, REPLAYED_BY, Letter, LetterError, LetterId, fetch, parts, restored
from services.router.letters.repair import Repair, RepairError, verdict
from services.router.routing import Headers, Refused
from services.router.table import RoutingTable

ACTION: Final = "dead_letter.replay"
FAILED: Final = "dead_letter.replay_failed"

_CHUNK: Final = 50
_PATIENCE: Final = 30.0
_PRODUCER: Final[dict[str, Any]] = {
    "partitioner": "murmur2_random",
    "message.max.bytes": 4_194_304,
    "message.timeout.ms": int(_PATIENCE * 1000),
}
_DONE: Final = """
SELECT subject, JSONExtractString(details, 'origin') AS origin, argMax(actor, at) AS actor, max(at) AS replayed_at
FROM ops.audit
WHERE action IN ({done:String}, {failed:String}) AND JSONExtractString(details, 'topic_id') = {topic:String}
    AND (subject IN {subjects:Array(String)} OR origin IN {origins:Array(String)})
GROUP BY subject, origin
HAVING countIf(action = {done:String}) > countIf(action = {failed:String})
"""

State = Literal["ready", "refused", "replayed", "unreadable"]


class ReplayFailed(ResourceError):
    """The broker did not acknowledge a replayed record."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record for ingress."""

    id: LetterId
    origin: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    edited: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one dead letter: only a ``ready`` one is sent; ``note`` is for people."""

    id: LetterId
    reason: str
    state: State
    note: str


@dataclass(slots=True)
class Sent:
    """What a replay came to; ``failed`` holds the ids that the broker did not acknowledge, with why."""

    sent: int = 0
    failed: dict[LetterId, str] = field(default_factory=dict)


class Replay:
    """Puts dead letters back; ``actor`` stands in the audit and in the records."""

    def __init__(
        self,
        kafka: KafkaResource,
        warehouse: Warehouse,
        actor: str,
        repair: Repair | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        schemas: Schemas = CATALOGUE,
        table: RoutingTable | None = None,
    ) -> None:
        self._kafka = kafka
        self._warehouse = warehouse
        self._actor = actor
        self._repair = repair or Repair()
        self._clock = clock
        self._schemas = schemas
        self._table = table

    def plan(self, ids: Sequence[LetterId], *, again: bool = False) -> Iterator[Step]:
        """Yield what would become of each, nothing sent; ``again`` lets one pass that was replayed before."""
        taken: dict[str, LetterId] = {}
        for chunk in _chunks(ids):
            letters = list(fetch(self._kafka, chunk))
            done = {} if again else self._done(letters)
            returned = {} if again else {letter.replay_of: letter.id for letter in letters if letter.replay_of}
            for letter in letters:
                before = done.get(str(letter.id)) or done.get(letter.origin)
                if before is None and str(letter.id) in returned:
                    before = f"replayed, and came back as {returned[str(letter.id)]}"
                if before is None and letter.origin in taken:
                    before = f"the same record as {taken[letter.origin]}"
                if before is not None:
                    yield Step(letter.id, letter.reason, "replayed", before)
                    continue
                step = self._step(letter)
                if step.state == "ready":
                    taken[letter.origin] = letter.id
                yield step

    def send(self, ids: Sequence[LetterId]) -> Sent:
        """Send these, which a plan found ready, and wait until the broker has acknowledged them."""
        result = Sent()
        producer = self._kafka.producer(**_PRODUCER)
        for chunk in _chunks(ids):
            records = [self._outgoing(letter) for letter in fetch(self._kafka, chunk)]
            self._audit(ACTION, records)
            answers: dict[LetterId, str] = {}
            for record in records:
                producer.produce(
                    INGRESS,
                    record.value,
                    record.key,
                    headers=list(record.headers),
                    on_delivery=_noting(answers, record.id),
                )
            producer.flush(_PATIENCE + 5)
            failed = [record for record in records if answers.get(record.id, "no answer")]
            if failed:
                self._audit(FAILED, failed)
            result.failed |= {record.id: answers.get(record.id, "no answer from the broker") for record in failed}
            result.sent += len(records) - len(failed)
        return result

    def _step(self, letter: Letter) -> Step:
        try:
            outgoing = self._outgoing(letter)
        except (LetterError, RepairError) as error:
            return Step(letter.id, letter.reason, "unreadable", str(error))
        try:
            record = outgoing.value, outgoing.key, outgoing.headers
            answer = verdict(*record, self._clock(), schemas=self._schemas, table=self._table)
        except SchemaUnavailable as error:
            return Step(letter.id, letter.reason, "refused", str(error))
        if isinstance(answer, Refused):
            return Step(letter.id, letter.reason, "refused", f"{answer.reason}: {answer.detail}")
        return Step(letter.id, letter.reason, "ready", f"{answer.type} to {answer.topic}")

    def _outgoing(self, letter: Letter) -> Outgoing:
        key, value, headers = restored(parts(self._kafka, letter))
        marks = [(REPLAYED, str(letter.id).encode()), (REPLAYED_BY, self._actor.encode())]
        repaired = self._repair.apply(value)
        return Outgoing(
            letter.id, letter.origin, letter.reason, key, repaired, [*headers, *marks], edited=repaired != value
        )

    def _done(self, letters: list[Letter]) -> dict[str, str]:
        """Return by id and by origin who replayed it when."""
        rows = self._warehouse.query_rows(
            _DONE,
            {
                "done": ACTION,
                "failed": FAILED,
                "topic": self._topic_id(),
                "subjects": [_subject(letter.id) for letter in letters],
                "origins": [letter.origin for letter in letters],
            },
        )
        found = {}
        for row in rows:
            said = f"replayed by {row['actor']} at {row['replayed_at']:%Y-%m-%d %H:%M:%S} UTC"
            found[row["subject"].removeprefix(f"{DEAD_LETTER}/")] = said
            found[row["origin"]] = said
        return found

    def _audit(self, action: str, records: Iterable[Outgoing]) -> None:
        topic = self._topic_id()
        rows = [
            {
                "at": self._clock(),
                "actor": self._actor,
                "action": action,
                "subject": _subject(record.id),
                "details": json.dumps(
                    {
                        "origin": record.origin,
                        "reason": record.reason,
                        "edited": record.edited,
                        "topic_id": topic,
                        # Where, never what: a value may be personal data.
                        "pointers": [*self._repair.sets, *self._repair.removals],
                    }
                ),
            }
            for record in records
        ]
        self._warehouse.insert_rows("ops.audit", rows)

    def _topic_id(self) -> str:
        """Return the id of the dead-letter topic: made anew, its offsets name other records."""
        topic = self._kafka.topics([DEAD_LETTER]).get(DEAD_LETTER)
        return topic.id if topic else ""


def _subject(letter_id: LetterId) -> str:
    return f"{DEAD_LETTER}/{letter_id}"


def _noting(answers: dict[LetterId, str], letter_id: LetterId) -> Callable[[Any, Any], None]:
    def note(error: Any, _message: Any) -> None:
        answers[letter_id] = "" if error is None else f"{error.name()}: {error.str()}"

    return note


def _chunks(ids: Sequence[LetterId]) -> Iterator[Sequence[LetterId]]:
    ordered = list(dict.fromkeys(ids))
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]
