"""The record of processing activities (Article 30 GDPR) as an asset, made from what is there.

What belongs here: putting it together, its gaps, the asset. What does not: what only a person can say
(``processing.yml``), and the page (``page``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import dagster as dg

from assets.compliance.limits import Personal, personal
from assets.compliance.retention import DAILY, RETENTION
from assets.permanent import no_retry_of_permanent
from assets.quality.pii import INVENTORY
from assets.quality.pii_declarations import declarations
from resources.settings import Settings, get_settings
from resources.warehouse import Warehouse, WarehouseResource

RECORD = dg.AssetKey(["compliance", "record_of_processing"])
TABLE = "ops.processing_records"
FILE: Final = Path(__file__).with_name("processing.yml")
_KEYS: Final = ("name", "purpose", "lawful_basis", "subjects", "data", "stores", "recipients", "transfers")
_RETENTION: Final = """
    SELECT store, kind, personal, limit_days, declared_by, state FROM ops.retention FINAL
    WHERE run_id = (SELECT argMax(run_id, checked_at) FROM ops.retention) ORDER BY store
"""


class ProcessingError(ValueError):
    """``processing.yml`` cannot be used; the text names the activity."""


@lru_cache
def activities(path: Path = FILE) -> tuple[Mapping[str, Any], ...]:
    """Return what ``processing.yml`` says. Raises :class:`ProcessingError` for an activity that says too little."""
    import yaml  # type: ignore[import-untyped]

    try:
        found = tuple(yaml.safe_load(path.read_text())["activities"])
        for entry in found:
            if missing := [name for name in _KEYS if name not in entry]:
                raise ValueError(f"{entry.get('name', 'an activity')} says nothing of {', '.join(missing)}")
            if unknown := sorted(set(entry) - set(_KEYS)):
                raise ValueError(f"{entry['name']} has unknown keys {unknown}")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProcessingError(f"{path.name}: {error}") from error
    return found


@dg.asset(
    key=RECORD,
    deps=[INVENTORY, RETENTION],
    group_name="compliance",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Record of processing activities: purposes, data, stores, owners, recipients, periods, measures.",
    code_version="1",
    freshness_policy=DAILY,
    hooks={no_retry_of_permanent},
    check_specs=[
        dg.AssetCheckSpec(
            "complete",
            asset=RECORD,
            description="Nothing that Article 30 asks for is missing.",
            metadata={"severity": "WARN"},
        )
    ],
)
def record_of_processing(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Put the record together and keep it with its gaps."""
    document, gaps = compose(get_settings(), personal(warehouse), warehouse.query_rows(_RETENTION))
    keep(warehouse, document, gaps, run_id=context.run_id)
    return dg.MaterializeResult(
        metadata={"activities": len(document["activities"]), "gaps": gaps},
        check_results=[
            dg.AssetCheckResult(
                asset_key=RECORD,
                check_name="complete",
                passed=not gaps,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(gaps)[:4000] or "complete",
            )
        ],
    )


def keep(warehouse: Warehouse, document: Mapping[str, Any], gaps: list[str], *, run_id: str) -> None:
    """Write the record down."""
    text = json.dumps(document, sort_keys=True)
    row = {
        "made_at": datetime.now(UTC),
        "run_id": run_id,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "gaps": gaps,
        "document": text,
    }
    warehouse.insert_rows(TABLE, [row], token=f"processing/{run_id}")


def compose(
    settings: Settings, found: Personal, retention: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return the record as JSON types, and its gaps in words that say what to set."""
    gaps = [
        f"{what} is not said: set {name}"
        for what, name, value in (
            ("the controller", "ISTHMUS_CONTROLLER_NAME", settings.controller_name),
            ("the controller's contact", "ISTHMUS_CONTROLLER_CONTACT", settings.controller_contact),
            ("the data protection officer", "ISTHMUS_DPO_CONTACT", settings.dpo_contact),
        )
        if not value
    ]
    if not found.scanned:
        gaps.append("no inventory of personal data: materialize quality/pii_inventory")
    held = {row["store"].partition(" ")[2]: row for row in retention if row["kind"] in ("table", "topic")}
    if not held:
        gaps.append("nothing is known of retention: materialize compliance/retention")
    columns, owners = found.columns, _owners(found)
    entries = []
    for activity in activities():
        stores = [
            {
                "store": name,
                "personal_columns": sorted(columns.get(name, ())),
                "owners": sorted(owners.get(name, ())),
                "days": row["limit_days"],
                "until": row["declared_by"] if row["limit_days"] is None else "",
                "state": row["state"],
            }
            for name, row in held.items()
            if any(fnmatchcase(name, pattern) for pattern in activity["stores"])
        ]
        entries.append({**activity, "stores": stores})
    placed = {store["store"] for entry in entries for store in entry["stores"]}
    gaps += [
        f"{name} holds personal data and belongs to no activity: name it in assets/compliance/processing.yml"
        for name in sorted(set(columns) - placed)
        if held
    ]
    gaps += [f"nobody owns the personal data in {name}: declare it in assets/quality/pii.yml"
             for name in sorted(columns) if not owners.get(name)]  # fmt: skip
    document = {
        "controller": {
            "name": settings.controller_name,
            "contact": settings.controller_contact,
            "data protection officer": settings.dpo_contact,
        },
        "activities": entries,
        "sources": [
            {"name": name, "kind": urlsplit(source.url.get_secret_value()).scheme, "tables": source.tables}
            for name, source in sorted(settings.sources.items())
        ],
        "fields": [
            {"field": one.column, "action": one.action or "", "owner": one.owner, "lawful_basis": one.lawful_basis,
             "retention": one.retention, "because": one.because}
            for one in declarations()
        ],
        "measures": measures(settings),
    }  # fmt: skip
    return document, gaps


def _owners(found: Personal) -> dict[str, set[str]]:
    owners: dict[str, set[str]] = {}
    named = [(row["column"], row["owner"]) for row in found.rows] + [(one.column, one.owner) for one in declarations()]
    for column, owner in named:
        if owner and "*" not in column:
            owners.setdefault(column.split("$")[0].rpartition(".")[0], set()).add(owner)
    return owners


def measures(settings: Settings) -> list[dict[str, str]]:
    """Return the technical measures (Article 32) and how each is set here; never an address or a secret."""
    warehouse, kafka = urlsplit(settings.warehouse_url), settings.kafka_security.get("security.protocol", "plaintext")
    loopback = warehouse.hostname in {"127.0.0.1", "localhost", "::1"}
    wire = "TLS" if warehouse.scheme == "https" else "loopback only" if loopback else "WITHOUT TLS"
    approvers = f"{len(settings.approvers)} people" if settings.approvers else "whoever holds the warehouse's password"
    return [
        {"measure": "Pseudonymisation", "state": "fields marked x-pii are dropped, masked or hashed before they land"},
        {"measure": "Encryption of tokens", "state": "AES-GCM, key from the environment, with rotation"},
        {"measure": "Connection to the warehouse", "state": wire},
        {"measure": "Connection to the broker", "state": kafka.lower()},
        {"measure": "Access to HTTP interfaces", "state": "tokens of 16 characters or more"},
        {"measure": "Approval of decisions", "state": approvers},
        {"measure": "Audit", "state": "each action in ops.audit, reads of personal data in ops.access_audit"},
        {"measure": "Removal past retention", "state": settings.retention},
    ]  # fmt: skip
