"""The routing table: what it accepts, what it refuses and how it says so, and what becomes of an event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from cli.console import console, errors
from cli.main import app
from events.catalogue import SAGAS
from events.codec import encode
from resources.errors import KafkaUnavailable
from services.router.metrics import Metrics
from services.router.routing import Routed, route
from services.router.table import BadTable, RoutingTable, load
from services.router.tables import EVERY, Tables

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}


def routed(table: RoutingTable, *, id: str = "1", source: str = "/test", **extensions: Any) -> Routed:
    value = encode(
        "isthmus.saga.step", STEP, subject="order-1", source=source, id=id, time=NOW, extensions=extensions or None
    )
    result = route(value, None, None, NOW, b"key", table=table)
    assert isinstance(result, Routed), result
    return result


def test_an_empty_table_leaves_everything_to_the_catalogue() -> None:
    for text in ("", "routes: []", "# nothing yet"):
        table = load(text)
        assert table.of("isthmus.saga.step") is None
        assert routed(table)[:2] == ("isthmus.saga.step", SAGAS)


def test_a_route_sends_elsewhere_or_besides() -> None:
    table = load(
        """
        routes:
          - {name: audit, when: {type: "isthmus.saga.*", data: {participant: payment}}, copy: [audit, second]}
          - {name: eu, when: {source: "/eu/*"}, to: eu.sagas, copy: audit}
          - {name: later, when: {source: "/eu/*"}, to: never.reached}
          - {name: other, when: {data: {participant: stock}}, copy: stock}
        """
    )
    assert table.topics == ("audit", "second", "eu.sagas", "never.reached", "stock")
    assert (routed(table).topic, routed(table).copies) == (SAGAS, ("audit", "second"))
    abroad = routed(table, source="/eu/shop")
    assert (abroad.topic, abroad.copies) == ("eu.sagas", ("audit", "second"))
    assert not abroad.rewritten


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("{attributes: {tenant: acme}}", True),
        ("{attributes: {tenant: [other, acme]}}", True),
        ("{attributes: {tenant: other}}", False),
        ("{attributes: {absent: acme}}", False),
        ("{attributes: {level: 1}}", True),
        ("{attributes: {level: true}}", False),
        ("{attributes: {level: '1'}}", False),
        ("{data: {attempt: 1}}", True),
        ("{data: {attempt.deeper: 1}}", False),
        ("{subject: 'order-?'}", True),
        ("{subject: 'order'}", False),
        ("{type: [isthmus.decision, isthmus.saga.step]}", True),
        ("{type: isthmus.decision}", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    table = load(f"routes: [{{name: r, when: {condition}, copy: c}}]")
    assert (routed(table, tenant="acme", level=1).copies == ("c",)) is holds


def test_sampling_is_of_copies_only_and_the_same_for_a_repeat() -> None:
    table = load("routes: [{name: r, copy: c, sample: 0.2}, {name: s, copy: d, sample: 0.2}]")
    first = [routed(table, id=str(number)) for number in range(2000)]
    assert [routed(table, id=str(number)).copies for number in range(2000)] == [one.copies for one in first]
    assert {one.topic for one in first} == {SAGAS}
    of_c = {number for number, one in enumerate(first) if "c" in one.copies}
    of_d = {number for number, one in enumerate(first) if "d" in one.copies}
    assert 300 < len(of_c) < 500
    assert 40 < len(of_c & of_d) < 130, "two routes draw independently"


def test_enrichment_adds_and_never_changes() -> None:
    table = load(
        """
        enrich:
          - name: teams
            set: {environment: production}
            lookup: {team: {from: data.participant, values: {payment: team-pay}, default: none},
                     cell: {from: source, values: {/elsewhere: b}}}
        """
    )
    document = orjson.loads(routed(table, environment="test").value)
    assert (document["environment"], document["team"], "cell" in document) == ("test", "team-pay", False)
    assert routed(table).rewritten


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routes: [", "not YAML"),
        ("- a", "mapping"),
        ("routs: []", "routs: Extra inputs"),
        ("routes: [{name: r}]", "`to`, `copy`, or both"),
        ("routes: [{name: r, to: isthmus.ingress}]", "in circles"),
        ("routes: [{name: r, copy: isthmus.dead-letter}]", "in circles"),
        ("routes: [{name: r, to: t, sample: 0.5}]", "nothing is ever dropped"),
        ("routes: [{name: r, copy: t, sample: 0}]", "routes.0.sample"),
        ("routes: [{name: r, copy: 'a b'}]", "routes.0.copy.0"),
        ("routes: [{name: r, copy: t}, {name: r, copy: u}]", "two entries are named r"),
        ("enrich: [{name: e, set: {type: x}}]", "the event itself sets"),
        ("enrich: [{name: e, set: {Team: x}}]", "enrich.0.set.Team"),
        ("enrich: [{name: e}]", "`set`, `lookup`, or both"),
        ("enrich: [{name: e, lookup: {team: {from: data.x}}}]", "enrich.0.lookup.team.values"),
    ],
)
def test_a_bad_table_is_refused_with_its_problem(text: str, problem: str) -> None:
    with pytest.raises(BadTable, match=problem.replace("|", "\\|")):
        load(text)


class Broker:
    def __init__(self) -> None:
        self.topics: list[str] = []
        self.up = True

    def ensure(self, topics: Iterable[str]) -> None:
        if not self.up:
            raise KafkaUnavailable("down")
        self.topics += topics


def test_a_changed_file_comes_into_force_and_a_bad_one_does_not(tmp_path: Path) -> None:
    file, metrics, broker, now = tmp_path / "routes.yml", Metrics(), Broker(), [0.0]
    file.write_text("routes: [{name: r, copy: first}]")
    tables = Tables(file, metrics, ensure_topics=broker.ensure, clock=lambda: now[0])

    def after(text: str | None) -> tuple[str, ...]:
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        now[0] += EVERY
        tables.refresh()
        return tables.current.topics

    assert tables.current.topics == ("first",)
    assert after("routes: [{name: r, copy: second}]") == ("second",)
    assert broker.topics == ["second"], "made before an event needs it"
    assert after("routes: [{name: r}]") == after("routes: [") == after(None) == ("second",)
    broker.up = False
    assert after("routes: [{name: r, copy: third}]") == ("second",)
    broker.up = True
    assert after("routes: [{name: r, copy: third}]") == ("third",), "what the broker refused is tried again"
    assert (metrics.table_loads, metrics.table_refusals) == (2, 4)
    now[0] += EVERY / 2
    file.write_text("")
    tables.refresh()
    assert tables.current.topics == ("third",), "the file is looked at once a second"


def test_a_router_does_not_start_with_a_bad_table(tmp_path: Path) -> None:
    for content in (None, b"routes: [", b"\xff"):
        file = tmp_path / "routes.yml"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BadTable):
            Tables(file, Metrics(), ensure_topics=lambda _topics: None)


EXAMPLE = Path(__file__).resolve().parents[4] / "deploy" / "router" / "routes.example.yml"


def test_the_example_is_a_table_and_the_command_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 200)
    assert load(EXAMPLE.read_text()).topics == ("audit.payments", "staging.sample", "loadtest.events")
    shown = CliRunner().invoke(app, ["routes", "check", str(EXAMPLE)])
    assert shown.exit_code == 0
    assert "staging.sample (10% of them)" in shown.output


def test_the_command_refuses_what_the_router_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "width", 200)
    file = tmp_path / "routes.yml"
    file.write_text("routes: [{name: r, to: isthmus.ingress}]")
    shown = CliRunner().invoke(app, ["routes", "check", str(file)])
    assert shown.exit_code == 1
    assert "in circles" in shown.output
