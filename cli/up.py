"""``isthmus up`` and ``down``: everything on one machine, until Ctrl-C.

What belongs here: the order of the start, the addresses that a person gets, waiting. What does not: processes
(``cli.stack``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

import psutil
from rich.table import Table

from cli.console import console
from cli.documents import publish_documents
from cli.stack import ROOT, Stack, StartFailed, advice_service, core_services, web_services
from resources.settings import Settings, get_settings


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that a supervisor's stop leaves nothing behind."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start_core(stack: Stack) -> None:
    """Start warehouse, broker and router, with tables and topics in place between them."""
    from resources.kafka import KafkaResource
    from resources.migrate import migrate
    from resources.warehouse import WarehouseResource

    # This process, too, talks to what it starts, whatever the environment named before.
    environment = stack.environment()
    for name in ("ISTHMUS_HOME", "ISTHMUS_WAREHOUSE_URL", "ISTHMUS_KAFKA_BOOTSTRAP", "DAGSTER_HOME"):
        os.environ[name] = environment[name]
    get_settings.cache_clear()
    warehouse, broker, router = core_services(stack.settings)
    stack.start(warehouse)
    migrate(WarehouseResource())
    stack.start(broker)
    KafkaResource().ensure_topics()
    stack.start(router)


def start_rest(stack: Stack) -> None:
    """Start the advice service and the UIs.

    The UIs come each in turn: together they would slow each other past their time limits on two cores. The advice
    service, which takes a fraction of what they do, is ready before them.
    """
    advice = advice_service(stack.settings)
    stack.launch(advice)
    for service in web_services(stack.settings):
        with console.status(f"starting {service.name}"):
            stack.start(service)
    stack.wait_for(advice)


def addresses(settings: Settings) -> Table:
    """Return the addresses of what runs."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    documents = f"http://127.0.0.1:{settings.docs_port}"
    rows = {
        "Dagster: the asset graph, runs, checks": f"http://127.0.0.1:{settings.dagster_port}",
        "MLflow: models and their evidence": f"http://127.0.0.1:{settings.mlflow_port}",
        "dbt docs: tables, columns, lineage": f"{documents}/dbt/",
        "Quality report: Data Docs": f"{documents}/quality/",
        "Compliance report, to read and to print": f"{documents}/compliance/",
        "Router: health and metrics": f"http://127.0.0.1:{settings.router_port}/health",
        "Events by HTTP: POST with a token": f"http://127.0.0.1:{settings.router_port}/v1/events",
        "Advice for running sagas: POST with a token": f"http://127.0.0.1:{settings.orchestrator_port}/v1/sagas/TYPE/advice",
        "Warehouse: ClickHouse over HTTP": f"http://127.0.0.1:{settings.warehouse_port}",
        "Broker: Kafka protocol": f"127.0.0.1:{settings.broker_port}",
    }
    for name, address in rows.items():
        table.add_row(name, f"[cyan]{address}[/]")
    return table


def serve_until_interrupted(stack: Stack) -> None:
    """Wait for Ctrl-C; raise StartFailed where a service ends by itself."""
    console.print("[dim]Ctrl-C stops everything.[/]")
    while True:
        if name := stack.ended():
            raise StartFailed(f"{name} has ended; its log is {stack.logs / f'{name}.log'}")
        time.sleep(0.5)


def run_up() -> None:
    """Start everything and wait for Ctrl-C."""
    try:
        with terminable(), Stack(get_settings()) as stack:
            with console.status("starting warehouse, broker and router"):
                start_core(stack)
            publish_documents(stack.settings)
            start_rest(stack)
            console.print(addresses(stack.settings))
            serve_until_interrupted(stack)
    except KeyboardInterrupt:
        console.print("Stopped.")


def run_down() -> None:
    """Stop the services that an earlier command left behind: those of this home, and nothing else."""
    logs = get_settings().home.resolve() / "logs"
    stopped = []
    for file in sorted(logs.glob("*.pid")):
        # An `isthmus up` that loses a service stops the others itself, and takes their files away meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess, ValueError, FileNotFoundError):
            process = psutil.Process(int(file.read_text()))
            # The pid may be another program's by now; ours run in the checkout and began before the file was written.
            if process.cwd() == str(ROOT) and process.create_time() <= file.stat().st_mtime + 1:
                family = [process, *process.children(recursive=True)]
                for member in family:
                    member.terminate()
                _, alive = psutil.wait_procs(family, timeout=20)
                for member in alive:
                    member.kill()
                stopped.append(file.stem)
        file.unlink(missing_ok=True)
    console.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")
