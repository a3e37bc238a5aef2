"""``POST /v1/events`` against a router process and a broker: what is taken and refused, and what of it is on topics."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from events.catalogue import INGRESS, SAGAS
from events.codec import encode
from tests.conftest import ROOT
from tests.integration.router.bus import STEP, Reader, Router, router

TOKEN, OTHER = "token-of-the-shop-0001", "token-of-the-bank-0002"
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SMALL = {"ingest_max_body_bytes": "20000", "ingest_max_events": "20", "ingest_timeout_seconds": "2"}


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    tokens = json.dumps({"shop": TOKEN, "bank": OTHER})
    with router(bootstrap, tmp_path_factory.mktemp("ingest"), ingest_tokens=tokens, **SMALL) as running:
        yield running


@pytest.fixture
def client(service: Router) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.address, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def reader(bootstrap: str) -> Iterator[Reader]:
    reader = Reader(bootstrap, (INGRESS, SAGAS))
    yield reader
    reader.close()


def event(subject: str, id: str, data: dict[str, Any] = STEP, **more: Any) -> bytes:
    return encode("isthmus.saga.step", data, subject=subject, source="/http", id=id, **more)


def on_topics(reader: Reader, prefix: str) -> dict[str, Counter[str]]:
    """Return, by topic, how often each event stands there whose subject begins with ``prefix``."""
    found = {INGRESS: Counter[str](), SAGAS: Counter[str]()}
    for record in reader.records:
        if (record.key or b"").startswith(prefix.encode()):
            found[record.topic][json.loads(record.value or b"")["id"]] += 1
    return found


def wait_for(reader: Reader, prefix: str, ids: set[str]) -> None:
    """Read until every id has come to its domain topic; fail where an event stands anywhere but once, or was not to."""
    reader.until(lambda _: on_topics(reader, prefix)[SAGAS].keys() >= ids)
    expected = Counter(dict.fromkeys(ids, 1))
    assert on_topics(reader, prefix) == {INGRESS: expected, SAGAS: expected}


def test_the_three_modes_arrive_as_they_were_sent(client: httpx.Client, reader: Reader) -> None:
    subject = f"modes-{time.time_ns()}"
    # Spaces and a large number: what is sent is the sender's text, not what a parser made of it.
    spaced = (
        event(f"{subject}-ä", "1", traceparent=TRACE).replace(b'":', b'": ').replace(b'"attempt": 1', b'"attempt":  1')
    )
    many = [event(f"{subject}-b", "2"), event(f"{subject}-b", "3", traceparent=TRACE[:-1] + "0")]
    data, traced = json.dumps(STEP).encode(), {**BATCH, "traceparent": TRACE}
    named = {
        "ce-specversion": "1.0",
        "ce-id": "4",
        "ce-source": "/http",
        "ce-type": "isthmus.saga.step",
        "ce-subject": f"{subject}-%C3%A4",
        "ce-time": datetime.now(UTC).isoformat(),
        "ce-tenant": '"acme"',
        "Content-Type": "application/json; charset=utf-8",
    }
    answers = [
        client.post("/v1/events", content=spaced, headers=STRUCTURED),
        client.post("/v1/events", content=b" [\n" + b" ,\t".join(many) + b"]\r\n", headers=traced),
        client.post("/v1/events", content=data, headers=named),
    ]
    assert [answer.status_code for answer in answers] == [202] * 3, [answer.text for answer in answers]
    assert [answer.json() for answer in answers] == [{"accepted": ids} for ids in (["1"], ["2", "3"], ["4"])]
    wait_for(reader, subject, {"1", "2", "3", "4"})
    sent = {
        json.loads(record.value or b"")["id"]: record
        for record in reader.records
        if (record.key or b"").startswith(subject.encode()) and record.topic == INGRESS
    }
    assert [sent[id].value for id in "123"] == [spaced, *many]
    assert json.loads(sent["4"].value or b"")["data"] == STEP
    assert json.loads(sent["4"].value or b"")["tenant"] == "acme"
    assert sent["1"].key == sent["4"].key == f"{subject}-ä".encode()
    assert [sent[id].headers for id in "1234"] == [[], [("traceparent", TRACE.encode())], [], []]


def test_a_batch_with_one_bad_event_sends_none(client: httpx.Client, reader: Reader) -> None:
    subject = f"batch-{time.time_ns()}"
    late = event(subject, "late", time=datetime(2106, 2, 7, tzinfo=UTC))
    bad = [event(subject, "b", {**STEP, "attempt": "seven"}), b'{"type": 7}', b"[1]", late]
    good = [event(subject, str(number)) for number in range(3)]
    body = b"[" + b",".join([good[0], *bad, *good[1:]]) + b"]"
    answer = client.post("/v1/events", content=body, headers=BATCH)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert problem["detail"] == "4 of 7 events refused; none was sent."
    seen = [(error["index"], error["reason"], error["instance_path"]) for error in problem["errors"]]
    assert seen == [
        (1, "invalid-data", "/data/attempt"),
        (2, "invalid-envelope", ""),
        (3, "malformed-json", ""),
        (4, "time-in-future", "/time"),
    ]
    assert problem["errors"][0]["schema_path"] == "urn:isthmus:isthmus.saga.step:1#/properties/attempt/type"
    assert client.post("/v1/events", content=b"[" + b",".join(good) + b"]", headers=BATCH).status_code == 202
    wait_for(reader, subject, {"0", "1", "2"})


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", TOKEN])
def test_no_valid_token_is_401(service: Router, given: str | None) -> None:
    headers = STRUCTURED if given is None else {**STRUCTURED, "Authorization": given}
    answer = httpx.post(service.address + "/v1/events", content=event("s", "1"), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="isthmus"')


def test_each_token_opens(service: Router) -> None:
    for scheme, token in (("Bearer", OTHER), ("bearer", TOKEN)):
        headers = {**BATCH, "Authorization": f"{scheme} {token}"}
        answer = httpx.post(service.address + "/v1/events", content=b"[]", headers=headers)
        assert (answer.status_code, answer.json()) == (202, {"accepted": []})


DEEP = b"[" * 100_000
BINARY = {"Content-Type": "application/json", "ce-specversion": "1.0"}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"", STRUCTURED),
        (400, b"{", STRUCTURED),
        (400, b"\0\0\0\0\1" + event("s", "1"), STRUCTURED),
        (400, b"", BATCH),
        (400, b"{}", BATCH),
        (400, b"[{}", BATCH),
        (400, b"[{},]", BATCH),
        (400, b"[] []", BATCH),
        (400, b'["\xff"]', BATCH),
        (400, DEEP[:20_000], BATCH),
        (422, b"[" + b"1" * 19_000 + b"]", BATCH),
        (422, b"[NaN]", BATCH),
        (400, b'{}, "type": "x"', BINARY),
        (400, b"{}", {**BINARY, "ce-data": "x"}),
        (400, b"{}", {**BINARY, "ce-id": "%FF"}),
        (422, b"{}", BINARY),
        (413, b"x" * 20_001, STRUCTURED),
        (413, b"[" + b"{}," * 20 + b"{}]", BATCH),
        (415, b"{}", {"Content-Type": "application/json"}),
        (415, b"{}", {"Content-Type": "text/plain"}),
        (415, b"{}", {}),
        (415, b"{}", {"Content-Type": "application/cloudevents+json; charset=latin-1"}),
        (415, b"{}", {**STRUCTURED, "Content-Encoding": "gzip"}),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_what_holds_no_events_is_told_so(
    client: httpx.Client, status: int, body: bytes, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["status"] == status


def raw(service: Router, head: str, body: bytes = b"") -> tuple[str, bytes]:
    """Send a request byte by byte as given; return the status line and what follows."""
    host, port = service.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        lines = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{head}\r\n\r\n"
        connection.sendall(lines.encode() + body)
        answer = connection.recv(65536)
    status, _, rest = answer.partition(b"\r\n")
    return status.decode(), rest


def test_a_body_that_is_too_large_is_refused_before_it_is_read(service: Router) -> None:
    form = "Content-Type: application/cloudevents+json\r\n"
    status, _ = raw(service, form + "Content-Length: 20001")
    assert " 413 " in status
    status, rest = raw(service, form + "Content-Length: 99999999999")
    assert " 413 " in status
    assert b"connection: close" in rest.lower()
    pieces = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    status, _ = raw(service, form + "Transfer-Encoding: chunked", pieces * 6)  # and no end
    assert " 413 " in status


def test_a_body_that_does_not_come_is_not_waited_for_long(service: Router) -> None:
    status, _ = raw(service, "Content-Type: application/cloudevents+json\r\nContent-Length: 100", b"{")
    assert " 408 " in status


def test_every_accepted_event_is_on_its_topic_once(service: Router, reader: Reader) -> None:
    subject = f"many-{time.time_ns()}"

    async def post(client: httpx.AsyncClient, number: int) -> list[str]:
        ids = [f"{number}/{index}" for index in range(1 + number % 20)]
        events = [event(f"{subject}/{id}", id) for id in ids]
        if number % 7 == 0:
            events[-1] = events[-1][:-1]
        answer = await client.post("/v1/events", content=b"[" + b",".join(events) + b"]", headers=BATCH)
        assert answer.status_code == (202 if number % 7 else 400)
        return list(answer.json()["accepted"]) if number % 7 else []

    async def all_of_them() -> list[str]:
        limits = httpx.Limits(max_connections=16)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=service.address, headers=headers, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*(post(client, number) for number in range(150)))
        return [id for ids in answers for id in ids]

    before = service.metric("ingest_events_total")
    accepted = asyncio.run(all_of_them())
    assert len(accepted) > 1000
    wait_for(reader, subject, set(accepted))
    assert service.metric("ingest_events_total") - before == len(accepted)
    assert service.metric("ingest_in_flight") == 0


def test_nothing_of_an_event_or_a_token_is_repeated(service: Router, client: httpx.Client) -> None:
    canary = f"canary{time.time_ns()}"
    wrong = {**STEP, "attempt": canary, "error": canary, "status": canary}
    events = [
        encode("isthmus.saga.step", wrong, subject=canary, source=f"/{canary}", id=canary),
        event(canary, canary).replace(b"isthmus.saga.step", canary.encode()),
        event(canary, canary, extensions={"tenant": canary}).replace(b'"1.0"', f'"{canary}"'.encode()),
    ]
    texts = []
    for given in (f"Bearer {TOKEN}", f"Bearer {canary}", f"Basic {canary}", canary):
        for headers in (STRUCTURED, BATCH, {**BINARY, "ce-id": canary, "ce-source": canary}, {"Content-Type": canary}):
            for body in (*events, b"[" + b",".join(events) + b"]", canary.encode(), f'{{"{canary}'.encode()):
                secret = {**headers, "Authorization": given, "traceparent": canary, "X-Secret": canary}
                answer = client.post("/v1/events", content=body, headers=secret)
                assert answer.status_code >= 400
                texts.append(answer.text + str(answer.headers))
    raw(service, f"Content-Type: {canary}\r\nContent-Length: {canary}")
    texts += [service.get("/metrics"), service.log.read_text()]
    assert not [text for text in texts if canary in text or TOKEN in text]
    for line in service.log.read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_metrics_can_be_parsed_and_count_outcomes(service: Router, client: httpx.Client) -> None:
    client.post("/v1/events", content=event("metrics", "1"), headers=STRUCTURED)
    client.post("/v1/events", content=b"{", headers=STRUCTURED)
    families = {family.name: family for family in text_string_to_metric_families(service.get("/metrics"))}
    counts = {
        sample.labels["outcome"]: sample.value
        for sample in families["isthmus_router_ingest_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert counts["accepted"] >= 1
    assert counts["malformed"] >= 1
    assert families["process_open_fds"].samples[0].value > 5
    assert families["isthmus_router_routing"].samples[0].value == 1
    deadline = time.monotonic() + 30
    # Another router of the group may have some of the partitions.
    while service.metric("lag") or service.get("/metrics").count("isthmus_router_lag{") < service.metric(
        "assigned_partitions"
    ):
        assert time.monotonic() < deadline


def test_other_paths_and_methods(client: httpx.Client) -> None:
    assert client.get("/v1/events").status_code == 405
    assert client.post("/health").status_code == 405
    assert client.get("/v1/other").status_code == 404
    assert client.get("/openapi.json").json()["openapi"].startswith("3.")


def test_the_token_is_made_at_first_use(bootstrap: str, tmp_path: Path) -> None:
    with router(bootstrap, tmp_path, router_host="::1" if socket.has_ipv6 else "127.0.0.1") as other:
        path = tmp_path / "secrets" / "ingest-token"
        assert path.stat().st_mode & 0o777 == 0o600
        address = other.address.replace("127.0.0.1", "[::1]") if socket.has_ipv6 else other.address
        headers = {**STRUCTURED, "Authorization": f"Bearer {path.read_text()}"}
        assert httpx.post(address + "/v1/events", content=event("own", "1"), headers=headers).status_code == 202


def test_the_command_in_the_docs_works(service: Router) -> None:
    page = (ROOT / "docs/api/ingest.md").read_text()
    command = page.split("```bash\n")[1].split("```")[0].replace("$(cat .isthmus/secrets/ingest-token)", TOKEN)
    words = shlex.split(command)
    given = {name: [words[at + 1] for at, word in enumerate(words) if word == name] for name in ("-H", "-d")}
    headers = dict(header.split(": ", 1) for header in given["-H"])
    address = next(word for word in words if word.startswith("http")).replace("http://127.0.0.1:8090", service.address)
    answer = httpx.post(address, content=given["-d"][0], headers=headers)
    assert (answer.status_code, answer.text) == (202, '{"accepted":["4711/1"]}')
    assert answer.text in page


def test_the_description_has_every_answer(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/events"]["post"]
    page = (ROOT / "docs/api/ingest.md").read_text()
    for form, media in described["requestBody"]["content"].items():
        assert f"`{form}`" in page
        extra = {name: each["example"] for each in described["parameters"] if (name := each["name"]).startswith("ce-")}
        headers = {"Content-Type": form, **(extra if form == "application/json" else {})}
        assert client.post("/v1/events", content=json.dumps(media["example"]), headers=headers).status_code == 202
    statuses = set(described["responses"])
    assert statuses == {"202", "400", "401", "408", "413", "415", "422", "500", "503", "504"}
    assert all(f"| {status} |" in page for status in statuses - {"202"})
