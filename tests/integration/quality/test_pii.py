"""Personal data in a real warehouse: the scan, its check and proposals, the vault, and that no value leaks anywhere."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import orjson
import pyarrow as pa
import pytest

import assets.quality.pii as scan
from assets.quality.pii import CHECK, INVENTORY, pii_inventory
from assets.quality.pii_declarations import DeclarationError, declarations
from assets.quality.pii_vault import Vault, redact_table
from events.fields import keyed_hash
from ml.pii.redaction import Keys
from resources.decisions.store import DecisionStore
from resources.errors import WarehouseError
from resources.warehouse import WarehouseResource

KEYS = Keys(b"key of this year", (b"key of last year",))
#: Put in everywhere, and looked for in everything that comes out.
CANARIES = ("canary.person@example.org", "4111111111111111", "NL91ABNA0417164300", "Quirina Zwaluwstaart")


@pytest.fixture(scope="module")
def tables(own_warehouse: WarehouseResource) -> WarehouseResource:
    """A warehouse with a landed event, a table of people and one that breaks when it is read."""
    mail, card, account, name = CANARIES
    own_warehouse.command(
        "CREATE TABLE marts.people (id UInt64, contact String, paid Nullable(String), notes LowCardinality(String), "
        "status String) ENGINE = MergeTree ORDER BY id"
    )
    own_warehouse.insert_rows(
        "marts.people",
        [
            {
                "id": n,
                "contact": f"{n}.{mail}",
                "paid": card if n % 2 else None,
                "notes": f"{name} called",
                "status": "ok",
            }
            for n in range(200)
        ],
    )
    payload = {
        "id": "1",
        "type": "isthmus.saga.started",
        "data": {"saga_type": "order", "customer": keyed_hash("a", b"k")},
    }
    attributes = {"attributes": {"iban": account, "channel": "web"}}
    own_warehouse.insert_rows(
        "raw.events",
        [
            {
                "topic": "isthmus.sagas", "partition": 0, "offset": n, "appended_at": datetime(2026, 5, 4, tzinfo=UTC),
                "key": str(n), "value": orjson.dumps({**payload, "data": {**payload["data"], **attributes}}).decode(),
            }
            for n in range(50)
        ],
    )  # fmt: skip
    return own_warehouse


@pytest.fixture
def scanned(
    tables: WarehouseResource, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> tuple[dg.ExecuteInProcessResult, str]:
    """The scan's result, and all that it said: logs of each level, output, events of the run."""
    with caplog.at_level(logging.DEBUG), dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [pii_inventory], resources={"warehouse": tables}, instance=instance, raise_on_error=False
        )
        told = [str(event.to_dict() if hasattr(event, "to_dict") else event) for event in result.all_events]
        records = [str(record.event_log_entry) for record in instance.get_records_for_run(result.run_id).records]
    captured = capfd.readouterr()
    return result, "\n".join([caplog.text, captured.out, captured.err, *told, *records])


def rows(warehouse: WarehouseResource, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    return warehouse.query_rows(sql, parameters)


def test_the_scan_finds_blocks_proposes_and_tells_no_value(
    tables: WarehouseResource, scanned: tuple[dg.ExecuteInProcessResult, str]
) -> None:
    result, told = scanned
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.asset_key, evaluation.check_name, evaluation.passed) == (INVENTORY, CHECK, False)
    assert not result.success, "the check blocks"

    found = {
        (row["column"], row["entity"]): row
        for row in rows(
            tables, "SELECT * FROM quality.pii_inventory FINAL WHERE run_id = {run:String}", run=result.run_id
        )
    }
    assert found["marts.people.contact", "EMAIL_ADDRESS"]["undeclared"]
    assert found["marts.people.contact", "EMAIL_ADDRESS"]["found"] == 200
    assert found["marts.people.paid", "CREDIT_CARD"]["sampled"] == 100
    assert found["raw.events.value$.data.attributes.iban", "IBAN_CODE"]["undeclared"]
    hashed = found["raw.events.value$.data.customer", ""]
    assert (hashed["action"], hashed["declared"]) == ("hash", True)
    assert found["marts.people.status", ""]["route"] == "fast"

    proposals = DecisionStore(tables).list(kind="schema_change")
    assert {decision.subject for decision in proposals} >= {"marts.people.contact", "marts.people.paid"}
    assert all(decision.status == "proposed" for decision in proposals)

    kept = str(rows(tables, "SELECT * FROM quality.pii_inventory"))
    kept += str(rows(tables, "SELECT * FROM ops.decisions")) + str(rows(tables, "SELECT * FROM ops.decision_events"))
    kept += str(rows(tables, "SELECT * FROM ops.audit"))
    for canary in CANARIES:
        assert canary not in told
        assert canary not in kept


