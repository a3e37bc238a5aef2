"""The load generator k6 as a function: a script and its variables in, its figures out."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.install import k6

SCRIPTS = Path(__file__).parent / "k6"


@dataclass(frozen=True)
class Load:
    """What one run of k6 says: its metrics' values by name, its console, and whether all its checks held."""

    metrics: dict[str, dict[str, float]]
    console: str
    sound: bool

    def count(self, name: str) -> int:
        """Return a counter's value; one that was never raised is not in the figures."""
        return int(self.metrics.get(name, {}).get("count", 0))


def run(script: str, folder: Path, **variables: Any) -> Load:
    """Run ``k6/script`` with ``variables`` as its environment; its files go to ``folder``."""
    name = f"k6-{secrets.token_hex(4)}"
    summary, console = folder / f"{name}.json", folder / f"{name}.log"
    env = {
        **os.environ,
        **{name.upper(): str(value) for name, value in variables.items()},
        "SUMMARY": str(summary),
        "K6_NO_USAGE_REPORT": "true",
    }
    command = [str(k6()), "run", "--quiet", f"--console-output={console}", str(SCRIPTS / script)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not summary.exists():
        raise SystemExit(f"k6 failed:\n{done.stdout}{done.stderr}")
    metrics = {name: each["values"] for name, each in json.loads(summary.read_text())["metrics"].items()}
    return Load(metrics, console.read_text() if console.exists() else "", done.returncode == 0)
