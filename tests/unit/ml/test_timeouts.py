"""Time-outs that keep a promised share of false ones: rules, model, advisor."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ml.timeouts.advisor import Advisor, Bounds
from ml.timeouts.conformal import HIGHEST, LOWEST, Adaptive, Rule, Tracking, Window
from ml.timeouts.model import DurationModel, StepFigures, step_figures, with_usual
from ml.timeouts.recent import COVARIATES, Recent

RULES: dict[str, Callable[[], Rule]] = {
    "tracking": partial(Tracking, rate=0.2),
    "integrator": partial(Tracking, rate=0.2, integral=0.3),
    "shrinking": partial(Tracking, rate=1.0, decay=0.6, least=0.1),
    "aci": partial(Adaptive, rates=(0.005,)),
    "dtaci": partial(Adaptive, rates=(0.001, 0.004, 0.016)),
}
every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES.keys())


def errors(rule: Rule, scores: np.ndarray, delay: int = 0) -> np.ndarray:
    """Return which scores lie above their threshold, each outcome told ``delay`` observations later."""
    waiting: list[tuple[float, bool]] = []
    found = np.zeros(len(scores), dtype=bool)
    for i, score in enumerate(scores):
        threshold = rule.threshold()
        found[i] = score > threshold
        waiting.append((min(float(score), threshold), bool(found[i])))
        if len(waiting) > delay:
            rule.outcome(*waiting.pop(0))
    return found


@every_rule
def test_the_share_of_errors_comes_to_its_target_for_exchangeable_scores(make: Callable[[], Rule]) -> None:
    scores = np.random.default_rng(1).normal(-0.5, 0.4, 20_000)
    assert errors(make(), scores)[2_000:].mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("name", ["tracking", "integrator", "aci"])
@pytest.mark.parametrize("delay", [0, 50])
def test_the_share_holds_under_drift_and_with_late_outcomes(name: str, delay: int) -> None:
    random = np.random.default_rng(2)
    scores = random.normal(-0.5, 0.4, 20_000) + np.linspace(0.0, 2.5, 20_000)
    assert (scores > 0.0).mean() > 0.4  # what no correction would do
    assert errors(RULES[name](), scores, delay).mean() == pytest.approx(0.01, abs=0.0025)


def test_tracking_keeps_its_bound_whatever_the_stream_and_the_delay() -> None:
    rule = Tracking(rate=0.1)
    scores = np.where(np.arange(9_000) // 300 % 2, 2.0, -1.0)  # jumps that nothing foretells
    share = errors(rule, scores, delay=10).mean()
    assert abs(share - 0.01) <= (HIGHEST - LOWEST + 0.1) / (0.1 * 9_000)


def test_a_storm_of_time_outs_does_not_wind_up() -> None:
    rule = Tracking(rate=0.2)
    for _ in range(1_000):
        rule.outcome(9.0, True)
    steps = 0
    while rule.threshold() > 0.0 and steps < 5_000:
        rule.outcome(-1.0, False)
        steps += 1
    assert steps <= HIGHEST / (0.2 * 0.01) + 1


def test_a_cut_score_counts_as_an_error_only() -> None:
    cut_early, cut_late = Tracking(), Tracking()
    cut_early.outcome(0.1, True)
    cut_late.outcome(3.0, True)
    assert cut_early.threshold() == cut_late.threshold() > 0.0


@every_rule
def test_thresholds_stay_within_their_bounds(make: Callable[[], Rule]) -> None:
    rule = make()
    for _ in range(3_000):
        rule.outcome(20.0, True)
    assert rule.threshold() <= HIGHEST
    for _ in range(30_000):
        rule.outcome(-20.0, False)
    assert rule.threshold() >= LOWEST


@every_rule
def test_a_restored_rule_goes_on_as_if_nothing_had_happened(make: Callable[[], Rule]) -> None:
    scores = np.random.default_rng(3).normal(-0.3, 0.5, 800)
    rule, other = make(), make()
    errors(rule, scores)
    other.load(json.loads(json.dumps(rule.save())))
    assert other.threshold() == rule.threshold()
    assert (errors(rule, scores) == errors(other, scores)).all()


def test_a_window_is_sorted_and_lets_the_oldest_go() -> None:
    window = Window(3)
    for score in (5.0, 1.0, 3.0, 2.0):
        window.add(score)
    assert window.ordered == [1.0, 2.0, 3.0]
    assert window.upper(0.5) == 2.0
    assert window.upper(0.0) > 3.0  # beyond what was seen
    assert window.above(2.0) == pytest.approx(2 / 3)


def past(count: int = 4_000, seed: int = 0) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Return participants, steps, starts (s) and durations (ms) of two participants, steps of unlike length."""
    random = np.random.default_rng(seed)
    participant = random.choice(["pay", "ship"], count)
    step = random.choice(["quick", "long"], count)
    ms = np.where(step == "quick", 20.0, 200.0) * np.where(participant == "pay", 1.0, 3.0)
    return (
        list(participant),
        list(step),
        np.cumsum(random.exponential(0.2, count)),
        ms * random.lognormal(0, 0.4, count),
    )


