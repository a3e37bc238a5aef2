"""Logs: JSON lines for machines, text for people, and in neither what an event or a secret may stand in.

What belongs here: the form of a line. What does not: what is worth one (:mod:`services.router.refusals`).

An exception is written as its class and the places that it passed through. Its text is left out: libraries put values
into theirs.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from traceback import extract_tb
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import orjson

# What every record has; anything else came by ``extra=``.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Error = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def configure(form: Literal["auto", "json", "text"], stream: TextIO | None = None) -> None:
    """Send all logs of this process to ``stream`` (default: stderr), and what would end a thread with them."""
    stream = stream or sys.stderr
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if text else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    threading.excepthook = lambda failure: _uncaught(
        failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback
    )


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("isthmus").critical("not caught", exc_info=(kind, error, trace))


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the record's extra fields by their names."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"], line["places"] = _without_text(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """One line of text, and the places of an exception below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatException(self, ei: Error) -> str:
        """Return class and places of an exception."""
        name, places = _without_text(ei)
        return "\n".join([name, *(f"  {place}" for place in places)])


def _without_text(error: Error) -> tuple[str, list[str]]:
    kind, _, trace = error
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(trace)]
    return (kind.__name__ if kind else "nothing"), places
