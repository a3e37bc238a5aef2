"""How the command speaks: one console, and errors as a sentence with what to do, never a traceback.

What belongs here: the consoles and the one place where expected errors become messages. What does not: commands.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

console = Console()
errors = Console(stderr=True)


def who() -> str:
    """Return who runs the command, as an audit row names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


@contextmanager
def explained() -> Iterator[None]:
    """Print an expected error as its message and exit with 1; with ISTHMUS_DEBUG set, let it through."""
    from pydantic import ValidationError

    from cli.stack import StartFailed
    from examples.datasets import UnknownData
    from examples.replay import ReplayError
    from resources.decisions import DecisionError
    from resources.errors import ResourceError, Unavailable

    expected = (ResourceError, StartFailed, ReplayError, UnknownData, DecisionError, OSError, ValidationError)
    try:
        yield
    except expected as error:
        if os.environ.get("ISTHMUS_DEBUG"):
            raise
        message, hint = str(error), ""
        if isinstance(error, ValidationError):
            named = ((e, "__".join(str(part) for part in e["loc"]).upper()) for e in error.errors())
            message = "\n".join(f"ISTHMUS_{name}: {e['msg']}" for e, name in named)
            hint = "docs/operations/configuration.md lists the settings."
        elif isinstance(error, Unavailable):
            hint = "Is Isthmus running? `isthmus status` and `isthmus doctor` tell."
        errors.print(f"[bold red]error[/] {escape(message)}", highlight=False)
        if hint:
            errors.print(f"[dim]{escape(hint)}[/]", highlight=False)
        raise typer.Exit(1) from None
