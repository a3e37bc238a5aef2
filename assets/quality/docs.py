"""Data Docs: the results as pages that a browser shows without a network.

What belongs here: the conversion of judged checks to Great Expectations' results, its site builder, and our index and
look over it. What does not: evaluating anything.

Great Expectations is imported inside the functions: it costs seconds, which only the run that writes the report pays.
"""

from __future__ import annotations

import html
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from assets.quality.catalogue import PREFIX
from ml.quality import CheckOutcome, Outcome, summary

_STATIC = Path(__file__).parent / "static"


def write_data_docs(outcomes: Sequence[CheckOutcome], folder: Path, *, run_id: str, evaluated_at: datetime) -> Path:
    """Write the report of ``outcomes`` to ``folder``, in place of the one before, and return its first page.

    The new pages are built beside and swapped in whole, so that a reader never meets half a report.
    """
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    draft.mkdir(parents=True)
    try:
        _build_site(outcomes, draft, run_id=run_id, evaluated_at=evaluated_at)
        pages = _settle(outcomes, draft)
        (draft / "index.html").write_text(_index(outcomes, pages, run_id=run_id, evaluated_at=evaluated_at))
        old = folder.with_name(f".{folder.name}-old-{secrets.token_hex(4)}")
        if folder.exists():
            os.replace(folder, old)
        os.replace(draft, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / "index.html"


def _build_site(outcomes: Sequence[CheckOutcome], folder: Path, *, run_id: str, evaluated_at: datetime) -> None:
    """Let Great Expectations render its own result pages into ``folder``."""
    # Its analytics would call home, and its progress bars would fill the run's log.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.core import ExpectationSuite, RunIdentifier
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            data_docs_sites={"quality": site},
            analytics_enabled=False,
            progress_bars={"globally": False},
        ),
    )
    run = RunIdentifier(run_name=run_id[:8], run_time=evaluated_at)
    for asset in dict.fromkeys(outcome.suite.asset for outcome in outcomes):
        name = _dotted(asset)
        result = _gx_result(
            [outcome for outcome in outcomes if outcome.suite.asset == asset], name, run, gx.__version__
        )
        context.suites.add(ExpectationSuite(name=name, expectations=[one.expectation_config for one in result.results]))
        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), run, batch_identifier=name)
        context.validation_results_store.set(key, result)
    context.build_data_docs()


def _gx_result(checks: Sequence[CheckOutcome], name: str, run: Any, version: str) -> Any:
    """Return one table's judged checks as an ``ExpectationSuiteValidationResult``."""
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    def convert(check: CheckOutcome, outcome: Outcome) -> Any:
        configuration = ExpectationConfiguration(
            type=outcome.expectation.type,
            kwargs=dict(outcome.expectation.kwargs),
            meta={"check": check.check.name, "because": outcome.expectation.because},
            severity="critical" if check.check.severity == "ERROR" else "warning",
        )
        return ExpectationValidationResult(
            success=outcome.success,
            expectation_config=configuration,
            result=dict(outcome.result),
            exception_info={
                "raised_exception": bool(outcome.error),
                "exception_message": outcome.error or None,
                # The page of an expectation that could not be evaluated renders this, and fails on nothing.
                "exception_traceback": outcome.error,
            },
        )

    results = [convert(check, outcome) for check in checks for outcome in check.outcomes]
    held = sum(result.success for result in results)
    return ExpectationSuiteValidationResult(
        success=held == len(results),
        results=results,
        suite_name=name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": held,
            "unsuccessful_expectations": len(results) - held,
            "success_percent": 100.0 * held / len(results) if results else None,
        },
        meta={
            "great_expectations_version": version,
            "expectation_suite_name": name,
            "run_id": run,
            "active_batch_definition": {"data_asset_name": checks[0].suite.table},
        },
    )


