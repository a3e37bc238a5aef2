"""Fixtures of the warehouse suite. Most tests run against any ClickHouse; those that take ``server`` or ``embedded``
concern the embedded one only, and are skipped where ISTHMUS_WAREHOUSE_URL names another."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import free_port, running


@dataclass
class Server:
    """A server of one test's own."""

    url: str
    home: Path
    path: Path
    process: subprocess.Popen[str]

    @property
    def reader_url(self) -> str:
        parts = urlsplit(self.url)
        password = (self.home / "secrets" / "reader-password").read_text()
        return f"http://reader:{password}@{parts.hostname}:{parts.port}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Http:
    """ClickHouse over plain HTTP: one statement a call."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.client = httpx.Client(
            base_url=f"{parts.scheme}://{parts.hostname}:{parts.port}",
            auth=(parts.username or "default", parts.password or ""),
            timeout=60,
            headers={"Accept-Encoding": "identity"},
        )

    def post(
        self,
        sql: str | bytes,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        **parameters: object,
    ):
        query = {name: str(value) for name, value in parameters.items()}
        if data is not None:
            query["query"] = sql if isinstance(sql, str) else sql.decode()
        body = sql if data is None else data
        return self.client.post("/", params=query, content=body, headers=headers)

    def __call__(self, sql: str | bytes, **parameters: object) -> str:
        answer = self.post(sql, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.text.rstrip("\n")

    def error(self, sql: str | bytes, **parameters: object) -> tuple[int, int]:
        """Return (HTTP status, exception code) of a statement that must fail."""
        answer = self.post(sql, **parameters)
        assert answer.status_code != 200, answer.text
        code = int(answer.headers["X-ClickHouse-Exception-Code"])
        assert answer.text.startswith(f"Code: {code}. DB::Exception: "), answer.text
        return answer.status_code, code


@pytest.fixture
def http(warehouse_url: str) -> Iterator[Http]:
    client = Http(warehouse_url)
    yield client
    client.client.close()


@pytest.fixture
def database(http: Http) -> Iterator[str]:
    name = f"t_{secrets.token_hex(4)}"
    http(f"CREATE DATABASE {name}")
    yield name
    http(f"DROP DATABASE {name} SYNC")


@pytest.fixture
def embedded() -> None:
    if os.environ.get("ISTHMUS_WAREHOUSE_URL"):
        pytest.skip("concerns the embedded warehouse only")


@contextmanager
def start(path: Path, home: Path, *arguments: str) -> Iterator[Server]:
    """Run a server over ``path`` until the block ends."""
    port = free_port()
    home.mkdir(exist_ok=True)
    env = {"ISTHMUS_WAREHOUSE_PASSWORD": "secret", "ISTHMUS_HOME": str(home)}
    every = ("--path", str(path), "--port", str(port), *arguments)
    with running("services.embedded.warehouse", *every, log=home / "log", env=env) as process:
        yield Server(f"http://isthmus:secret@127.0.0.1:{port}", home, path, process)


@pytest.fixture
def start_server(embedded: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server; each over the same directory, one at a time."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(start(tmp_path / "data", tmp_path / "home", *arguments))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a module's own, whose reader password and limits are known: 2 slots, 1 s to wait for one."""
    if os.environ.get("ISTHMUS_WAREHOUSE_URL"):
        pytest.skip("concerns the embedded warehouse only")
    folder = tmp_path_factory.mktemp("server")
    with start(folder / "data", folder / "home", "--slots", "2", "--slot-wait", "1") as one:
        yield one
