"""Evidently's default drift report over pairs of samples, run in an environment of its own.

What belongs here: the peer alone. Reads a pickle of (reference, current) columns from argv[1], writes a JSON list of
[share of drifted columns, verdict on the whole] to argv[2].
"""

import json
import pickle
import sys
import warnings
from pathlib import Path

import pandas as pd
from evidently import Report  # type: ignore[import-not-found]
from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]


def main() -> None:
    """Judge each pair."""
    warnings.simplefilter("ignore")
    found = []
    for reference, current in pickle.loads(Path(sys.argv[1]).read_bytes()):
        snapshot = Report([DataDriftPreset()]).run(pd.DataFrame(current), pd.DataFrame(reference))
        metrics = json.loads(snapshot.json())["metrics"]
        value = next(one["value"] for one in metrics if isinstance(one["value"], dict) and "share" in one["value"])
        found.append([value["share"], value["share"] >= 0.5])
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
