"""``isthmus dlq``: what is listed, what is hidden, and how a record comes back, once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from cli import console as consoles
from cli.main import app
from events.catalogue import DEAD_LETTER, INGRESS
from events.codec import encode
from resources.kafka import KafkaResource
from resources.migrate import migrate
from resources.settings import get_settings
from resources.warehouse import WarehouseResource
from services.router.dead_letter import DeadLetter, Source, dead_letters
from services.router.letters import Choice, LetterId, chosen, look
from services.router.routing import Refused
from tests.conftest import free_port
from tests.integration.router.bus import STEP, Reader, Record, producer, router

PERSON = "ada.lovelace@example.org"
BAD = {**STEP, "attempt": PERSON}


@dataclass
class Desk:
    """A running platform, as far as dead letters need one, and the command in front of it."""

    bootstrap: str
    warehouse: WarehouseResource
    producer: Producer
    reader: Reader

    def isthmus(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["dlq", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    def refused(self, value: bytes, key: str, headers: list[tuple[str, bytes]] | None = None) -> Record:
        """Send a record that ends as a dead letter; return that."""
        self.producer.produce(INGRESS, value, key, headers=headers)
        self.producer.flush(10)
        return self.reader.with_key(key.encode())[-1]


@pytest.fixture(scope="module")
def desk(bootstrap: str, warehouse_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    patch = pytest.MonkeyPatch()
    patch.setenv("ISTHMUS_KAFKA_BOOTSTRAP", bootstrap)
    patch.setenv("ISTHMUS_WAREHOUSE_URL", warehouse_url)
    patch.setattr(consoles.console, "width", 300)
    patch.setattr(consoles.errors, "width", 300)
    get_settings.cache_clear()
    warehouse = WarehouseResource(url=warehouse_url)
    migrate(warehouse)
    with router(bootstrap, tmp_path_factory.mktemp("router")):
        reader = Reader(bootstrap)
        yield Desk(bootstrap, warehouse, producer(bootstrap), reader)
        reader.close()
    patch.undo()
    get_settings.cache_clear()


@pytest.fixture
def key() -> str:
    return f"dlq-{secrets.token_hex(4)}"


def event(key: str, **attributes: object) -> bytes:
    document = orjson.loads(encode("isthmus.saga.step", STEP, subject=key, source=f"/{key}", id=key))
    return orjson.dumps({**document, **attributes})


def name(letter: Record) -> str:
    return f"{letter.partition}/{letter.offset}"


def test_a_list_counts_by_reason_and_filters(desk: Desk, key: str) -> None:
    for number in range(3):
        desk.refused(event(key, data=BAD), f"{key}-{number}")
    newest = desk.refused(event(key, dataschema="urn:isthmus:isthmus.saga.step:9"), f"{key}-v")
    cut = desk.refused(event(key)[:-1], f"{key}-cut")
    told = orjson.loads(desk.isthmus("list", "--source", f"/{key}", "--since", "1h", "--limit", "2", "--json"))
    assert told["counts"] == {"invalid-data": 3, "unknown-version": 1, "malformed-json": 1}
    assert [letter["id"] for letter in told["letters"]] == [name(cut), name(newest)]
    assert {letter["type"] for letter in told["letters"]} == {"isthmus.saga.step"}, "also of what is no JSON any more"
    table = desk.isthmus("list", "--source", f"/{key}", "--reason", "invalid-data")
    assert "3" in table
    assert "urn:isthmus:isthmus.saga.step:1#/properties/attempt/type" in table
    assert PERSON not in table
    assert "No dead letter." in desk.isthmus("list", "--source", f"/{key}", "--until", "2020-01-01")
    assert "No dead letter." in desk.isthmus("list", "--source", f"/{key}", "--type", "isthmus.action")


def test_a_payload_is_shown_when_asked_for_alone(desk: Desk, key: str) -> None:
    letter = desk.refused(event(key, data=BAD), key, [("traceparent", b"00-1"), ("authorization", b"Bearer xyz")])
    shown = desk.isthmus("show", name(letter))
    assert PERSON not in shown
    assert "Bearer" not in shown
    for said in ("invalid-data", "/data/attempt", "<string of 24>", "00-1", "authorization", "isthmus.ingress/"):
        assert said in shown
    seen = "SELECT count() AS n FROM ops.audit WHERE action = 'dead_letter.show' AND endsWith(subject, {id:String})"
    assert desk.warehouse.query_rows(seen, {"id": name(letter)})[0]["n"] == 0
    assert PERSON in desk.isthmus("show", name(letter), "--payload")
    assert desk.warehouse.query_rows(seen, {"id": name(letter)})[0]["n"] == 1, "who saw it is kept"


def test_a_payload_is_not_shown_where_nobody_can_keep_who_saw_it(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = desk.refused(event(key, data=BAD), key)
    monkeypatch.setenv("ISTHMUS_WAREHOUSE_URL", f"http://a:b@127.0.0.1:{free_port()}")
    get_settings.cache_clear()
    assert PERSON not in desk.isthmus("show", name(letter), "--payload", code=1)
    monkeypatch.undo()
    get_settings.cache_clear()


def test_a_replay_is_edited_checked_marked_and_audited(desk: Desk, key: str) -> None:
    letter = desk.refused(event(key, data={**BAD, "iban": "DE00"}), key, [("traceparent", b"00-1")])
    options = ("replay", name(letter), "--set", "/data/attempt=2", "--remove", "/data/iban", "--actor", "ann")
    assert "ready" in desk.isthmus(*options, "--dry-run")
    assert "--yes" in desk.isthmus(*options, code=1), "nobody is there to ask"
    assert "1 sent" in desk.isthmus(*options, "--yes")
    record = desk.reader.with_key(key.encode(), count=2)[-1]
    assert record.topic == "isthmus.sagas"
    assert orjson.loads(record.value or b"")["data"] == {**STEP, "attempt": 2}
    marks = [("isthmus-replayed", name(letter).encode()), ("isthmus-replayed-by", b"ann")]
    assert record.headers == [("traceparent", b"00-1"), *marks]
    (row,) = desk.warehouse.query_rows(
        "SELECT actor, action, details FROM ops.audit WHERE subject = {id:String}",
        {"id": f"{DEAD_LETTER}/{name(letter)}"},
    )
    details = orjson.loads(row.pop("details"))
    assert row == {"actor": "ann", "action": "dead_letter.replay"}
    assert (details["reason"], details["pointers"]) == ("invalid-data", ["/data/attempt", "/data/iban"])
    # A second time only on purpose.
    assert "replayed by ann" in desk.isthmus(*options, "--yes", code=1)
    assert "1 sent" in desk.isthmus(*options, "--yes", "--again")
    assert len(desk.reader.with_key(key.encode(), count=3)) == 3


def test_what_would_come_straight_back_is_not_sent(desk: Desk, key: str, tmp_path: Path) -> None:
    letter = desk.refused(event(key, data=BAD), key)
    said = desk.isthmus("replay", name(letter), "--yes", code=1)
    assert "refused" in said
    assert "/data/attempt" in said
    assert PERSON not in said
    fixed, good = tmp_path / "fixed.json", event(key)
    fixed.write_bytes(good)
    assert "1 sent" in desk.isthmus("replay", name(letter), "--file", str(fixed), "--yes")
    assert desk.reader.with_key(key.encode(), count=2)[-1].value == good


def test_a_choice_replays_each_record_once(desk: Desk, key: str) -> None:
    letters = [desk.refused(event(key, id=str(number), data=BAD), f"{key}-{number}") for number in range(60)]
    # A router that was killed before its commit buries a record again.
    twin = letters[7]
    desk.producer.produce(DEAD_LETTER, twin.value, twin.key, headers=twin.headers)
    desk.producer.flush(10)
    desk.reader.with_key(f"{key}-7".encode(), count=2)
    choice = ("--source", f"/{key}", "--reason", "invalid-data", "--since", "1h", "--set", "/data/attempt=1")
    said = desk.isthmus("replay", *choice, "--yes")
    assert "60 to send, 1 done before" in said
    assert "60 sent" in said
    desk.reader.until(lambda records: sum(is_replay(record, key) for record in records) == 60)
    assert "61 done before" in desk.isthmus("replay", *choice, "--yes", code=1)


def is_replay(record: Record, key: str) -> bool:
    replayed = any(header == "isthmus-replayed" for header, _ in record.headers)
    return record.topic == "isthmus.sagas" and (record.key or b"").startswith(key.encode()) and replayed


def test_a_replay_that_comes_back_names_what_it_was(desk: Desk, key: str) -> None:
    letter = desk.refused(event(key, data=BAD), key)
    headers = [("isthmus-replayed", name(letter).encode())]
    back = desk.refused(event(key, data=BAD), f"{key}-back", headers)
    told = orjson.loads(desk.isthmus("list", "--source", f"/{key}", "--json"))
    assert [one["replay_of"] for one in told["letters"]] == [name(letter), ""]
    said = desk.isthmus("replay", name(letter), name(back), "--set", "/data/attempt=1", "--yes")
    assert f"came back as {name(back)}" in said
    assert "1 sent" in said


@pytest.mark.parametrize("packed", [False, True], ids=["parts", "packed"])
def test_parts_are_joined(desk: Desk, key: str, packed: bool) -> None:
    value = event(key, data={**STEP, "error": "x" * 3000})
    headers: list[tuple[str, bytes | None]] = [("h", b"y" * 2000 if packed else b"y"), ("none", None)]
    source = Source(INGRESS, 0, secrets.randbits(40), key.encode(), value, headers)
    refused = Refused("refused-by-broker", "the topic refused it")
    now = datetime.now(UTC)
    letters = list(dead_letters(source, refused, now, 1000))
    assert len(letters) > 2
    stood: list[str] = []

    def put(letter: DeadLetter, partition: int) -> None:
        def note(_error: object, message: Record) -> None:
            stood.append(f"{message.partition()}/{message.offset()}")  # type: ignore[operator]

        desk.producer.produce(
            DEAD_LETTER, letter.value, letter.key, partition, headers=letter.headers, on_delivery=note
        )
        desk.producer.flush(10)

    put(next(dead_letters(source, refused, datetime(2026, 1, 1, tzinfo=UTC), 1000)), 2)  # one that was broken off
    for number, letter in enumerate(letters):
        put(letter, number % 3)
    assert f"in {len(letters)} dead letters" in desk.isthmus("show", stood[2])
    assert "killed in between" in desk.isthmus("show", stood[0], code=1)
    assert "1 sent" in desk.isthmus("replay", stood[1], "--yes")
    desk.reader.until(lambda records: any(is_replay(record, key) for record in records))
    (record,) = (record for record in desk.reader.records if is_replay(record, key))
    assert (record.value, record.headers[:2]) == (value, headers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "7"), "is no id of a dead letter: it is partition/offset"),
        (("show", "99/0"), "has the partitions 0 to"),
        (("show", "0/999999999"), "the next one of this partition will be 0/"),
        (("list", "--since", "yesterday"), "is no time: write 30m"),
        (("replay", "--yes"), "say which: ids, or a choice"),
        (("replay", "0/0", "--reason", "empty"), "not both"),
        (("replay", "0/0", "1/0", "--file", __file__), "give one id"),
        (("replay", "0/0", "--set", "attempt=2"), "is no edit: write /data/amount=3"),
    ],
)
def test_errors_say_what_to_do(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    assert said in desk.isthmus(*arguments, code=1)


def test_aged_out_and_unreachable_are_told(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch, unique: Callable[[str], str]
) -> None:
    topic = unique("letters")
    for module in ("letters", "letters.replay"):
        monkeypatch.setattr(f"services.router.{module}.DEAD_LETTER", topic)
    assert "the router makes it when it starts" in desk.isthmus("list", code=1)
    kafka = KafkaResource(bootstrap=desk.bootstrap)
    kafka.ensure_topics([topic])
    for _ in range(3):
        desk.producer.produce(topic, event(key), key, 0)
    desk.producer.flush(10)
    # A client of its own: the shared one remembers that there was no such topic.
    admin, begin = AdminClient({"bootstrap.servers": desk.bootstrap}), TopicPartition(topic, 0, 2)
    admin.delete_records([begin])[begin].result(10)
    assert "has aged out: the oldest of this partition is 0/2" in desk.isthmus("show", "0/1", code=1)
    assert "was not written by the router" in desk.isthmus("show", "0/2", code=1)
    assert look(kafka, Choice(), limit=5).counts == {"unknown": 1}
    assert [summary.id for summary in chosen(kafka, Choice(reasons=("unknown",)))] == [LetterId(0, 2)]
    monkeypatch.setenv("ISTHMUS_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    get_settings.cache_clear()
    assert "Is Isthmus running?" in desk.isthmus("list", code=1)
    monkeypatch.undo()
    get_settings.cache_clear()
