"""Drift of the champions as an asset: what each was judged on, beside what has come since.

What belongs here: reading a champion's rows, the report, its metadata and check. What does not: the tests
(``ml.drift``), asking for a training (``sensors.drift``).

Annotations are evaluated here: Dagster reads the parameters' types from them.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import orjson

from assets.resting import decides
from assets.sagas import data
from ml.sagas.types import SagaType, model_name
from resources.registry import ModelVersion
from resources.warehouse import Warehouse, WarehouseResource

if TYPE_CHECKING:
    from ml.drift.monitor import Drift, Rows

DRIFT = dg.AssetKey(["ml", "saga_drift"])
REPORTS = "ml.drift_reports"
#: Sagas that a report reads, at most.
MOST_SAGAS = 8_000
#: Of the sagas that ended this share took less than what a report waits for: younger ones would all be short.
_PATIENCE = 0.99


@dataclass(frozen=True)
class Report:
    """One champion's report; ``said`` tells why there is no drift to report on."""

    champion: ModelVersion
    drift: "Drift | None" = None
    episode: str = ""
    said: str = ""


class DriftConfig(dg.Config):
    """How often the watch of one champion may be wrong."""

    rate: float = 0.05


@dg.asset(
    key=DRIFT,
    deps=[dg.AssetKey(["ml", "saga_model"]), dg.AssetKey(["staging", "stg_saga_events"])],
    group_name="sagas",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Whether features, predictions or calibration of each champion have changed since it was judged.",
    code_version="1",
    # The drift sensor requests the training.
    metadata=decides("retraining", rests_on=[dg.AssetCheckKey(DRIFT, "no_drift")]),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=3)),
    check_specs=[dg.AssetCheckSpec("no_drift", asset=DRIFT, description="No champion's watch has raised an alarm.")],
)
def saga_drift(
    context: dg.AssetExecutionContext,
    config: DriftConfig,
    warehouse: WarehouseResource,
    registry: dg.ResourceParam[Any],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Report on each champion; an alarm keeps its identity in every later look."""
    from ml.sagas.types import saga_type

    reports: list[Report] = []
    for name in data.saga_types(warehouse):
        kind = saga_type(name)
        for outcome in kind.outcomes:
            champion = registry.find(model_name(name, outcome.name), "champion")
            if champion is None:
                continue
            report = report_on(warehouse, kind, outcome.name, champion, registry.load(champion), rate=config.rate)
            reports.append(report)
            _write(warehouse, kind.name, report, run_id=context.run_id, at=datetime.now(UTC))
    alarms = [one for one in reports if one.episode]
    metadata: dict[str, Any] = {"dagster/row_count": len(reports)}
    for one in reports:
        metadata |= _metadata(one)
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                asset_key=DRIFT,
                check_name="no_drift",
                passed=not alarms,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(one.episode for one in alarms) or f"{len(reports)} champions watched",
            )
        ],
    )


def report_on(
    warehouse: Warehouse, kind: SagaType, outcome: str, champion: ModelVersion, model: Any, *, rate: float = 0.05
) -> Report:
    """Return the report on one champion; what it cannot say, it says why."""
    from ml.drift.monitor import TooFewBlocks, monitor

    try:
        learned, split, judged = (int(champion.tags[name]) for name in ("learned_us", "split_us", "judged_us"))
    except (KeyError, ValueError):
        return Report(champion, said="it was trained before its stretches of time were kept: train it anew")
    if not model.is_current:
        return Report(champion, said="it has an old form: train it anew")
    now, patience = _reach(warehouse, kind.name)
    if now <= judged:
        return Report(champion, said="no saga has ended since it was judged")
    rows = _rows(warehouse, kind, outcome, model, begin_us=learned)
    try:
        drift = monitor(rows, split, judged, now - patience, rate=rate, patience_us=3 * patience)
    except TooFewBlocks as error:
        return Report(champion, said=str(error))
    return Report(champion, drift, _episode(warehouse, champion, drift))


def _reach(warehouse: Warehouse, saga_type: str) -> tuple[int, int]:
    """Return the newest event's time and how long nearly all sagas take, µs."""
    row = warehouse.query_rows(
        f"""SELECT toUnixTimestamp64Micro(max(last)) AS newest, quantileIf({{share:Float64}})(took, ended) AS took
        FROM (SELECT max(event_time) AS last, dateDiff('microsecond', min(event_time), last) AS took,
                countIf(event_type IN ('isthmus.saga.completed', 'isthmus.saga.aborted')) > 0 AS ended
            FROM {data.STAGING} WHERE saga_type = {{type:String}} GROUP BY saga_id)""",  # noqa: S608
        {"type": saga_type, "share": _PATIENCE},
    )[0]
    took = float(row["took"])
    return int(row["newest"]), 0 if took != took else round(took)  # noqa: PLR0124 (NaN: none has ended)


def _rows(warehouse: Warehouse, kind: SagaType, outcome: str, model: Any, *, begin_us: int) -> "Rows":
    """Return one prefix of each chosen saga with the champion's own features and its probability."""
    import numpy as np

    from ml.drift.monitor import Rows
    from ml.drift.rows import one_a_saga

    prefixes = data.prefixes(warehouse, kind, model.features, sagas=_since(warehouse, kind.name, begin_us))
    prefixes = prefixes.where(prefixes.strict)
    prefixes = prefixes.where(one_a_saga(prefixes.saga_ids, prefixes.position))
    y = np.where(prefixes.label == "", np.nan, (prefixes.label == outcome).astype(np.float64))
    columns = {}
    for feature, values in zip(model.features.features, prefixes.x.T, strict=True):
        if feature.is_text:
            columns[feature.name] = np.array([str(int(code)) for code in np.nan_to_num(values, nan=-1)])
        elif len(values) and np.nanmin(values, initial=np.inf) < np.nanmax(values, initial=-np.inf):
            columns[feature.name] = values
    p = model.score(prefixes.x) if len(prefixes) else np.empty(0)
    return Rows(columns, p, y.astype(np.float64), prefixes.start_us)


def _since(warehouse: Warehouse, saga_type: str, begin_us: int) -> str:
    """Return the condition for an even draw of the sagas begun at or after a time.

    The draw is by a hash and halves when it grows too large, so that most looks read the same sagas as the one before.
    """
    from ml.sagas.spec import literal

    begun = (
        f"SELECT saga_id FROM {data.STAGING} WHERE saga_type = {literal(saga_type)} GROUP BY saga_id"  # noqa: S608
        f" HAVING toUnixTimestamp64Micro(min(event_time)) >= {int(begin_us)}"
    )
    count = int(warehouse.query_rows(f"SELECT count() AS n FROM ({begun})")[0]["n"])  # noqa: S608
    one_of = 1
    while count / one_of > MOST_SAGAS:
        one_of *= 2
    return f"saga_id IN (SELECT saga_id FROM ({begun}) WHERE cityHash64(saga_id) % {one_of} = 0)"  # noqa: S608


def _episode(warehouse: Warehouse, champion: ModelVersion, drift: "Drift") -> str:
    """Return the identity of the champion's alarm: what an earlier look called it, or by the block that raised it."""
    rows = warehouse.query_rows(
        f"SELECT episode FROM {REPORTS} WHERE model_name = {{name:String}} AND model_version = {{version:UInt32}}"  # noqa: S608
        " AND episode != '' ORDER BY reported_at LIMIT 1",
        {"name": champion.name, "version": champion.version},
    )
    if rows:
        return str(rows[0]["episode"])
    if drift.alarm_us is None:
        return ""
    at = datetime.fromtimestamp(drift.alarm_us / 1e6, UTC)
    return f"{champion.name}/{champion.version}@{at:%Y-%m-%dT%H:%M:%SZ}"


def _columns(drift: "Drift") -> list[dict[str, Any]]:
    tests = {test.column: (test, float(q)) for test, q in zip(drift.columns, drift.q, strict=True)}
    found = []
    for name, evidence in drift.blamed:
        row: dict[str, Any] = {"column": name, "evidence": round(evidence, 4)}
        if name in tests:
            test, q = tests[name]
            row |= {"distance": round(test.distance, 4), "p": test.p, "q": round(q, 5), "detail": test.detail}
        found.append(row)
    return found


def _write(warehouse: Warehouse, saga_type: str, report: Report, *, run_id: str, at: datetime) -> None:
    drift, champion = report.drift, report.champion
    if drift is None:
        return
    row = {
        "reported_at": at,
        "saga_type": saga_type,
        "model_name": champion.name,
        "model_version": champion.version,
        "episode": report.episode,
        "alarm_at": None if drift.alarm_us is None else datetime.fromtimestamp(drift.alarm_us / 1e6, UTC),
        "evidence": drift.evidence,
        "rate": drift.rate,
        "blamed": drift.blamed[0][0] if drift.blamed else "",
        "block_seconds": drift.block_us // 1_000_000,
        "blocks": len(drift.starts),
        "columns": orjson.dumps(_columns(drift)).decode(),
        "run_id": run_id,
    }
    warehouse.insert_rows(REPORTS, [row], token=f"drift/{champion.name}/{champion.version}/{run_id}")


def _metadata(report: Report) -> dict[str, Any]:
    from ml.drift.plots import evidence_figure
    from ml.sagas.plots import png

    champion, drift = report.champion, report.drift
    key = f"{champion.name} version {champion.version}"
    if drift is None:
        return {key: report.said}
    alarm = f"alarm: {report.episode}" if report.episode else "no alarm"
    image = base64.b64encode(png(evidence_figure(drift, title=key))).decode()
    head = "| column | evidence | distance | q | newest day against what it was judged on |\n" + "| --- " * 5 + "|\n"
    rows = [
        f"| {row['column']} | {row['evidence']:.3g} | {row.get('distance', '')} | {row.get('q', '')} "
        f"| {str(row.get('detail', '')).replace('|', '/')} |"
        for row in _columns(drift)[:15]
    ]
    return {
        key: f"{alarm}; evidence {drift.evidence:.3g} of {1 / drift.rate:.0f} after {len(drift.starts)} blocks",
        f"{key}: columns": dg.MetadataValue.md(head + "\n".join(rows)),
        f"{key}: evidence": dg.MetadataValue.md(f"![](data:image/png;base64,{image})"),
    }
