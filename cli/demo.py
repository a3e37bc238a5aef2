"""``isthmus demo``: a day of shop traffic through the whole platform, and what came of it.

What belongs here: the order of the acts and their progress. What does not: the summary (``cli.summary``), the services
(``cli.stack``), and the work, which is the asset graph's.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.console import console
from cli.documents import publish_documents
from cli.replay import bar, run_replay
from cli.stack import Stack, StartFailed, listens
from cli.summary import print_summary
from cli.up import addresses, serve_until_interrupted, start_core, start_rest, terminable
from resources.settings import get_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

#: Written into a home that a demo made, so that `--fresh` never removes anything else.
_MARKER = "made-by-isthmus"
_DRAIN_SECONDS = 120.0


def run_demo(*, serve: bool, sagas: int | None, seed: int, fresh: bool) -> None:
    """Play the demo; with ``serve``, leave everything running until Ctrl-C."""
    settings = get_settings()
    home = settings.home.resolve()
    _prepare(home, fresh=fresh)
    began = time.monotonic()
    try:
        with terminable(), Stack(settings) as stack:
            with console.status("starting warehouse, broker and router"):
                start_core(stack)
            console.print("[green]✓[/] warehouse, broker and router serve")
            sent = _play(sagas, seed)
            run_id = _materialize(stack.logs / "everything.log")
            print_summary(sent, run_id, seconds=time.monotonic() - began)
            if serve:
                publish_documents(settings)
                start_rest(stack)
                console.print(addresses(settings))
                serve_until_interrupted(stack)
            else:
                console.print("Next: [cyan]make demo SERVE=1[/] leaves it running, with the web pages; the tutorial is")
                console.print("docs/tutorials/first-saga.md.")
    except KeyboardInterrupt:
        console.print("Stopped.")


def _prepare(home: Path, *, fresh: bool) -> None:
    """Make the home, emptied before if that is asked for and it is ours to empty."""
    marker = home / _MARKER
    if fresh and home.exists():
        if not marker.exists():
            raise StartFailed(f"{home} was not made by Isthmus, so --fresh leaves it alone; remove it yourself")
        if listens(get_settings().warehouse_port):
            raise StartFailed("Isthmus is running here; stop it first (`isthmus down`)")
        shutil.rmtree(home)
    if not home.exists() or not any(home.iterdir()):
        home.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _play(sagas: int | None, seed: int) -> dict[str, int]:
    """Replay the day and wait until the router has dealt with each record; return the counts."""
    from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS
    from examples.shop import malformed, traffic
    from resources.kafka import KafkaResource

    kafka = KafkaResource()

    def ends() -> dict[str, int]:
        topics = kafka.topics([*DOMAIN_TOPICS, DEAD_LETTER]).values()
        counts: dict[str, int] = {}
        for (topic, _), (_, high) in kafka.watermarks_of(topics).items():
            counts[topic] = counts.get(topic, 0) + high
        return counts

    before = ends()
    with console.status("simulating a day in the shop"):
        day = traffic(seed=seed) if sagas is None else traffic(seed=seed, orders_per_day=sagas)
    report = run_replay(day, seed=seed, broken=malformed(seed=seed))
    accepted = report.sent - report.rejected
    deadline = time.monotonic() + _DRAIN_SECONDS
    with bar() as progress:
        task = progress.add_task("routing", total=accepted)
        while True:
            moved = {topic: end - before.get(topic, 0) for topic, end in ends().items()}
            done = sum(moved.values())
            progress.update(task, completed=min(done, accepted))
            if done >= accepted:
                return {"sent": report.sent, "sagas": report.sagas, "refused": moved.get(DEAD_LETTER, 0)}
            if time.monotonic() > deadline:
                raise StartFailed(f"the router has dealt with {done:,} of {accepted:,} events; see its log")
            time.sleep(0.1)


def _materialize(log: Path) -> str:
    """Materialize the whole graph in this process, showing the step that runs; return the run's id."""
    from dagster import DagsterInstance

    with console.status("loading the asset graph"):
        from definitions import defs

        job = defs.resolve_job_def("everything")
    run_id, ended = str(uuid4()), threading.Event()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        DagsterInstance.get() as instance,
        _output_to(log) as screen,
        Progress(*columns, console=screen, transient=True) as progress,
    ):
        watcher = threading.Thread(target=_watch, args=(instance, run_id, progress, ended), daemon=True)
        watcher.start()
        try:
            job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
        finally:
            ended.set()
            watcher.join(5)
    return run_id


@contextmanager
def _output_to(log: Path) -> Iterator[Console]:
    """Send what this process and its children print to ``log``, and return a console on the screen meanwhile.

    A run's log lines, dbt's and MLflow's would tear the progress apart; they are in the web UI and in the file.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("ab") as sink, os.fdopen(os.dup(1), "w") as screen:
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield Console(file=screen, force_terminal=console.is_terminal, width=console.width)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in enumerate(kept, start=1):
                os.dup2(saved, number)
                os.close(saved)


def _watch(instance: DagsterInstance, run_id: str, progress: Progress, ended: threading.Event) -> None:
    """Show the steps of the run as they come and go, until told to end."""
    from dagster import DagsterEventType

    shown: dict[str, TaskID] = {}
    ends = {DagsterEventType.STEP_SUCCESS: "green]✓", DagsterEventType.STEP_FAILURE: "red]✗"}
    cursor = None
    while True:
        last = ended.wait(0.3)
        batch = instance.get_records_for_run(run_id, cursor=cursor)
        cursor = batch.cursor
        for record in batch.records:
            event = record.event_log_entry.dagster_event
            if event is None or event.step_key is None:
                continue
            name = event.step_key.replace("__", "/")
            if event.event_type == DagsterEventType.STEP_START and event.step_key not in shown:
                shown[event.step_key] = progress.add_task(name, total=1)
            elif event.event_type in ends and event.step_key in shown:
                task = shown[event.step_key]
                progress.update(task, completed=1)
                seconds = progress.tasks[progress.task_ids.index(task)].elapsed or 0.0
                progress.console.print(f"[{ends[event.event_type]}[/] {name} [dim]{seconds:.1f} s[/]")
                progress.update(task, visible=False)
        if last:
            return
