"""Learned time-outs behind turns: given where a step is known, corrected by ends, kept when learned anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ml.steering.turns import Turn
from ml.timeouts.holdout import false_share
from ml.timeouts.learning import History, learn
from services.orchestrator.standing import InForce, Standing, Timeouts
from services.orchestrator.steering import Coming, Turns


def history(seed: int, steps: int = 3_000) -> History:
    random = np.random.default_rng(seed)
    start = np.cumsum(random.exponential(0.5, steps))
    return History(["payment"] * steps, ["charge"] * steps, start, random.lognormal(np.log(100.0), 0.3, steps))


@pytest.fixture(scope="module")
def timeouts() -> Timeouts:
    return Timeouts("2026-05-04 12:00:00.000", learn([history(1)]))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def standing(timeouts: Timeouts) -> Standing:
    action = {"steps": [{"step": "charge", "participant": "payment", "timeout_ms": 5_000.0}]}
    policy = InForce("d-1", action, datetime.now(UTC) + timedelta(hours=1))
    return Standing({"order": policy}, timeouts=timeouts)


def ask(turns: Turns, saga: str = "o-1", step: str = "charge", **more: Any) -> Turn:
    return turns.ask(Coming("payment", saga, **({"left": 60.0, "step": step} | more)))


def test_a_known_step_has_the_learned_time_out_and_any_other_the_policys(timeouts: Timeouts) -> None:
    turns = Turns(lambda: standing(timeouts), clock=Clock(), seed=1)
    assert 0.1 < ask(turns).seconds < 1.0
    assert ask(turns, step="another").seconds == pytest.approx(5.0)
    assert ask(turns, left=0.2, saga="o-2").seconds <= 0.2, "never longer than the saga has"
    assert ask(Turns(lambda: standing(Timeouts()), clock=Clock(), seed=1)).seconds == pytest.approx(5.0)


def test_a_participant_in_trouble_has_steerings_own_time_outs(timeouts: Timeouts) -> None:
    """All calls take 350 ms from now on: what was learned would cut each of them for ever."""
    clock = Clock()
    turns = Turns(lambda: standing(timeouts), clock=clock, seed=1)
    answered = 0
    for number in range(300):
        turn = ask(turns, f"o-{number}")
        if turn.ticket is None:
            clock.now += 0.05
            continue
        clock.now += min(0.35, turn.seconds)
        answered += turn.seconds > 0.35
        turns.tell("payment", turn.ticket, "ok" if turn.seconds > 0.35 else "timed_out")
    assert answered > 100


def test_what_was_seen_is_kept_when_it_is_learned_anew_and_lost_attempts_are_let_go(timeouts: Timeouts) -> None:
    clock, known = Clock(), [timeouts]
    turns = Turns(lambda: stands[0], clock=clock, seed=1)
    stands = [standing(timeouts)]
    turn = ask(turns)
    assert turn.ticket is not None
    stands[0] = standing(Timeouts("later", known[0].learned))
    ask(turns, "o-2")
    turns.tell("payment", turn.ticket, "ok")
    assert len(turns._dispatcher.timeouts) == 1
    clock.now += 3_600
    ask(turns, "o-3")
    assert len(turns._dispatcher.timeouts) == 1, "the second one's end was never told"


def test_the_share_on_held_out_steps(timeouts: Timeouts) -> None:
    assert timeouts.learned is not None
    share, steps = false_share(timeouts.learned, history(2))
    assert steps == 3_000
    assert 0.002 < share < 0.03
    nobody = History(["nobody"], ["charge"], np.zeros(1), np.ones(1))
    assert false_share(timeouts.learned, nobody)[1] == 0
