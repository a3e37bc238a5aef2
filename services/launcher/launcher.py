"""``WarmRunLauncher``: Dagster's side of the warm pool.

What belongs here: launching, terminating and watching a run's worker. What does not: the worker (``pool``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from services.launcher.messages import PoolBusy, PoolUnavailable, ask, socket_path

#: The run's tag with "pid:start time" of its worker: enough to know the process again, whoever asks.
WORKER_TAG = "isthmus/worker"


class WarmRunLauncher(RunLauncher[Any], ConfigurableClass):
    """Launches each run as a fork of the warm pool, which it starts where none answers.

    One machine only: launcher and pool share a Unix socket. In production use Dagster's K8sRunLauncher.
    """

    def __init__(self, start_seconds: float = 60.0, inst_data: ConfigurableClassData | None = None):
        self._inst_data = inst_data
        self._start_seconds = start_seconds
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Return where this launcher was configured."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the fields that dagster.yaml may set."""
        return {
            "start_seconds": dg.Field(
                float, is_required=False, default_value=60.0, description="How long to wait for a pool that starts."
            )
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> WarmRunLauncher:
        """Build a launcher from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's worker; raise PoolUnavailable where no pool can be had."""
        run = context.dagster_run
        if context.job_code_origin is None:
            raise dg.DagsterInvariantViolationError(f"run {run.run_id} does not say where its code is")
        arguments = ExecuteRunArgs(
            job_origin=context.job_code_origin,
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
            set_exit_code_on_failure=True,
        ).get_command_args()
        # What stands before "api" is an interpreter of its own; the fork is that already.
        request = {"do": "launch", "run_id": run.run_id, "arguments": list(arguments[arguments.index("api") :])}
        worker = self._ask(request)
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: f"{worker['pid']}:{worker['started']}"})
        self._instance.report_engine_event(f"Forked worker {worker['pid']} from the warm pool", run, cls=type(self))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        path = socket_path(self._instance.root_directory)
        deadline = time.monotonic() + self._start_seconds
        starter: subprocess.Popen[bytes] | None = None
        while True:
            try:
                # A launch that was sent twice would run twice, so an answer is waited for, however long a fork takes.
                reply = ask(path, request, timeout=max(1.0, deadline - time.monotonic()))
                if not reply.get("stale"):
                    return reply
            except PoolBusy:
                raise
            except PoolUnavailable:
                if time.monotonic() > deadline:
                    raise
                if starter is None or starter.poll() is not None:
                    starter = self._start_pool()
            time.sleep(0.05)

    def _start_pool(self) -> subprocess.Popen[bytes]:
        """Start a pool that ends with this process."""
        command = [sys.executable, "-m", "services.launcher", "--home", self._instance.root_directory]
        return subprocess.Popen(
            [*command, "--owner", str(os.getpid())], stdout=subprocess.DEVNULL, start_new_session=True
        )

    def _worker(self, run: dg.DagsterRun) -> psutil.Process | None:
        """Return the run's worker while it lives."""
        pid, _, started = run.tags.get(WORKER_TAG, "").partition(":")
        try:
            process = psutil.Process(int(pid))
            # A pid is used again; pid and start time together are not.
            alive = abs(process.create_time() - float(started)) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except (ValueError, psutil.Error):
            return None
        return process if alive else None

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's worker, which then ends the run as canceled; False where there is none."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = self._worker(run)
        if worker is None:
            self._instance.report_run_canceled(run, message="The worker had ended already.")
            return False
        worker.send_signal(signal.SIGTERM)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True: run monitoring finds killed workers, and run retries start them anew."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the run's worker lives."""
        if self._worker(run) is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The run's worker process has ended.")
