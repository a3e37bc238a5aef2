"""``isthmus replay``: a replay with a progress bar.

What belongs here: the bar. What does not: the replay (``examples.replay``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from cli.console import console

if TYPE_CHECKING:
    from examples.replay import ReplayReport
    from examples.source import Source


def bar() -> Progress:
    """Return a progress bar that counts."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(compact=True, elapsed_when_finished=True), console=console)


def run_replay(source: str | Source, **options: Any) -> ReplayReport:
    """Send ``source`` to the bus of the settings and return the report; options as of ``examples.replay.replay``."""
    from examples.replay import replay
    from resources.kafka import KafkaResource
    from resources.settings import get_settings

    KafkaResource().ensure_topics()
    settings = get_settings()
    with bar() as progress:
        name = source if isinstance(source, str) else source.name
        task = progress.add_task(f"replaying {name}", total=None)
        return replay(
            source,
            bootstrap=settings.kafka_bootstrap,
            producer_config=settings.kafka_security,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            **options,
        )
