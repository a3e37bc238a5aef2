"""The platform's own runbooks: found by failing sagas and alerts, and naming only commands and settings that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ml.knowledge.incidents import FailingSaga, explain
from ml.knowledge.index import Document, Index
from ml.knowledge.text import passages

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "operations" / "runbooks"
FILES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
INCIDENTS = (
    Document(
        "2026-05-payment",
        "Payment provider slow, orders abort",
        "The payment provider answered after 40 s. Charges timed out, were retried at once, and the retries kept the "
        "provider's connection pool full. Orders were compensated by thousands. It ended when retries were limited.",
    ),
    Document(
        "2026-06-schema",
        "Release of inventory wrote an undeclared field",
        "A release of the inventory service added a field to its steps. The router refused every event as "
        "invalid-data, and stock figures stood still until it was rolled back and the dead letters were replayed.",
    ),
    Document(
        "2026-08-certificate",
        "Expired certificate between notification and its mail relay",
        "TLS handshakes failed after the certificate of the mail relay had expired. Notifications failed at once.",
    ),
)


@pytest.fixture(scope="module")
def runbooks() -> Index:
    return Index([Document(path.stem, "", path.read_text()) for path in FILES])


@pytest.fixture(scope="module")
def incidents() -> Index:
    return Index(INCIDENTS)


CASES = [
    (
        FailingSaga("order", "charge", "payment", "timed out after 30000 ms", ("many orders abort, retries rise",)),
        "saga-failure-burst",
        "2026-05-payment",
    ),
    (
        FailingSaga("order", "reserve_stock", "inventory", "", ("IsthmusRouterRefusals", "dead letters invalid-data")),
        "dead-letters-rising",
        "2026-06-schema",
    ),
    (
        FailingSaga("order", "notify", "notification", "SSL: certificate expired in handshake with the mail relay"),
        None,
        "2026-08-certificate",
    ),
    (
        FailingSaga("order", "ship", "carrier", "", ("IsthmusRouterLag", "events wait in ingress")),
        "router-lag",
        None,
    ),
    (
        FailingSaga("order", "", "warehouse", "Code: 243. not enough space on the disk (NOT_ENOUGH_SPACE)"),
        "warehouse-full",
        None,
    ),
    (
        FailingSaga(
            "order", "", "landing", "", ("contiguity of raw/events failed: offsets are missing, a gap is open",)
        ),
        "landing-stuck",
        None,
    ),
    (FailingSaga("order", "bake", "oven", "the souffle collapsed"), None, None),
]


@pytest.mark.parametrize(("saga", "runbook", "incident"), CASES, ids=lambda of: of if isinstance(of, str) else None)
def test_a_failing_saga_finds_its_runbook_and_its_like(
    saga: FailingSaga, runbook: str | None, incident: str | None, runbooks: Index, incidents: Index
) -> None:
    found = explain(saga, incidents=incidents, runbooks=runbooks)
    assert (found.runbook.document_id if found.runbook else None) == runbook
    assert (found.incident.document_id if found.incident else None) == incident
    if found.runbook:
        assert found.runbook.reasons
        assert found.runbook.passage in (FOLDER / f"{found.runbook.document_id}.md").read_text()


def test_every_runbook_has_symptoms_checks_and_a_remedy_and_is_in_the_list() -> None:
    listed = (FOLDER / "index.md").read_text()
    for path in FILES:
        headings = {one.heading for one in passages(path.read_text())}
        assert headings == {"Symptoms", "Checks", "Remedy"}, path.name
        assert f"({path.name})" in listed


def test_commands_in_runbooks_exist() -> None:
    from typer.main import get_command

    from cli.main import app

    text = "\n".join(path.read_text() for path in FILES)
    named = {
        line.strip() for line in re.findall(r"^\s*(isthmus .+)$|`(isthmus [^`]+)`", text, re.MULTILINE) for line in line
    }
    assert len(named - {""}) > 10
    for line in named - {""}:
        command, words = get_command(app), shlex.split(line)[1:]
        while hasattr(command, "commands"):
            assert words, line
            assert words[0] in command.commands, line
            command, words = command.commands[words[0]], words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_alerts_and_figures_in_runbooks_exist() -> None:
    text = "\n".join(path.read_text() for path in FILES)
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "router.rules.yml").read_text())
    alerts = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"`(Isthmus\w+)`", text)) <= alerts
    known = (ROOT / "docs" / "operations" / "configuration.md").read_text()
    assert all(f"`{name}`" in known for name in re.findall(r"ISTHMUS_[A-Z_]+", text))
