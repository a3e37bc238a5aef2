"""The dbt project as seen from Dagster: where it is, how dbt is called, and its graph prepared ahead of loading.

What belongs here: paths, environment, the lock of a build, the prepared graph and whether it is stale. What does not:
the assets (``assets.bi.assets``) and the translation of dbt's manifest (``assets.bi.translation``: importing
dagster-dbt takes three seconds that loading the code location must not pay, so it has a process of its own, when the
project changed).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import dagster as dg
from pydantic import Field

from resources.settings import get_settings
from resources.warehouse import RETRYABLE_CODES

if TYPE_CHECKING:
    from dagster_dbt import DagsterDbtTranslator
    from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation

_PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"
_RESULTS = "run_results.json"
_CODE = re.compile(r"[Cc]ode: (\d+)")
_PARTS = ("dbt_project.yml", "profiles.yml", "macros", "models", "tests")


def project_folder() -> Path:
    """Return the folder of the dbt project; ``profiles.yml`` is in it."""
    return _PROJECT


def prepared_folder() -> Path:
    """Return the folder of the prepared graph: ``manifest.json`` and ``assets.json``."""
    return _PROJECT / "target" / "prepared"


def dbt_executable() -> str:
    """Return the absolute path of dbt: the one of this interpreter's environment, which need not be on PATH."""
    beside = Path(sys.executable).with_name("dbt")
    found = str(beside) if beside.exists() else shutil.which("dbt")
    if found is None:
        raise FileNotFoundError("dbt is not installed in this environment: uv sync")
    return found


def dbt_environment() -> dict[str, str]:
    """Return the environment for a dbt process: this one's, with the warehouse of the settings; it holds a password."""
    url = urlsplit(get_settings().warehouse_dsn())
    secure = url.scheme == "https"
    return {
        **os.environ,
        **_QUIET,
        "DBT_HOST": url.hostname or "127.0.0.1",
        "DBT_PORT": str(url.port or (8443 if secure else 8123)),
        "DBT_USER": unquote(url.username or ""),
        "DBT_PASSWORD": unquote(url.password or ""),
        "DBT_SECURE": str(secure),
    }


_QUIET = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DBT_PROJECT_DIR": str(_PROJECT),
    "DBT_PROFILES_DIR": str(_PROJECT),
    "PYTHONUNBUFFERED": "1",
}


def digest() -> str:
    """Return what identifies the project's files and dbt's version: an equal digest means an equal graph."""
    seen = hashlib.sha256(version("dbt-core").encode() + version("dagster-dbt").encode())
    seen.update(Path(__file__).with_name("translation.py").read_bytes())
    for part in _PARTS:
        top = _PROJECT / part
        for file in [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file()):
            seen.update(f"{file.relative_to(_PROJECT)}\0".encode() + file.read_bytes() + b"\0")
    return seen.hexdigest()[:16]


def asset_graph() -> dict[str, Any]:
    """Return the project's assets and checks, prepared anew where the project's files have changed since.

    Keys: ``digest``, ``assets`` (one dict each, see ``assets.bi.translation``), ``checks``. Raises RuntimeError, with
    dbt's own words, where the project cannot be parsed.
    """
    wanted, file = digest(), prepared_folder() / "assets.json"
    if (graph := _read(file)) is None or graph["digest"] != wanted:
        with file_lock(_PROJECT / "target" / "prepare.lock"):
            if (graph := _read(file)) is None or graph["digest"] != wanted:
                done = subprocess.run(
                    [sys.executable, "-m", "assets.bi.translation", wanted],
                    cwd=_PROJECT.parent,
                    # Without the warehouse's address: parsing needs none, and loading code must not ask for secrets.
                    env={**os.environ, **_QUIET},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                graph = _read(file)
                if done.returncode or graph is None:
                    raise RuntimeError(f"the dbt project cannot be parsed:\n{(done.stdout + done.stderr)[-4000:]}")
    return graph


def _read(file: Path) -> dict[str, Any] | None:
    try:
        graph: dict[str, Any] = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return graph


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock of this machine for the block; it is free again when its holder dies, however it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class DbtResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # not generic at run time
    """dbt's command line, as dagster-dbt calls it.

    dagster-dbt's own DbtCliResource is not used: each call of it starts dbt twice (once to ask for its version) and
    imports it a third time (for an adapter), 13 s of processor time where a build needs 5.
    """

    threads: int = Field(default=4, description="Models and tests that run at once.")

    def state_folder(self) -> Path:
        """Return the folder of artifacts, logs and dbt's cache of the parsed project."""
        return get_settings().home.resolve() / "dbt"

    @contextmanager
    def building(self) -> Iterator[None]:
        """Hold this machine's build lock: two builds at once would do the same work twice."""
        with file_lock(self.state_folder() / "build.lock"):
            yield

    def invoke(
        self, args: list[str], *, manifest: dict[str, Any], translator: DagsterDbtTranslator
    ) -> DbtCliInvocation:
        """Start dbt and return the invocation, whose ``stream()`` gives Dagster events while it runs.

        It does not raise where dbt fails: the caller tells a failed test from a failed model.
        """
        from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation as Invocation
        from packaging.version import Version

        # One folder for all builds, which the lock makes safe: dbt finds its parsed project there and skips parsing.
        target = self.state_folder() / "target"
        target.mkdir(parents=True, exist_ok=True)
        cached = target / "partial_parse.msgpack"
        if not cached.exists() and (prepared := prepared_folder() / cached.name).exists():
            shutil.copy(prepared, cached)
        (target / _RESULTS).unlink(missing_ok=True)  # what stands there afterwards is this invocation's
        paths = {"DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target), "DBT_LOG_FORMAT": "json"}
        paths["DBT_LOG_LEVEL_FILE"] = "info"  # the default, debug, writes every statement as JSON
        return Invocation.run(
            args=[dbt_executable(), *args, "--threads", str(self.threads)],
            env={**dbt_environment(), **paths},
            manifest=manifest,
            dagster_dbt_translator=translator,
            project_dir=_PROJECT,
            target_path=target,
            raise_on_error=False,
            context=None,
            adapter=None,
            cli_version=Version(version("dbt-core")),
        )


def build_errors(invocation: DbtCliInvocation) -> list[str]:
    """Return what went wrong in a finished invocation, besides tests that found something: those are check results."""
    if invocation.process.wait() == 0:
        return []
    try:
        results = json.loads((invocation.target_path / _RESULTS).read_bytes())["results"]
    except (FileNotFoundError, ValueError):
        return [str(invocation.get_error())]
    errors = [f"{one['unique_id']}: {one['message']}" for one in results if one["status"] in ("error", "runtime error")]
    found = any(one["status"] == "fail" for one in results)
    return errors or ([] if found else [str(invocation.get_error())])


def may_pass(errors: Sequence[str]) -> bool:
    """Return whether another build may get past ``errors``: not where each is the SQL's fault, by ClickHouse's code."""
    return not all(
        "Compilation Error" in error or ((code := _CODE.search(error)) and int(code.group(1)) not in RETRYABLE_CODES)
        for error in errors
    )
