"""The arms of the router's benchmark: how each is installed, started and stopped.

What belongs here: processes and environments. What does not: load and figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import free_port
from tests.services.install import cache, run, say

ROOT: Final = Path(__file__).resolve().parents[2]
_OFFSET_BEGINNING, _OFFSET_END = "-2", "-1"

# What our own routing needs, so that each peer does the same work; and the peer at the version that was measured.
_ROUTING: Final = ("orjson", "jsonschema-rs", "numpy", "pydantic", "pyyaml")
PEERS: Final = {
    "quixstreams": "quixstreams==3.28.1",
    "bytewax": "bytewax==0.21.1",
    "faust": "faust-streaming==0.15.3",
}
OURS: Final = ("router", "floor", "transactional")


@dataclass(frozen=True)
class Arm:
    """One contestant. ``group`` is the consumer group whose offsets say where it begins; Bytewax has none."""

    name: str
    group: str

    @contextmanager
    def running(self, bootstrap: str, *, processes: int = 1, from_start: bool = False) -> Iterator[None]:
        """Run it until the block ends, on ``processes`` processes that share the partitions."""
        with tempfile.TemporaryDirectory(prefix="isthmus-bus-") as folder:
            started = [
                self._start(bootstrap, Path(folder), number, processes, from_start) for number in range(processes)
            ]
            try:
                yield
            finally:
                for process in started:
                    process.kill()
                    process.wait()

    def _start(
        self, bootstrap: str, folder: Path, number: int, processes: int, from_start: bool
    ) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BOOTSTRAP": bootstrap,
            "GROUP": self.group,
            "FOLDER": str(folder / f"state-{number}"),
            "STARTING_OFFSET": _OFFSET_BEGINNING if from_start else _OFFSET_END,
            "ISTHMUS_HOME": str(folder),
            "ISTHMUS_KAFKA_BOOTSTRAP": bootstrap,
            "ISTHMUS_ROUTER_PORT": str(free_port()),
            "ISTHMUS_ROUTER_TRANSACTIONAL": str(self.name == "transactional").lower(),
        }
        with (folder / f"log-{number}").open("wb") as log:
            return subprocess.Popen(
                self._command(bootstrap, number, processes), cwd=folder, env=env, stdout=log, stderr=log
            )

    def _command(self, bootstrap: str, number: int, processes: int) -> list[str]:
        python = sys.executable if self.name in OURS else str(environment(self.name))
        match self.name:
            case "router" | "transactional":
                return [python, "-m", "services.router"]
            case "floor":
                return [python, "-m", "benchmarks.bus.floor", bootstrap, self.group]
            case "quixstreams":
                return [python, "-m", "benchmarks.bus.quix", bootstrap, self.group]
            case "bytewax":
                peers = ";".join(f"127.0.0.1:{2101 + other}" for other in range(processes))
                together = ["-i", str(number), "-a", peers] if processes > 1 else []
                return [python, "-m", "bytewax.run", "benchmarks.bus.wax:flow", *together]
            case _:
                return [python, "-m", "benchmarks.bus.faust_app"]


def arm(name: str) -> Arm:
    """Return the arm of that name."""
    return Arm(name, "isthmus-router" if name in ("router", "transactional") else f"benchmark-{name}")


def environment(peer: str) -> Path:
    """Return the Python of a peer's own environment, made at first use: peers pin clients that we do not want."""
    folder = cache() / "peers" / PEERS[peer].replace("==", "-")
    python = folder / "bin" / "python"
    extra = ["confluent-kafka"] if peer == "bytewax" else []
    wanted, complete = "\n".join([PEERS[peer], *_ROUTING, *extra]), folder / "complete"
    if not complete.exists() or complete.read_text() != wanted:
        say(f"installing {PEERS[peer]} into {folder}")
        run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        run(["uv", "pip", "install", "--quiet", "--python", str(python), *wanted.splitlines()])
        complete.write_text(wanted)
    return python
