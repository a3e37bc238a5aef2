"""Progress, health and the log of refusals, each by itself."""

from __future__ import annotations

import json
import logging
import random
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from services.doors import listen
from services.router.dead_letter import Source
from services.router.health import STALLED_AFTER, Health
from services.router.metrics import Metrics
from services.router.progress import Batch, Progress
from services.router.refusals import WINDOW, RefusalLog
from services.router.routing import Refused
from services.router.web import serving

P0, P1 = ("isthmus.ingress", 0), ("isthmus.ingress", 1)


def batch(progress: Progress, pending: int, **offsets: int) -> Batch:
    new = progress.begin()
    new.pending = pending
    new.offsets.update({("isthmus.ingress", int(name[1:])): offset for name, offset in offsets.items()})
    return new


def test_only_a_delivered_prefix_may_be_committed() -> None:
    progress = Progress()
    first, second = batch(progress, 2, p0=10, p1=5), batch(progress, 1, p0=20)
    assert progress.in_flight == 3
    second.pending = 0
    assert progress.delivered() == {}
    first.pending = 1
    assert progress.delivered() == {}
    first.pending = 0
    assert progress.delivered() == {P0: 20, P1: 5}
    assert progress.delivered() == {}


def test_a_revoked_partition_is_left_out_of_later_commits() -> None:
    progress = Progress()
    first = batch(progress, 1, p0=10, p1=5)
    progress.forget([P0])
    first.pending = 0
    assert progress.delivered() == {P1: 5}


def test_whatever_the_order_of_acknowledgements_nothing_undelivered_is_committed() -> None:
    rng = random.Random(7)
    for _ in range(200):
        progress, records = Progress(), []
        for number in range(6):
            new = batch(progress, 3, p0=(number + 1) * 3)
            records += [(new, number * 3 + index) for index in range(3)]
        waiting = {offset for _, offset in records}
        rng.shuffle(records)
        for owner, offset in records:
            owner.pending -= 1
            waiting.discard(offset)
            for committed in progress.delivered().values():
                assert committed <= min(waiting, default=18)
        assert not waiting


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_health_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health(Metrics())
    with serving(health, listen("127.0.0.1", 0)) as base:
        assert get(base + "/health")[0] == 200
        status, body = get(base + "/ready")
        assert (status, json.loads(body)["problem"]) == (503, "the router is starting")
        health.state, health.probe = "routing", lambda: ""
        assert get(base + "/ready")[0] == 200
        health.probe = lambda: "_TRANSPORT: broker down"
        status, body = get(base + "/ready")
        assert status == 503
        assert "broker down" in body
        assert get(base + "/metrics?x=1")[1].startswith("# HELP")
        assert get(base + "/secrets")[0] == 404
        monkeypatch.setattr(health, "_turned", health._turned - STALLED_AFTER)
        assert get(base + "/health")[0] == get(base + "/ready")[0] == 503


def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", taken.getsockname()[1])


def test_a_flood_of_refusals_is_one_line_a_window_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = RefusalLog(logging.getLogger("test"), clock=lambda: now[0])
    source = Source("isthmus.ingress", 0, 41, b"key of Ada", b"Ada", [("h", b"Ada")])
    for _ in range(1000):
        refusals.note(source, Refused("malformed-json", "detail"))
    refusals.note(source, Refused("empty", "detail", "urn:isthmus:x:1#/y"))
    now[0] = WINDOW
    refusals.note(source, Refused("malformed-json", "detail"))
    assert [record.getMessage() for record in caplog.records] == [
        "refused isthmus.ingress/0/41: malformed-json at no schema; 0 more of this reason since the last such line",
        "refused isthmus.ingress/0/41: empty at urn:isthmus:x:1#/y; 0 more of this reason since the last such line",
        "refused isthmus.ingress/0/41: malformed-json at no schema; 999 more of this reason since the last such line",
    ]
    assert "Ada" not in caplog.text
