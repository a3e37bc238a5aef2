"""The documents that are served beside the UIs: dbt docs and the quality report, under one start page.

What belongs here: putting built documents where the web server finds them. What does not: building the quality report
(``assets.quality``).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cli.console import console
from resources.settings import Settings

_START_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Isthmus: documents</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color: #1f2933 }}
a {{ color: #0b6bcb; text-decoration: none }} a:hover {{ text-decoration: underline }}
li {{ margin: .6rem 0 }} small {{ color: #616e7c; display: block }}
</style></head><body>
<h1>Isthmus</h1>
<ul>
<li><a href="dbt/">dbt docs</a><small>Tables, columns, tests and lineage of the BI project.</small></li>
<li><a href="quality/">Quality report</a><small>{quality}</small></li>
<li><a href="compliance/">Compliance report</a><small>Quality, personal data, retention, access, record of \
processing; to read and to print.</small></li>
<li><a href="http://127.0.0.1:{dagster}">Dagster</a><small>The asset graph, its runs and its checks.</small></li>
<li><a href="http://127.0.0.1:{mlflow}">MLflow</a><small>Failure models with their evidence.</small></li>
</ul></body></html>
"""
_NO_REPORT = """<!doctype html><meta charset="utf-8"><title>Quality report</title>
<p>No quality report yet: materialize <code>quality/report</code> in Dagster, or run <code>isthmus demo</code>.</p>
"""


_NO_COMPLIANCE = """<!doctype html><meta charset="utf-8"><title>Compliance</title>
<p>No compliance report yet: materialize <code>compliance/report</code> in Dagster, or run <code>isthmus demo</code>.
"""


def publish_documents(settings: Settings) -> Path:
    """Build dbt docs, link the reports beside them, and return the folder that holds all."""
    home = settings.home.resolve()
    site = home / "site"
    (site / "dbt").mkdir(parents=True, exist_ok=True)
    with console.status("building dbt docs"):
        _build_dbt_docs(site / "dbt")
    reports = {"quality": ("quality/data_docs", _NO_REPORT), "compliance": ("compliance/report", _NO_COMPLIANCE)}
    for name, (place, nothing) in reports.items():
        report, link = home / place, site / name
        report.mkdir(parents=True, exist_ok=True)
        if not (report / "index.html").exists():
            (report / "index.html").write_text(nothing)
        if not link.exists():
            link.symlink_to(report, target_is_directory=True)
    page = _START_PAGE.format(
        dagster=settings.dagster_port,
        mlflow=settings.mlflow_port,
        quality="Great Expectations' Data Docs of the last evaluation.",
    )
    (site / "index.html").write_text(page)
    return site


def _build_dbt_docs(target: Path) -> None:
    """Write dbt's documentation as one page; a failure is shown and leaves the rest of the site usable."""
    from assets.bi.project import dbt_environment, dbt_executable, project_folder

    command = [dbt_executable(), "--quiet", "docs", "generate", "--static", "--target-path", str(target)]
    folder = str(project_folder())
    done = subprocess.run(
        [*command, "--project-dir", folder, "--profiles-dir", folder],
        env=dbt_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(f"[yellow]dbt docs were not built:[/] {done.stdout[-800:]}{done.stderr[-800:]}", highlight=False)
        return
    shutil.copy(target / "static_index.html", target / "index.html")
