"""Start the services of one machine, wait until each serves, and stop just these.

What belongs here: processes, their order, readiness, logs and end. What does not: what they do (``services``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from resources.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

_PORTS = (
    "warehouse_port",
    "broker_port",
    "router_port",
    "orchestrator_port",
    "dagster_port",
    "mlflow_port",
    "docs_port",
)


class StartFailed(RuntimeError):
    """A service did not start; the message says why, and what to do."""


@dataclass(frozen=True)
class Service:
    """One process: what it runs, and where it answers once it serves."""

    name: str
    command: tuple[str, ...]
    port: int
    port_variable: str
    address: str
    serves: Callable[[int], bool]
    seconds: float = 60.0


def listens(port: int) -> bool:
    """Return whether something accepts connections at a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(path: str) -> Callable[[int], bool]:
    """Return a test of whether ``GET path`` at a loopback port succeeds."""

    def test(port: int) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as reply:
                return int(reply.status) == 200
        except (URLError, OSError):
            return False

    return test


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs one of our modules."""
    return (sys.executable, "-m", name, *arguments)


def script(name: str) -> str:
    """Return the absolute path of a console script of this environment, which need not be on PATH."""
    return str(Path(sys.executable).with_name(name))


def core_services(settings: Settings) -> list[Service]:
    """Return what events need on their way: warehouse, broker, router."""

    def at(folder: str, port: int) -> tuple[str, ...]:
        return ("--path", str(settings.home.resolve() / folder), "--port", str(port))

    return [
        Service(
            "warehouse",
            module("services.embedded.warehouse", *at("warehouse", settings.warehouse_port)),
            settings.warehouse_port,
            "ISTHMUS_WAREHOUSE_PORT",
            f"http://127.0.0.1:{settings.warehouse_port}",
            answers("/ping"),
        ),
        Service(
            "broker",
            module("services.embedded.broker", *at("broker", settings.broker_port)),
            settings.broker_port,
            "ISTHMUS_BROKER_PORT",
            f"127.0.0.1:{settings.broker_port}",
            listens,
        ),
        Service(
            "router",
            module("services.router"),
            settings.router_port,
            "ISTHMUS_ROUTER_PORT",
            f"http://127.0.0.1:{settings.router_port}/health",
            answers("/ready"),
        ),
    ]


def advice_service(settings: Settings) -> Service:
    """Return what running sagas ask."""
    return Service(
        "advice",
        module("services.orchestrator"),
        settings.orchestrator_port,
        "ISTHMUS_ORCHESTRATOR_PORT",
        f"http://127.0.0.1:{settings.orchestrator_port}/health",
        answers("/ready"),
        seconds=120,
    )


def all_services(settings: Settings) -> list[Service]:
    """Return all that `isthmus up` starts."""
    return [*core_services(settings), advice_service(settings), *web_services(settings)]


def web_services(settings: Settings) -> list[Service]:
    """Return what people look at: Dagster, MLflow, and the documents (dbt docs, quality report)."""
    home = settings.home.resolve()
    dagster_options = f"dev -h 127.0.0.1 -p {settings.dagster_port} -w".split()
    mlflow_options = f"--host 127.0.0.1 --port {settings.mlflow_port} --workers 1 --backend-store-uri".split()
    mlflow_options += [settings.mlflow_uri(), "--artifacts-destination", str(home / "mlflow" / "artifacts")]
    return [
        Service(
            "dagster",
            (script("dagster"), *dagster_options, str(ROOT / "workspace.yaml")),
            settings.dagster_port,
            "ISTHMUS_DAGSTER_PORT",
            f"http://127.0.0.1:{settings.dagster_port}",
            answers("/server_info"),
            seconds=120,
        ),
        Service(
            "mlflow",
            (script("mlflow"), "server", *mlflow_options),
            settings.mlflow_port,
            "ISTHMUS_MLFLOW_PORT",
            f"http://127.0.0.1:{settings.mlflow_port}",
            answers("/health"),
            seconds=120,
        ),
        Service(
            "documents",
            module("http.server", "--bind", "127.0.0.1", "--directory", f"{home}/site", str(settings.docs_port)),
            settings.docs_port,
            "ISTHMUS_DOCS_PORT",
            f"http://127.0.0.1:{settings.docs_port}",
            answers("/"),
        ),
    ]


@dataclass
class Stack:
    """Services that run while the context is open: ``with Stack(settings) as stack: stack.start(service)``."""

    settings: Settings
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """Return the folder of the services' logs."""
        return self.settings.home.resolve() / "logs"

    def environment(self) -> dict[str, str]:
        """Return the environment of the services: the settings in force, as absolute paths and addresses."""
        home = self.settings.home.resolve()
        ports = {f"ISTHMUS_{name.upper()}": str(getattr(self.settings, name)) for name in _PORTS}
        return {
            **os.environ,
            **ports,
            "ISTHMUS_HOME": str(home),
            "ISTHMUS_WAREHOUSE_URL": f"http://127.0.0.1:{self.settings.warehouse_port}",
            "ISTHMUS_KAFKA_BOOTSTRAP": f"127.0.0.1:{self.settings.broker_port}",
            "DAGSTER_HOME": str(home / "dagster"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        }

    def __enter__(self) -> Stack:
        home = self.settings.home.resolve()
        for folder in ("logs", "dagster", "mlflow/artifacts", "site"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deploy/embedded/dagster.yaml", home / "dagster" / "dagster.yaml")
        return self

    def start(self, service: Service) -> None:
        """Start a service and return once it serves.

        Raises:
            StartFailed: its port is taken, it ended at once, or it did not serve in time.
        """
        self.launch(service)
        self.wait_for(service)

    def launch(self, service: Service) -> None:
        """Start a service without waiting until it serves; raises StartFailed where its port is taken."""
        if listens(service.port):
            raise StartFailed(
                f"Port {service.port}, where {service.name} would serve, is taken. If Isthmus is running already, "
                f"see `isthmus status`; else set {service.port_variable} to a free port."
            )
        log = self.logs / f"{service.name}.log"
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches us alone, and we stop the services in order.
            process = subprocess.Popen(
                service.command,
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running[service.name] = process
        (self.logs / f"{service.name}.pid").write_text(str(process.pid))

    def wait_for(self, service: Service) -> None:
        """Return once a launched service serves; raises StartFailed where it ended, or did not serve in time."""
        process, log = self.running[service.name], self.logs / f"{service.name}.log"
        deadline = time.monotonic() + service.seconds
        while not service.serves(service.port):
            if process.poll() is not None:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise StartFailed(f"{service.name} ended with code {process.returncode}; its log ({log}) says:\n{tail}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{service.name} did not serve within {service.seconds:.0f} s; see {log}")
            time.sleep(0.05)

    def ended(self) -> str | None:
        """Return the name of a service that has ended by itself, or None."""
        return next((name for name, process in self.running.items() if process.poll() is not None), None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ignoring_interrupts():
            # What reads goes before what it reads from.
            for name, process in reversed(self.running.items()):
                stop(process)
                (self.logs / f"{name}.pid").unlink(missing_ok=True)
            self.running.clear()


def stop(process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """End a process and all that it started: asked first, killed after ``seconds``."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=3)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(alive, timeout=5)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Keep a second Ctrl-C from cutting the shutdown short, which would leave processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