Played = list[float]


def play(
    advisor: Advisor, data: tuple[list[str], list[str], np.ndarray, np.ndarray], begin: int = 0, end: int | None = None
) -> Played:
    """Return the time-outs of a stream, each outcome told when it is known."""
    participant, step, start, ms = data
    queue: list[tuple[float, int]] = []
    given: Played = []
    for i in range(begin, len(ms) if end is None else end):
        while queue and queue[0][0] <= start[i]:
            _, done = heapq.heappop(queue)
            tell = advisor.gave_up if ms[done] > given[done - begin] else advisor.ended
            tell(done, min(float(ms[done]), given[done - begin]))
        given.append(advisor.advise(i, participant[i], step[i], float(start[i])).timeout_ms)
        heapq.heappush(queue, (start[i] + min(ms[i], given[-1]) / 1000, i))
    return given


@pytest.fixture(scope="module")
def learned() -> tuple[DurationModel, dict[tuple[str, str], StepFigures]]:
    participant, step, start, ms = past()
    figures = step_figures(participant, step, ms)
    advisor = Advisor(DurationModel(), figures, rule=Tracking)
    rows = []
    queue: list[tuple[float, int]] = []
    for i in range(len(ms)):
        while queue and queue[0][0] <= start[i]:
            _, done = heapq.heappop(queue)
            advisor.ended(done, float(ms[done]))
        prepared = advisor.prepare(i, participant[i], step[i], float(start[i]))
        assert prepared is not None
        rows.append(prepared)
        heapq.heappush(queue, (start[i] + ms[i] / 1000, i))
    covariates = np.array([one.covariates for one in rows])
    model = DurationModel(rounds=8).fit(covariates, ms, np.array([one.base for one in rows]))
    return model, with_usual(figures, participant, covariates[:, 3])


def advisor_of(learned: tuple[DurationModel, dict[tuple[str, str], StepFigures]], **more: object) -> Advisor:
    return Advisor(learned[0], learned[1], Bounds(floor_ms=1.0), partial(Tracking, rate=0.2), **more)  # type: ignore[arg-type]


def test_the_promise_holds_on_later_steps_and_each_step_has_its_own_time_out(learned) -> None:  # type: ignore[no-untyped-def]
    data = past(1_500, seed=5)
    given = np.array(play(advisor_of(learned), data))
    assert (data[3] > given).mean() == pytest.approx(0.01, abs=0.006)
    quick = (np.array(data[0]) == "pay") & (np.array(data[1]) == "quick")
    assert np.median(given[quick]) < 0.3 * np.median(given[(np.array(data[0]) == "pay") & ~quick])


def test_a_participant_slower_than_ever_gets_longer_time_outs(learned) -> None:  # type: ignore[no-untyped-def]
    participant, step, start, ms = past(1_000, seed=6)
    ms = np.where(np.arange(1_000) >= 500, ms * 8.0, ms)
    given = np.array(play(advisor_of(learned), (participant, step, start, ms)))
    assert (ms > given)[750:].mean() < 0.05
    fixed = np.array([learned[1][key].tail + learned[1][key].median for key in zip(participant, step, strict=True)])
    assert (ms > np.exp(fixed))[750:].mean() > 0.5


def test_the_future_changes_no_earlier_time_out(learned) -> None:  # type: ignore[no-untyped-def]
    data = past(600, seed=7)
    changed = data[3].copy()
    changed[400:] *= 50.0
    # Also what is under way at the 400th start must tell nothing but its age.
    under_way = [i for i in range(400) if data[2][i] + data[3][i] / 1000 > data[2][400]]
    changed[under_way] = np.inf
    first = play(advisor_of(learned), data)
    second = play(advisor_of(learned), (*data[:3], changed))
    assert under_way
    assert first[:401] == second[:401]
    assert first[401:] != second[401:]