def _settle(outcomes: Sequence[CheckOutcome], folder: Path) -> dict[str, str]:
    """Move each table's page to the top under its name, make it work offline; return {asset: file name}."""
    pages: dict[str, str] = {}
    for asset, table in {outcome.suite.asset: outcome.suite.table for outcome in outcomes}.items():
        name = _dotted(asset)
        built = next((folder / "validations").rglob(f"{name}.html"))
        pages[asset] = f"{name}.html"
        (folder / pages[asset]).write_text(_offline(built.read_text(), name, table))
    for leftover in ("validations", "expectations", "static"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    shutil.copytree(_STATIC, folder / "static")
    return pages


def _offline(page: str, name: str, table: str) -> str:
    """Return a page of Great Expectations with its look, scripts and images taken from beside it, none from outside."""
    page = re.sub(r"<link\b[^>]*>|<style>.*?</style>|<script\b.*?</script>", "", page, flags=re.DOTALL)
    page = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    page = re.sub(r"<footer\b.*?</footer>", "", page, flags=re.DOTALL)
    page = re.sub(
        r"(<body[^>]*>).*?(?=<div class=\"container-fluid pt-4)", r"\1" + _bar(name), page, count=1, flags=re.DOTALL
    )
    # Suites are YAML in the repository; a page of each would only say again what the result page says.
    page = re.sub(r"<a href=\"[^\"]*expectations/[^\"]*\"\s*>(.*?)</a>", r"\1", page)
    page = page.replace("Data asset: None", f"Table: {html.escape(table)}")
    return page.replace("<head>", f"<head><title>{html.escape(name)} · data quality</title>{_HEAD}", 1)


_HEAD = (
    '<link rel="icon" href="data:,"><link rel="stylesheet" href="static/report.css">'
    '<script src="static/report.js"></script>'
)


def _bar(where: str) -> str:
    return (
        '<div class="bar"><strong>Isthmus</strong><a href="index.html">Data quality</a>'
        f'<span class="where">{html.escape(where)}</span></div>'
    )


def _index(outcomes: Sequence[CheckOutcome], pages: dict[str, str], *, run_id: str, evaluated_at: datetime) -> str:
    """Return the first page: what was checked, what failed, and where to read on."""
    totals = summary(outcomes)
    failed = [outcome for outcome in outcomes if not outcome.success]
    stops = sum(outcome.check.severity == "ERROR" for outcome in failed)
    headline = "Every check holds."
    if failed:
        effect = (
            f"{stops} of them at ERROR: decisions that rest on those tables are refused." if stops else "Only warnings."
        )
        headline = f"{_count(len(failed), 'check')} failed. {effect}"
    tiles = "".join(
        f'<div class="tile"><b>{value}</b><span class="soft">{name}</span></div>'
        for name, value in (
            ("tables", len(pages)),
            ("checks", totals["checks"]),
            ("expectations", totals["expectations"]),
            ("checks failed", totals["checks_failed"]),
        )
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1.0">'
        f"<title>Data quality</title>{_HEAD}</head><body>{_bar('')}<main><h1>Data quality</h1>"
        f'<p class="soft">{headline} Evaluated {evaluated_at:%d %B %Y, %H:%M:%S} UTC, '
        f"run {html.escape(run_id[:8])}.</p>"
        f'<div class="tiles">{tiles}</div>'
        + "".join(_section([o for o in outcomes if o.suite.asset == asset], page) for asset, page in pages.items())
        + "</main><footer>Suites: assets/quality/suites. Every evaluation is kept in quality.results. "
        "Pages of the tables rendered by Great Expectations.</footer></body></html>"
    )


def _section(checks: Sequence[CheckOutcome], page: str) -> str:
    suite = checks[0].suite
    rows = "".join(
        f"<tr><td>{html.escape(outcome.check.name.removeprefix(PREFIX))}</td><td>{_verdict(outcome)}</td>"
        f'<td class="soft">{_count(len(outcome.outcomes), "expectation")}</td>'
        f"<td>{html.escape(outcome.check.description if outcome.success else outcome.message)}</td></tr>"
        for outcome in checks
    )
    return (
        f'<section class="suite"><h2><span>{html.escape(suite.asset)}</span><a href="{page}">expectations</a></h2>'
        f'<p class="soft">{html.escape(suite.description)}</p><table><tbody>{rows}</tbody></table></section>'
    )


def _verdict(outcome: CheckOutcome) -> str:
    if outcome.success:
        return '<span class="verdict held">✓ holds</span>'
    if outcome.check.severity == "WARN":
        return '<span class="verdict warned">! warns</span>'
    return '<span class="verdict failed">✗ failed</span>'


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _dotted(asset: str) -> str:
    return asset.replace("/", ".")


def observed_json(outcome: CheckOutcome) -> str:
    """Return what a check saw as JSON: one entry an expectation, in Great Expectations' keys."""
    entries = [
        {"expectation": one.expectation.type, "success": one.success, "result": dict(one.result), "error": one.error}
        for one in outcome.outcomes
    ]
    return json.dumps(entries, default=str)