def test_a_second_scan_of_the_day_proposes_nothing_twice(tables: WarehouseResource) -> None:
    (entry,) = scan.judged(scan.Seen("marts.again.mail", "fast", 10, {"EMAIL_ADDRESS": 10}), ())
    for run in ("first", "second"):
        scan.propose(tables, [entry], run, datetime.now(UTC))
    assert len(DecisionStore(tables).list(kind="schema_change", subject="marts.again.mail")) == 1


def test_a_table_that_cannot_be_read_is_named_and_fails_the_check_without_its_text(
    tables: WarehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> list[scan.Seen]:
        raise WarehouseError(f"cannot parse {CANARIES[0]}")

    monkeypatch.setattr(scan, "scan_table", broken)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [pii_inventory], resources={"warehouse": tables}, instance=instance, raise_on_error=False
        )
        (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "marts.people (WarehouseError)" in (evaluation.description or "")
    assert CANARIES[0] not in str(evaluation)


def test_without_the_extra_the_scan_says_what_it_left_out(
    tables: WarehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.pii.engine.installed", lambda: False)
    seen = scan.scan_table(tables, "marts", "people", ["contact", "notes"], scan._prose())
    assert dict(seen[0].entities) == {"EMAIL_ADDRESS": 200}
    assert "extra `pii`" in seen[1].note


def test_a_value_keeps_its_token_over_calls_and_keys_until_it_is_forgotten(own_warehouse: WarehouseResource) -> None:
    before = Vault(own_warehouse, Keys(b"key of last year"))
    now = Vault(own_warehouse, KEYS)
    card = CANARIES[1]
    (token,) = before.tokens("CREDIT_CARD", [card, card]).values()
    assert now.tokens("CREDIT_CARD", [card, "5500000000000004"])[card] == token
    assert now.reveal("CREDIT_CARD", [token, "nobody's"], actor="ada", because="chargeback") == {token: card}
    assert card not in str(rows(own_warehouse, "SELECT * FROM ops.pii_vault"))

    assert now.forget("CREDIT_CARD", [card], actor="ada", because="erasure") == 1
    assert now.reveal("CREDIT_CARD", [token], actor="ada", because="test") == {}
    audit = rows(own_warehouse, "SELECT action, actor FROM ops.audit WHERE action LIKE 'pii.%' ORDER BY at")
    assert [row["action"] for row in audit] == ["pii.reveal", "pii.forget", "pii.reveal"]


def test_two_values_never_share_a_token(own_warehouse: WarehouseResource) -> None:
    vault = Vault(own_warehouse, KEYS)
    values = [str(n) for n in range(10)]
    first = vault.tokens("DIGIT", values[:5])
    both = {**first, **vault.tokens("DIGIT", values[5:9])}
    assert len(set(both.values())) == 9


def test_a_table_is_redacted_by_column_as_the_bus_would(own_warehouse: WarehouseResource) -> None:
    mail, card, account, name = CANARIES
    table = pa.table(
        {"mail": [mail] * 2, "card": [card, None], "account": [account] * 2, "name": [name] * 2, "n": [1, 2]}
    )
    policy: Any = {
        "mail": ("drop", "EMAIL_ADDRESS"), "card": ("token", "CREDIT_CARD"),
        "account": ("mask", "IBAN_CODE"), "name": ("hash", "PERSON"),
    }  # fmt: skip
    out = redact_table(table, policy, KEYS, Vault(own_warehouse, KEYS))
    assert out.column_names == ["card", "account", "name", "n"]
    assert out["account"].to_pylist() == ["****4300"] * 2
    assert out["name"].to_pylist() == [keyed_hash(name, b"key of this year")] * 2
    token, nothing = out["card"].to_pylist()
    assert nothing is None
    assert token.isdigit()
    assert len(token) == 16
    assert not any(canary in str(out.to_pydict()) for canary in CANARIES)
    with pytest.raises(ValueError, match="needs a vault"):
        redact_table(table, {"card": ("token", "CREDIT_CARD")}, KEYS)
    with pytest.raises(ValueError, match="not in the table"):
        redact_table(table, {"cord": ("mask", "CREDIT_CARD")}, KEYS)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{column: a.b.c}", "says nothing of entities, owner, lawful_basis, retention"),
        ("{column: a, entities: [X], owner: o, lawful_basis: l, retention: r, acton: mask}", "unknown keys"),
        ("{column: a, entities: [X], owner: o, lawful_basis: l, retention: r, action: burn}", "action is one of"),
        ("nonsense", "pii.yml"),
    ],
)
def test_a_declaration_that_cannot_be_used_says_why(tmp_path: Any, entry: str, says: str) -> None:
    path = tmp_path / "pii.yml"
    path.write_text(f"declarations:\n  - {entry}\n")
    with pytest.raises(DeclarationError, match=says):
        declarations(path)


def test_the_declarations_of_the_platform_are_sound() -> None:
    found = {one.column: one for one in declarations()}
    assert found["raw.events.value$.data.customer_email"].action == "drop"
    assert all(one.owner and one.lawful_basis and one.retention for one in found.values())
