"""A last resort: a loop that has stood still ends the process, so that its supervisor starts it anew.

What belongs here: noticing, saying where every thread stands, ending. What does not: what holds the loop up.

Every wait of the loop is bounded, those inside librdkafka as well, as far as it says. Should one of them not be, a
router that answers health checks and routes nothing is worse than one that ends: it begins again at its last commit.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Callable
from threading import Thread
from typing import Final

from services.router.health import Health

log = logging.getLogger("isthmus.router")

ENDS_AFTER: Final = 100.0
"""Seconds without a turn of the loop; ``/health`` says so from :data:`services.router.health.STALLED_AFTER` on."""
EXIT_CODE: Final = 70
_LOOK_EVERY: Final = 2.0


def watch(
    health: Health,
    *,
    seconds: float = ENDS_AFTER,
    every: float = _LOOK_EVERY,
    end: Callable[[int], object] = os._exit,
) -> Thread:
    """Look at the loop from a thread of its own; ``end`` is called with the exit code where it stands still."""

    def look() -> None:
        while health.loop_age < seconds:
            time.sleep(every)
        log.critical("the loop has stood still for %.0f s; the process ends, to be started anew", health.loop_age)
        faulthandler.dump_traceback(all_threads=True)
        end(EXIT_CODE)

    thread = Thread(target=look, name="standstill", daemon=True)
    thread.start()
    return thread
