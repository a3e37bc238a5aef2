"""Personal data put in at the bus shows in no log, metric, trace, reason of a dead letter or routed event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from events.catalogue import DEAD_LETTER, INGRESS
from events.codec import encode
from services.router.dead_letter import PREFIX
from tests.integration.router.bus import STEP, Reader, producer, router
from tests.integration.router.test_traces import SAMPLED, Collector

pytestmark = pytest.mark.embedded

PERSON, MAIL, ACCOUNT = "Quirina Zwaluwstaart", "canary.person@example.org", "NL91ABNA0417164300"
CANARIES = (PERSON, MAIL, ACCOUNT)


def event(number: int, kind: str = "isthmus.saga.started", **data: Any) -> bytes:
    whole = {"saga_type": "order"} if kind.endswith("started") else STEP
    key = f"canary-{number}"
    plain = encode("isthmus.saga.step", STEP, subject=key, source="/canary", id=key)
    return orjson.dumps({**orjson.loads(plain), "type": kind, "dataschema": f"urn:isthmus:{kind}:1",
                         "traceparent": SAMPLED, "data": {**whole, **data}})  # fmt: skip


INPUTS = (
    event(0, customer=PERSON, customer_email=MAIL, account=ACCOUNT),
    event(1, customer=[PERSON], customer_email=MAIL),
    event(2, customer=PERSON * 40),
    event(3, iban=ACCOUNT, customer=PERSON),
    event(4, **{MAIL: PERSON}),
    event(5, amount=MAIL),
    event(6, currency=PERSON),
    event(7, "isthmus.saga.step", attempt=MAIL, status=PERSON),
    event(8, "isthmus.saga.step", error={MAIL: [ACCOUNT]}),
    event(9, f"isthmus.{PERSON}"),
    event(10, customer=PERSON)[:-2] + b"," + MAIL.encode(),
    f"{PERSON} <{MAIL}> {ACCOUNT}".encode(),
)


def test_no_canary_leaves_the_router_but_in_the_record_as_it_came(kafka_bootstrap: str, tmp_path: Path) -> None:
    collector = Collector()
    with collector.serving(), router(kafka_bootstrap, tmp_path, otlp_endpoint=collector.url) as process:
        sender = producer(kafka_bootstrap)
        for number, value in enumerate(INPUTS):
            sender.produce(INGRESS, value, f"canary-{number}")
        sender.flush(10)
        reader = Reader(kafka_bootstrap)
        records = [record for n in range(len(INPUTS)) for record in reader.with_key(f"canary-{n}".encode())]
        reader.close()
        said = [process.get("/metrics"), process.get("/ready")]
    said.append(process.log.read_text())
    said += [body.decode(errors="replace") for body in collector.bodies]
    refused = [record for record in records if record.topic == DEAD_LETTER]
    routed = [record for record in records if record.topic != DEAD_LETTER]
    assert len(refused) == len(INPUTS) - 1
    assert collector.spans
    for record in refused:
        said += [str(header) for header in record.headers if header[0].startswith(PREFIX)]
    said += [(record.value or b"").decode() for record in routed]
    for canary in CANARIES:
        assert not [text[:300] for text in said if canary in text]