def test_a_restored_advisor_goes_on_as_if_nothing_had_happened(learned) -> None:  # type: ignore[no-untyped-def]
    data = past(500, seed=8)
    one, other = advisor_of(learned), advisor_of(learned)
    play(one, data, 0, 300)
    other.restore(json.loads(json.dumps(one.save())))
    assert play(other, data, 300, 500) == play(one, data, 300, 500)
    assert other.save() == one.save()


def test_a_state_of_another_rule_is_refused(learned) -> None:  # type: ignore[no-untyped-def]
    other = Advisor(learned[0], learned[1], rule=Adaptive)
    with pytest.raises(ValueError, match="Tracking"):
        other.restore(advisor_of(learned).save())


@pytest.mark.parametrize(
    ("participant", "step", "reason"), [("new", "quick", "unknown participant"), ("pay", "new", "unknown step")]
)
def test_what_is_unknown_gets_the_default_and_is_marked(learned, participant, step, reason) -> None:  # type: ignore[no-untyped-def]
    advisor = advisor_of(learned)
    advice = advisor.advise(1, participant, step, 0.0)
    assert (advice.timeout_ms, advice.known, advice.reason) == (30_000.0, False, reason)
    advisor.gave_up(1, 30_000.0)  # tells nothing, breaks nothing
    assert advisor.save() == advisor_of(learned).save()


def test_bounds_hold_and_are_told(learned) -> None:  # type: ignore[no-untyped-def]
    low = Advisor(learned[0], learned[1], Bounds(floor_ms=5_000.0, default_ms=6_000.0)).advise(1, "pay", "quick", 0.0)
    high = Advisor(learned[0], learned[1], Bounds(1.0, cap_ms=3.0, default_ms=2.0)).advise(1, "pay", "quick", 0.0)
    assert (low.timeout_ms, low.bound) == (5_000.0, "floor")
    assert high.timeout_ms == pytest.approx(3.0)
    assert high.bound == "cap"
    with pytest.raises(ValueError, match="floor"):
        Bounds(floor_ms=10.0, cap_ms=5.0)


def test_bad_input_is_refused(learned) -> None:  # type: ignore[no-untyped-def]
    advisor = advisor_of(learned)
    advisor.advise(1, "pay", "quick", 0.0)
    with pytest.raises(ValueError, match="open already"):
        advisor.advise(1, "pay", "quick", 0.0)
    with pytest.raises(ValueError, match="milliseconds"):
        advisor.ended(1, math.nan)
    with pytest.raises(ValueError, match="too few"):
        DurationModel().fit(np.zeros((10, 3 + len(COVARIATES))), np.ones(10), np.zeros(10))
    with pytest.raises(ValueError, match="finite"):
        DurationModel().fit(np.zeros((300, 3 + len(COVARIATES))), np.full(300, np.inf), np.zeros(300))
    with pytest.raises(ValueError, match="not fitted"):
        DurationModel().predict(np.zeros((1, 3 + len(COVARIATES))), np.zeros(1))


def test_a_dropped_attempt_teaches_nothing(learned) -> None:  # type: ignore[no-untyped-def]
    advisor = advisor_of(learned)
    advisor.advise(1, "pay", "quick", 0.0)
    rule = advisor.rules["pay"].save()
    advisor.dropped(1)
    assert advisor.rules["pay"].save() == rule
    assert advisor.recent["pay"].covariates(0.0)[COVARIATES.index("concurrent")] == 0.0


def test_a_step_under_way_counts_with_its_age() -> None:
    recent = Recent()
    recent.started(1, 0.0, math.log(10.0))
    oldest = COVARIATES.index("oldest")
    assert recent.covariates(0.01)[oldest] == pytest.approx(0.0)
    assert recent.covariates(1.0)[oldest] == pytest.approx(math.log(100.0))


def test_a_step_seen_too_seldom_is_unknown() -> None:
    figures = step_figures(["pay"] * 25, ["quick"] * 22 + ["rare"] * 3, np.arange(1.0, 26.0))
    assert set(figures) == {("pay", "quick")}
