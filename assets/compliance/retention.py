"""Retention as an asset: what is declared beside what is held, and the removal of what is past it.

What belongs here: the asset, its checks, its rows. What does not: asking the stores (``holdings``), the verdict
(``ml.retention``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from assets.compliance.holdings import Holding, look
from assets.compliance.limits import personal
from assets.permanent import no_retry_of_permanent
from assets.quality.pii import INVENTORY
from ml.retention import BREACHES, state_of, words_of
from resources.errors import ResourceError
from resources.kafka import KafkaResource
from resources.settings import get_settings
from resources.warehouse import Warehouse, WarehouseResource

RETENTION = dg.AssetKey(["compliance", "retention"])
TABLE = "ops.retention"
ACTOR = "compliance/retention"
DAILY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


@dg.asset(
    key=RETENTION,
    deps=[INVENTORY],
    group_name="compliance",
    owners=["team:data"],
    kinds={"python", "clickhouse", "kafka"},
    description="Declared retention beside what tables, topics, files and runs really hold; removes what is past it "
    "where ISTHMUS_RETENTION=apply.",
    code_version="1",
    freshness_policy=DAILY,
    hooks={no_retry_of_permanent},
    check_specs=[
        dg.AssetCheckSpec(
            "kept",
            asset=RETENTION,
            description="Nothing is older than declared, every store with personal data has a retention, and each "
            "could be looked at.",
            metadata={"severity": "ERROR"},
        )
    ],
)
def retention(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Look at every store, remove what is past its limit where the setting says so, and look again."""
    settings = get_settings()
    found = personal(warehouse)
    holdings = look(warehouse, kafka, context.instance, settings.home, found)
    done: dict[str, str] = {}
    if settings.retention == "apply":
        done = enforce(warehouse, holdings, run_id=context.run_id)
        if done:
            after = {one.held.store: one for one in look(warehouse, kafka, context.instance, settings.home, found)}
            # What was done stays in the row, beside what is held now.
            holdings = [Holding(one.kind, after.get(one.held.store, one).held, one.by, one.actions) for one in holdings]
    now = datetime.now(UTC)
    warehouse.insert_rows(TABLE, rows(holdings, done, context.run_id, now), token=f"retention/{context.run_id}")
    states = {one.held.store: state_of(one.held, now) for one in holdings}
    wrong = [words_of(one.held, states[one.held.store]) for one in holdings if states[one.held.store] in BREACHES]
    wrong += [f"{store}: {error}" for store, error in done.items() if error]
    if not found.scanned:
        wrong.append("nobody has looked for personal data yet: materialize quality/pii_inventory")
    open_actions = [action.words for one in holdings for action in one.actions if one.held.store not in done]
    return dg.MaterializeResult(
        metadata={
            **{f"stores {state}": count for state, count in sorted(Counter(states.values()).items())},
            "mode": settings.retention,
            "would remove": open_actions,
            "removed": [action.words for one in holdings for action in one.actions if done.get(one.held.store) == ""],
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=RETENTION,
                check_name="kept",
                passed=not wrong,
                description="; ".join(wrong)[:4000] or f"{len(holdings)} stores keep what is declared",
                metadata={"breaches": wrong},
            )
        ],
    )


def enforce(warehouse: Warehouse, holdings: Sequence[Holding], *, run_id: str) -> dict[str, str]:
    """Do every action, an audit row before each; return the stores acted on, with the class of what went wrong."""
    done: dict[str, str] = {}
    for one in holdings:
        for action in one.actions:
            details = {"action": action.words, "past": one.held.past, "run_id": run_id}
            warehouse.insert_rows(
                "ops.audit",
                [
                    {
                        "at": datetime.now(UTC),
                        "actor": ACTOR,
                        "action": "retention.remove",
                        "subject": one.held.store,
                        "details": json.dumps(details),
                    }
                ],
            )
            try:
                action.do()
                done.setdefault(one.held.store, "")
            except (ResourceError, OSError) as error:
                done[one.held.store] = f"removing failed ({type(error).__name__})"
    return done


def rows(holdings: Sequence[Holding], done: dict[str, str], run_id: str, now: datetime) -> list[dict[str, Any]]:
    """Return the rows of ``ops.retention``."""
    written = []
    for one in holdings:
        held, state = one.held, state_of(one.held, now)
        written.append(
            {
                "checked_at": now,
                "run_id": run_id,
                "store": held.store,
                "kind": one.kind,
                "personal": held.personal,
                "limit_days": held.limit / timedelta(days=1) if held.limit else None,
                "declared_by": one.by,
                "oldest": held.oldest,
                "items": held.items,
                "past": held.past,
                "state": state,
                "action": "; ".join(action.words for action in one.actions),
                "done": done.get(held.store) == "",
                "note": words_of(held, state) or done.get(held.store, ""),
            }
        )
    return written
