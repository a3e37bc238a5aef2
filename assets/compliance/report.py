"""The compliance report as an asset: one page for a steward and an auditor.

What belongs here: the asset and where the page goes. What does not: reading (``gather``), verdict (``verdict``), the
page (``page``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from assets.compliance.access_audit import ACCESS
from assets.compliance.record import RECORD
from assets.compliance.retention import DAILY, RETENTION
from assets.permanent import no_retry_of_permanent
from assets.quality.monitors import MONITORS
from assets.quality.pii import INVENTORY
from assets.quality.report import REPORT as QUALITY_REPORT
from assets.resting import declared
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

REPORT = dg.AssetKey(["compliance", "report"])
#: What belongs to the report and is made each day without a person's request.
COMPLIANCE = (RETENTION, ACCESS, RECORD, REPORT)


@dg.asset(
    key=REPORT,
    deps=[RETENTION, ACCESS, RECORD, INVENTORY, QUALITY_REPORT, MONITORS],
    group_name="compliance",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Verdict, data quality, personal data, retention, requests, access, record of processing and refused "
    "decisions as one page, to read and to print.",
    code_version="1",
    freshness_policy=DAILY,
    hooks={no_retry_of_permanent},
    check_specs=[
        dg.AssetCheckSpec(
            "sound",
            asset=REPORT,
            description="Nothing in the report stands against the platform, and every part could be read.",
            metadata={"severity": "WARN"},
        )
    ],
)
def compliance_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Read, judge and write the page in place of the one before."""
    from assets.compliance.gather import gather
    from assets.compliance.page import page
    from assets.compliance.verdict import judge

    facts = gather(warehouse, datetime.now(UTC))
    facts.resting = resting(context)
    verdict = judge(facts)
    path = write(page(facts, verdict, run_id=context.run_id), get_settings().home / "compliance" / "report")
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.url(path.resolve().as_uri()),
            "against": list(verdict.against),
            "to look at": list(verdict.look),
            "missing": list(verdict.missing),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=REPORT,
                check_name="sound",
                passed=verdict.word != "failed",
                severity=dg.AssetCheckSeverity.WARN,  # each part has a check of its own
                description="; ".join((*verdict.against, *verdict.missing))[:4000] or "nothing stands against it",
            )
        ],
    )


def write(text: str, folder: Path) -> Path:
    """Write the page; a reader meets the old one or the new one, never a part."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".index-{secrets.token_hex(4)}"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, folder / "index.html")
    return folder / "index.html"


def resting(context: dg.AssetExecutionContext) -> list[dict[str, Any]]:
    """Return which asset decides what, and the checks that it rests on, by the code location's own metadata."""
    from dagster_shared.check import CheckError

    try:
        graph = context.repository_def.asset_graph
    except CheckError:
        graph = context.job_def.asset_layer.asset_graph  # a job that runs in process knows its own assets only
    found = []
    for key in sorted(graph.get_all_asset_keys()):
        kinds, checks = declared(graph.get(key).metadata)
        if kinds:
            names = [f"{check.asset_key.to_user_string()}: {check.name}" for check in checks]
            found.append({"asset": key.to_user_string(), "kinds": list(kinds), "checks": names})
    return found
