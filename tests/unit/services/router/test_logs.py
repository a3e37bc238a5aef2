"""Lines of the log: a JSON object each, or text, and never the text of an exception."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from services.logs import configure

log = logging.getLogger("isthmus.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, before = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], (sys.excepthook, threading.excepthook) = handlers, before
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(stream: io.StringIO, form: str = "auto") -> str:
    configure(form, stream)  # type: ignore[arg-type]
    log.warning("refused %s", "t/0/41", extra={"topic": "t", "offset": 41})
    try:
        raise ValueError("a value of the event")
    except ValueError:
        log.exception("failed")
    thread = threading.Thread(target=lambda: {}["a key of the event"])
    thread.start()
    thread.join()
    return stream.getvalue()


def test_a_line_is_an_object() -> None:
    first, second, third = map(json.loads, written(io.StringIO()).splitlines())
    time = first.pop("time")
    assert time.endswith("+00:00")
    expected = {"level": "warning", "logger": "isthmus.test", "message": "refused t/0/41", "topic": "t", "offset": 41}
    assert first == expected
    assert (second["level"], second["message"], second["error"]) == ("error", "failed", "ValueError")
    assert second["places"][0].endswith(" written")
    assert (third["level"], third["error"]) == ("critical", "KeyError")


@pytest.mark.parametrize(("stream", "form"), [(Terminal(), "auto"), (io.StringIO(), "text")])
def test_a_terminal_gets_text(stream: io.StringIO, form: str) -> None:
    text = written(stream, form)
    assert " WARNING isthmus.test refused t/0/41\n" in text
    assert "\nValueError\n" in text


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_text_of_an_exception_is_left_out(form: str) -> None:
    assert "of the event" not in written(io.StringIO(), form)


def test_a_web_server_that_is_asked_nonsense_says_nothing_of_it() -> None:
    stream = io.StringIO()
    configure("json", stream)
    logging.getLogger("uvicorn.error").info("Started server process")
    assert stream.getvalue() == ""
