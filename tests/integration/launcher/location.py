"""A code location of small jobs that say which process they ran in."""

import os
import time
from pathlib import Path

import dagster as dg


class Slow(dg.Config):
    folder: str
    seconds: float = 0.0


@dg.op
def note(context: dg.OpExecutionContext, config: Slow) -> None:
    (Path(config.folder) / context.run_id).write_text(f"{os.getppid()} {os.getpid()} {time.time()}")
    deadline = time.monotonic() + config.seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def noting() -> None:
    note()


defs = dg.Definitions(jobs=[noting])
