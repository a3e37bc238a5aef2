"""The pages that a person sees, in a real browser, after `isthmus demo --serve`; screenshots go to docs/images."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

from tests.conftest import ROOT, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

IMAGES = Path(os.environ.get("ISTHMUS_IMAGES", ROOT / "docs" / "images"))
PORTS = ("WAREHOUSE", "BROKER", "ROUTER", "DAGSTER", "MLFLOW", "DOCS")


@dataclass
class Served:
    """A served demo: its ports by name, its process, and what it printed so far."""

    ports: dict[str, int]
    process: subprocess.Popen[str]
    log: Path
    home: Path

    def url(self, name: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("demo")
    ports = {name: free_port() for name in PORTS}
    env = {**os.environ, "ISTHMUS_HOME": str(folder / "home"), "COLUMNS": "120"}
    env |= {f"ISTHMUS_{name}_PORT": str(port) for name, port in ports.items()}
    log = folder / "output"
    # Traffic ends now, so how many sagas fail hangs on the hour: enough for a model at any.
    demo = ["demo", "--serve", "--sagas", "6000", "--seed", "7"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *demo],
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=output,
            text=True,
        )
    deadline = time.monotonic() + 600
    try:
        while "Ctrl-C stops everything" not in log.read_text():
            assert process.poll() is None, f"the demo ended:\n{log.read_text()[-6000:]}"
            assert time.monotonic() < deadline, f"the demo did not get there:\n{log.read_text()[-6000:]}"
            time.sleep(0.5)
        yield Served(ports, process, log, folder / "home")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(90)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Debian's Chromium; without these switches it tries to reach its maker at every start.
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("ISTHMUS_CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, color_scheme="light")
    # Nothing that we serve may need another host.
    refused: list[str] = []

    def only_loopback(route: Any) -> None:
        if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", route.request.url):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    context.route("**/*", only_loopback)
    page = context.new_page()
    page.refused = refused
    yield page
    context.close()


def dismiss(page: Any, button: str) -> None:
    """Close a tool's own welcome where it shows one; it may not come."""
    from playwright.sync_api import TimeoutError as NotThere

    with contextlib.suppress(NotThere):
        page.get_by_role("button", name=button).first.click(timeout=5000)


def shoot(page: Any, name: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=str(IMAGES / f"{name}.png"))


def test_the_summary_tells_what_came_of_it(served: Served) -> None:
    text = served.log.read_text()
    for word in ("Events", "Tables", "Model", "Quality", "Decision"):
        assert word in text, text[-6000:]


def test_dagster_shows_the_graph(served: Served, page: Any) -> None:
    page.goto(served.url("DAGSTER", "/asset-groups"))
    for group in ("landing", "bi", "quality", "sagas", "decisions"):
        page.get_by_text(group, exact=True).first.wait_for(timeout=60_000)
    dismiss(page, "Skip")
    page.wait_for_timeout(2000)
    shoot(page, "dagster-graph")


def test_dagster_shows_the_decision(served: Served, page: Any) -> None:
    page.goto(served.url("DAGSTER", "/assets/ops/saga_policy"))
    page.get_by_text("saga_policy").first.wait_for(timeout=60_000)
    dismiss(page, "Skip")
    page.wait_for_timeout(2000)
    shoot(page, "dagster-decision")


def test_mlflow_shows_the_run(served: Served, page: Any) -> None:
    with contextlib.closing(sqlite3.connect(served.home / "mlflow" / "mlflow.db")) as store:
        experiment, run = store.execute("SELECT experiment_id, run_uuid FROM runs ORDER BY start_time DESC").fetchone()
    page.goto(served.url("MLFLOW", f"/#/experiments/{experiment}/runs/{run}"))
    page.get_by_text("saga_failure", exact=False).first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    shoot(page, "mlflow-run")


def test_mlflow_lists_the_model(served: Served, page: Any) -> None:
    page.goto(served.url("MLFLOW", "/#/models"))
    page.get_by_text("saga_failure.order.technical").first.wait_for(timeout=60_000)
    dismiss(page, "Try it now")
    page.wait_for_timeout(1000)
    shoot(page, "mlflow-models")


def test_dbt_docs_describe_the_tables(served: Served, page: Any) -> None:
    page.goto(served.url("DOCS", "/dbt/#!/model/model.isthmus.fct_sagas"))
    page.get_by_text("fct_sagas").first.wait_for(timeout=60_000)
    page.get_by_text("saga_id").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    shoot(page, "dbt-docs")
    assert not page.refused


def test_the_quality_report_works_offline(served: Served, page: Any) -> None:
    page.goto(served.url("DOCS", "/quality/"))
    page.get_by_role("heading", name="Data quality").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    shoot(page, "quality-report")
    assert not page.refused


def test_the_compliance_report_works_offline_and_prints(served: Served, page: Any) -> None:
    page.goto(served.url("DOCS", "/"))
    page.get_by_role("link", name="Compliance report").click()
    page.get_by_role("heading", name="Compliance report").first.wait_for(timeout=60_000)
    for part in ("Data quality", "Personal data", "Retention", "Access", "Record of processing", "Refused decisions"):
        assert page.get_by_role("heading", name=part, exact=True).count() == 1
    assert page.get_by_role("row").filter(has_text="saga_policy").count(), "the kinds say what they rest on"
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wide, "the page scrolls sideways"
    shoot(page, "compliance-report")
    paper = page.pdf(prefer_css_page_size=True, print_background=True)
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") > 2
    assert not page.refused


def test_ctrl_c_stops_everything_it_started(served: Served) -> None:
    family = psutil.Process(served.process.pid).children(recursive=True)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(90) == 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    for name in PORTS:
        with pytest.raises(URLError):
            urlopen(served.url(name), timeout=2)
