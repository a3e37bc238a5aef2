"""Apicurio Registry as a process: a real schema registry with Confluent's interface, its store in memory.

Confluent's own is not on Maven Central; Apicurio speaks the same interface under ``/apis/ccompat/v7``.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.services.install import java, registry_folder
from tests.services.process import end, free_port, spawn, wait_for

PATH = "/apis/ccompat/v7"


def registry(folder: Path) -> tuple[str, Callable[[], None]]:
    """Start a registry; returns its URL and how to stop it."""
    port, log = free_port(), folder / "log"
    (jar,) = registry_folder().glob("apicurio-registry-app-*-runner.jar")
    options = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.http.access-log.enabled": "false",
        "quarkus.log.level": "WARN",
    }
    # It serves a few requests: compiling them to the last costs a core that others need.
    virtual_machine = ["-Xmx256m", "-XX:TieredStopAtLevel=1", *(f"-D{name}={value}" for name, value in options.items())]
    pid = spawn([java(), *virtual_machine, "-jar", str(jar)], log=log, cwd=folder)
    url = f"http://127.0.0.1:{port}{PATH}"
    wait_for(lambda: _answers(url), pid, what="Apicurio Registry", log=log)
    return url, lambda: end(pid)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
