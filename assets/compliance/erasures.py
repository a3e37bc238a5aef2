"""The asset that carries out requests of erasure, and its checks.

What belongs here: Dagster. What does not: the work (``processing``). Nothing that it tells holds a value of a person.
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from datetime import timedelta

import dagster as dg

from assets.compliance.processing import CODE_VERSION
from assets.permanent import no_retry_of_permanent
from resources.kafka import KafkaResource
from resources.warehouse import WarehouseResource

ERASURES = dg.AssetKey(["compliance", "erasures"])


@dg.asset(
    key=ERASURES,
    group_name="compliance",
    owners=["team:data"],
    kinds={"python", "clickhouse", "kafka"},
    hooks={no_retry_of_permanent},
    description="Requests of erasure carried out over every store, with a signed proof a store in ops.erasure_proofs.",
    code_version=CODE_VERSION,
    pool="privacy",  # two at once would write the same dead letters behind
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=3)),
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_remains",
            asset=ERASURES,
            blocking=True,
            description="Of every person who was to be erased a byte-level search of all stores finds nothing.",
        ),
        dg.AssetCheckSpec("genuine", asset=ERASURES, description="Every proof is as it was signed."),
    ],
)
def erasures(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Carry out what is open; what a store cannot do now stays open and is tried again by the next run."""
    from assets.compliance.processing import process
    from assets.compliance.requests import proofs, requests, ring
    from assets.compliance.stores import stores
    from resources.settings import get_settings

    settings = get_settings()
    keys = ring(settings)
    waiting: list[str] = []
    done = 0
    for request in requests(warehouse, states=("open", "waiting"), kind="erasure"):
        made = process(warehouse, stores(settings, warehouse, kafka), keys, request, run_id=context.run_id)
        late = [f"{row['store']} ({row['how']})" for row in made if row["state"] == "waiting"]
        done += not late
        if late:
            waiting.append(f"{request.id} waits for {', '.join(late)}")
    altered = [
        f"{request.id}/{row['store']}"
        for request in requests(warehouse, states=("completed",), kind="erasure")
        for row in proofs(warehouse, keys, request.id)
        if not row["genuine"]
    ]
    return dg.MaterializeResult(
        metadata={"completed": done, "waiting": len(waiting)},
        check_results=[
            dg.AssetCheckResult(
                asset_key=ERASURES,
                check_name="nothing_remains",
                passed=not waiting,
                description="; ".join(waiting)[:4000] or f"{done} requests completed, none waits",
            ),
            dg.AssetCheckResult(
                asset_key=ERASURES,
                check_name="genuine",
                passed=not altered,
                description="; ".join(altered)[:4000] or "every proof is as it was signed",
            ),
        ],
    )
