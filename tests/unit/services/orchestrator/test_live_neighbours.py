"""The stream's lives, the keys in Redis, and the figures of both."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import yaml
from pydantic import SecretStr

from resources.errors import RedisError
from resources.kafka import KafkaResource
from resources.redis import RedisResource
from resources.settings import Settings
from services.orchestrator import stream as stream_module
from services.orchestrator.keys import LEASE_SECONDS, PolicyKeys, key_of, keys_of
from services.orchestrator.live import Live
from services.orchestrator.standing import InForce, Keeper
from services.orchestrator.steering import Turns
from services.orchestrator.stream import Stream
from services.orchestrator.web import Figures
from services.router.clients import Fenced
from tests.conftest import ROOT
from tests.integration.orchestrator.world import ACTION

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
POLICY = InForce("decision-1", ACTION, NOON + timedelta(hours=1))


# Keys of Redis


def test_names_are_quoted_so_that_no_two_steps_share_a_key() -> None:
    assert key_of("order", "charge", "payment") == "isthmus:policy:order:charge:payment"
    assert key_of("a:b", "c", "d") != key_of("a", "b:c", "d")
    assert (
        key_of("loan", "W_Completeren aanvraag", "ü/*") == "isthmus:policy:loan:W_Completeren%20aanvraag:%C3%BC%2F%2A"
    )


def test_a_key_goes_with_its_policy_and_beyond_that_it_is_marked_and_short_lived() -> None:
    fields, ends = keys_of({"order": POLICY}, NOON)["isthmus:policy:order:charge:payment"]
    assert fields == {
        "timeout_ms": "850.0",
        "attempts": "3",
        "ratio": "0.1",
        "window_seconds": "60.0",
        "backoff_ms": "120.0",
        "decision_id": "decision-1",
        "valid_to": "2026-05-04T13:00:00+00:00",
        "stale": "0",
    }
    assert ends == POLICY.valid_to.timestamp() * 1000
    fields, ends = keys_of({"order": POLICY}, POLICY.valid_to)["isthmus:policy:order:charge:payment"]
    assert fields["stale"] == "1"
    assert ends == (POLICY.valid_to.timestamp() + LEASE_SECONDS) * 1000


# The stream


def test_a_stream_that_was_fenced_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    lives, seen = list[str](), Event()

    class Life:
        def __init__(self, of: Stream) -> None:
            self.of = of

        def run(self) -> None:
            lives.append(self.of.problem or "")
            if len(lives) < 3:
                raise Fenced
            seen.set()
            self.of._stop.wait(10)

    monkeypatch.setattr(stream_module, "_Life", Life)
    monkeypatch.setattr(KafkaResource, "ensure_topics", lambda self, *topics: None)
    keeper = Keeper(None, None, None)  # type: ignore[arg-type]  # nothing is read
    keeper._read_at = 0.0
    stream = Stream(KafkaResource(), keeper, most_sagas=1, read_back=0)
    stream.start()
    assert seen.wait(10)
    stream.close()
    assert "ISTHMUS_ADVICE_INSTANCE" in lives[-1]
    assert stream.figures.restarts == 2


# Figures


def test_every_metric_of_the_rules_and_the_dashboard_exists() -> None:
    keeper = Keeper(None, None, None)  # type: ignore[arg-type]  # nothing is read
    keys = PolicyKeys(RedisResource(url="redis://127.0.0.1:1/0"), keeper)
    live = Live(Stream(KafkaResource(), keeper, most_sagas=1, read_back=0), keys)
    assert set(live.problems) == {"broker"}
    families = [*live.collect(), *Figures(keeper, live, Turns(lambda: keeper.standing)).registry.collect()]
    there = {f"{one.name}{end}" for one in families for end in ("", "_total", "_bucket")}
    rules = yaml.safe_load((ROOT / "deploy/prometheus/orchestrator.rules.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    recorded = {rule.get("record") for group in rules["groups"] for rule in group["rules"]}
    dashboard = json.loads((ROOT / "deploy/grafana/orchestrator.json").read_text())
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for one in asked for name in re.findall(r"\bisthmus_[a-z0-9_:]+", one)}
    assert len(names) > 20
    assert names - there - recorded == set()


def test_a_redis_that_cannot_be_used_is_said_without_its_address() -> None:
    for url in ("http://user:secret@host", "nonsense"):
        with pytest.raises(RedisError, match="not a Redis URL") as caught:
            RedisResource(url=url).client()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        (None, "p", None),
        ("redis://h:1/0", None, "redis://h:1/0"),
        ("redis://h:1/0", "p/:", "redis://:p%2F%3A@h:1/0"),
        ("rediss://u@h:1/0", "p", "rediss://u:p@h:1/0"),
        ("redis://u:q@h:1/0", "p", "redis://u:q@h:1/0"),
    ],
)
def test_the_password_of_redis_may_stand_apart(url: str | None, password: str | None, expected: str | None) -> None:
    settings = Settings(redis_url=url, redis_password=SecretStr(password) if password else None)
    assert settings.redis_dsn() == expected
    assert "redis://" not in repr(settings)
