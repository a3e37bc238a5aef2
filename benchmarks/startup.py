"""How long the code location takes to load, and which heavy libraries it imports: ``python benchmarks/startup.py``.

Every Dagster process (web server, daemon's code server, each cold run) pays this. The target is under 4 s and no heavy
library. Each figure is the median of fresh interpreters; beside it stands ``import dagster`` alone, the floor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]

#: Each takes from 0.2 s to 9 s to import, and no definition needs one.
HEAVY = (
    *("chdb", "dbt", "great_expectations", "matplotlib", "mlflow", "numpy", "pandas", "polars"),
    *("presidio_analyzer", "pyarrow", "scipy", "sklearn", "spacy", "statsforecast", "torch"),
)

_LOAD = """
import json, sys, time
began = time.perf_counter()
import definitions
definitions.defs.get_repository_def()
print(json.dumps({"seconds": time.perf_counter() - began, "modules": sorted(sys.modules)}))
"""
_FLOOR = """
import json, time
began = time.perf_counter()
import dagster
print(json.dumps({"seconds": time.perf_counter() - began}))
"""


def fresh(script: str) -> dict[str, object]:
    """Run ``script`` in a fresh interpreter of this environment and return what it printed."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(runs: int) -> dict[str, object]:
    """Return the median seconds of loading and of the floor, and the heavy libraries that loading imports."""
    loads, floors = [], []
    for _ in range(runs):  # in turn, so that both see the machine's drift
        floors.append(fresh(_FLOOR))
        loads.append(fresh(_LOAD))
    modules = loads[-1]["modules"]
    assert isinstance(modules, list)
    seconds = [float(str(load["seconds"])) for load in loads]
    return {
        "load_seconds": round(statistics.median(seconds), 2),
        "load_seconds_max": round(max(seconds), 2),
        "floor_import_dagster": round(statistics.median(float(str(floor["seconds"])) for floor in floors), 2),
        "heavy_imports": [name for name in HEAVY if name in modules],
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="not used: loading reads no data")
    parser.add_argument("--seeds", type=int, default=5, help="fresh interpreters, each way")
    parser.add_argument("--quick", action="store_true", help="two interpreters")
    arguments = parser.parse_args()
    result = measure(2 if arguments.quick else arguments.seeds)
    table = Table("", "seconds", title="Code location start-up (median of fresh interpreters)")
    table.add_row("import definitions, build the repository", str(result["load_seconds"]))
    table.add_row("import dagster alone", str(result["floor_import_dagster"]))
    Console().print(table, f"heavy imports: {result['heavy_imports'] or 'none'}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
