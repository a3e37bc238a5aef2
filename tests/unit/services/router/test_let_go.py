"""Clients that failed are let go in a thread of their own: their end may wait for the broker."""

from __future__ import annotations

import gc
import threading
import weakref
from threading import Event
from typing import Any

from services.router.service import let_go


class Client:
    """Ends slowly, as one does whose transaction the broker has not ended; tied into a cycle by a callback."""

    def __init__(self, ended: list[str], gate: Event) -> None:
        self.ended, self.gate = ended, gate
        self.callback = self.called

    def called(self) -> None:
        """What the cycle is made of."""


class Handle:
    def __init__(self, ended: list[str], gate: Event) -> None:
        self._ended, self._gate = ended, gate

    def __del__(self) -> None:
        self._gate.wait(10)
        self._ended.append(threading.current_thread().name)


def test_the_end_of_a_client_holds_nobody_up() -> None:
    ended, gate = list[str](), Event()
    made: list[Any] = [Handle(ended, gate)]
    pump = Client(ended, gate)
    pump.handle = made[0]  # type: ignore[attr-defined]
    gone = weakref.ref(pump)
    del pump
    let_go(made)
    assert made == []
    assert gone() is None
    assert ended == []
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "clients-end":
            thread.join(10)
    gc.collect()
    assert ended == ["clients-end"]
