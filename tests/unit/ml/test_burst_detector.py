"""Bursts: false alarms stay at their bound, a burst is seen in a few looks, and the one to blame is named."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from events.codec import encode
from ml.bursts.blame import analyse
from ml.bursts.detector import LEAST_HEARD, Detector, counted
from ml.bursts.told import ENDING, Told, told


def step(saga: str, participant: str, bad: bool, *, error: str = "", us: int = 0) -> Told:
    status = "failed" if bad else "completed"
    return Told(us, "order", saga, participant, f"do_{participant}", status, error, bad)


def test_only_what_ended_is_told_and_garbage_is_passed_over() -> None:
    data = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1}
    values = [
        encode("isthmus.saga.step", {**data, "status": status}, subject="s1", source="/t")
        for status in ("scheduled", "started", "completed", "failed", "timed_out", "retried", "compensated")
    ]
    ends = [
        encode("isthmus.saga.aborted", {"saga_type": "order", "reason": reason}, subject="s1", source="/t")
        for reason in ("business", "technical")
    ]
    garbage = [b"", b"{", b"[]", b'{"type": "isthmus.saga.step", "data": null}', orjson.dumps({"type": "other"})]
    found = told([*values, *ends, *garbage])
    assert [one.bad for one in found] == [False, True, True, False, True]
    assert [one.step for one in found] == ["charge"] * 3 + [ENDING] * 2


def test_a_saga_counts_once() -> None:
    assert counted([step("a", "x", True), step("a", "x", True), step("a", "y", False), step("b", "x", False)]) == (1, 2)


def test_false_alarms_keep_their_bound_and_a_burst_is_seen_at_once() -> None:
    random = np.random.default_rng(1)
    bound, alarms = 20_000.0, 0
    detector = Detector()
    for _ in range(40_000):
        heard = int(random.poisson(6))
        if detector.look(12, int(random.binomial(heard, 0.12)), heard) >= bound:
            alarms += 1
            detector.evidence = 0.0
    # Two are allowed on average; the slack for what is still usual makes it fewer.
    assert alarms <= 2
    detector.evidence = 0.0
    seen = [detector.look(12, int(random.binomial(6, 0.7)), 6) >= 1e7 for _ in range(8)]
    assert seen[-1]


def test_nothing_is_judged_before_the_usual_is_known_and_hours_differ() -> None:
    detector = Detector()
    assert detector.look(3, 50, 50) == 0.0
    detector = Detector()
    detector.usual.learn(3, 30, 200)
    assert detector.usual.rate(3) is None
    detector.usual.learn(15, 20, LEAST_HEARD)
    night, day = detector.usual.rate(3), detector.usual.rate(15)
    assert night is not None
    assert day is not None
    assert night > day
    assert Detector.of(detector.as_dict()).usual.rate(3) == pytest.approx(night, abs=0.01)
    with pytest.raises(ValueError, match="24"):
        Detector.of({"evidence": 0.0, "bad": [1.0], "heard": [1.0]})


def test_the_one_whose_failures_were_added_is_to_blame() -> None:
    before = [step(f"o{n}", name, n % 20 == 0) for n in range(400) for name in ("inventory", "payment")]
    recent = [step(f"n{n}", "payment", n % 2 == 0, error="ServiceUnavailable", us=n) for n in range(60)]
    recent += [step(f"n{n}", "inventory", n % 20 == 0, us=n) for n in range(60)]
    recent += [Told(99, "order", "n1", "", ENDING, "aborted", "", True)]
    found = analyse(recent, before)
    assert found.subject == "payment"
    assert found.participants[0][1] > 0.9
    first = found.suspects[0]
    assert (first.step, first.errors[0][0]) == ("do_payment", "ServiceUnavailable")
    assert first.share == pytest.approx(0.5)
    assert first.lift > 5
    assert found.sagas_aborted == 1
    assert "payment goes wrong in 50% of 60 attempts" in found.summary()
    assert orjson.dumps(found.as_dict())


def test_what_is_as_before_or_unknown_is_said() -> None:
    same = [step(f"o{n}", "payment", n % 20 == 0) for n in range(200)]
    assert analyse(same, same).subject == "unknown"
    assert "no step fails more" in analyse(same, same).summary()
    assert analyse([], []).suspects == ()
    # A step that was never seen before, beside others that were.
    new = analyse([step(f"n{n}", "fraud", True) for n in range(20)], same)
    assert new.subject == "fraud"
