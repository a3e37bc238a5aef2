"""Time-outs that keep a promised share of false ones: tail, price, correction, advisor."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from ml.timeouts.advisor import Advisor, Bounds
from ml.timeouts.conformal import LIMIT, Tracking
from ml.timeouts.learning import History, Learned, learn
from ml.timeouts.model import DurationModel, step_figures
from ml.timeouts.price import Tail, offer
from ml.timeouts.recent import COVARIATES, Recent
from ml.timeouts.trees import Trees, trees_of


def errors(rule: Tracking, scores: np.ndarray, delay: int = 0, names: str = "a") -> np.ndarray:
    """Return which scores lie above their price, each outcome told ``delay`` observations later, names in turn."""
    waiting: list[tuple[str, bool]] = []
    found = np.zeros(len(scores), dtype=bool)
    for i, score in enumerate(scores):
        name = names[i % len(names)]
        found[i] = score > rule.log_price(name)
        waiting.append((name, bool(found[i])))
        if len(waiting) > delay:
            rule.outcome(*waiting.pop(0))
    return found


@pytest.mark.parametrize("delay", [0, 50])
def test_the_share_holds_under_drift_and_with_late_outcomes(delay: int) -> None:
    random = np.random.default_rng(2)
    scores = random.normal(-0.5, 0.4, 20_000) + np.linspace(0.0, 2.5, 20_000)
    assert (scores > 0.0).mean() > 0.4  # what no correction would do
    assert errors(Tracking({"a": 0.0}), scores, delay).mean() == pytest.approx(0.01, abs=0.0025)


def test_tracking_keeps_its_bound_whatever_the_stream_and_the_delay() -> None:
    scores = np.where(np.arange(9_000) // 300 % 2, 2.0, -1.0)  # jumps that nothing foretells
    share = errors(Tracking({"a": 0.0}, pooled_rate=0.1, own_rate=0.0), scores, delay=5).mean()
    assert abs(share - 0.01) <= (2 * LIMIT + 0.1) / (0.1 * 9_000)


def test_the_pooled_part_follows_what_a_participant_alone_sees_too_seldom() -> None:
    scores = np.random.default_rng(3).normal(0.8, 0.4, 3_000)  # far above where the past had them
    names = "abcdef"
    alone = errors(Tracking(dict.fromkeys(names, 0.0), pooled_rate=0.0, own_rate=0.4), scores, names=names)
    pooled = errors(Tracking(dict.fromkeys(names, 0.0), pooled_rate=0.3, own_rate=0.1), scores, names=names)
    assert pooled[:600].mean() < 0.5 * alone[:600].mean()


def test_each_participant_comes_to_the_share_by_its_own_part() -> None:
    random = np.random.default_rng(4)
    scores = random.normal(0.0, 0.4, 20_000)
    scores[::2] += 1.5  # of "a" only
    found = errors(Tracking(dict.fromkeys("ab", 0.0), own_rate=0.2), scores, names="ab")
    assert found[::2].mean() == pytest.approx(0.01, abs=0.004)
    assert found[1::2].mean() == pytest.approx(0.01, abs=0.004)


def test_a_storm_of_time_outs_does_not_wind_up() -> None:
    rule = Tracking({"a": 0.0})
    for _ in range(1_000):
        rule.outcome("a", True)
    assert rule.log_price("a") == 2 * LIMIT
    steps = 0
    while rule.log_price("a") > 0.0 and steps < 5_000:
        rule.outcome("a", False)
        steps += 1
    assert steps <= 2 * LIMIT / (0.35 * 0.01) + 1


def test_an_error_that_is_withdrawn_leaves_nothing() -> None:
    rule = Tracking({"a": 0.0, "b": 0.0})
    rule.outcome("a", True)
    assert rule.log_price("a") > rule.log_price("b") > 0.0
    rule.withdraw("a")
    assert rule.log_price("a") == pytest.approx(0.0)
    assert rule.log_price("b") == pytest.approx(0.0)


def test_a_price_that_was_learned_anew_takes_over_no_correction() -> None:
    rule, same, other = Tracking({"a": 0.0}), Tracking({"a": 0.0}), Tracking({"a": 1.0})
    rule.outcome("a", True)
    same.load(rule.save())
    other.load(rule.save())
    assert same.log_price("a") == rule.log_price("a")
    assert other.log_price("a") == 1.0


def test_one_price_cuts_a_given_share_with_less_waiting_than_one_quantile() -> None:
    tails = [Tail(0.0, 1.2), Tail(0.0, 4.0), Tail(1.0, 2.0)]

    def survival(tail: Tail, at: float) -> float:
        return 0.1 * math.exp(-tail.index * (at - tail.start))

    waited = sum(math.exp(tail.quantile(math.log(0.01))) for tail in tails)
    low, high = -5.0, 15.0  # the price that cuts 1 % over all
    for _ in range(60):
        price = (low + high) / 2
        share = sum(survival(tail, offer(tail, 0.0).timeout(price)) for tail in tails) / 3
        low, high = (price, high) if share > 0.01 else (low, price)
    assert sum(math.exp(offer(tail, 0.0).timeout(price)) for tail in tails) < 0.9 * waited


def test_the_offer_is_where_waiting_longer_stops_to_pay() -> None:
    tail, price = Tail(0.5, 1.7), 40.0

    def cost(log_ms: float) -> float:
        return math.exp(log_ms) / 9.0 + price * 0.1 * math.exp(-tail.index * (log_ms - tail.start))

    best = offer(tail, math.log(9.0)).timeout(math.log(price))
    assert cost(best) < min(cost(best - 0.01), cost(best + 0.01))
    assert offer(tail, math.log(9.0)).price(best) == pytest.approx(math.log(price))


def test_trees_answer_as_scikit_learn_does() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(5)
    rows = random.normal(size=(2_000, 4))
    fitted = HistGradientBoostingRegressor(loss="quantile", quantile=0.9, max_iter=20, max_leaf_nodes=15)
    fitted.fit(rows, rows[:, 0] * rows[:, 1] + random.normal(size=2_000))
    trees = trees_of(fitted, rows)
    restored = Trees.restore(json.loads(json.dumps(trees.save())))
    expected = fitted.predict(rows[:200])
    assert trees.many(rows[:200]) == pytest.approx(expected)
    assert [restored.one(row) for row in rows[:200].tolist()] == pytest.approx(expected)


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
def learned() -> Learned:
    return learn([History(*past())], DurationModel(rounds=8))


def advisor_of(learned: Learned) -> Advisor:
    return Advisor(learned, Bounds(floor_ms=1.0))


def test_the_promise_holds_on_later_steps_and_each_step_has_its_own_time_out(learned: Learned) -> None:
    data = past(1_500, seed=5)
    given = np.array(play(advisor_of(learned), data))
    assert (data[3] > given).mean() == pytest.approx(0.01, abs=0.006)
    quick = (np.array(data[0]) == "pay") & (np.array(data[1]) == "quick")
    assert np.median(given[quick]) < 0.3 * np.median(given[(np.array(data[0]) == "pay") & ~quick])


def test_a_participant_slower_than_ever_gets_longer_time_outs(learned: Learned) -> None:
    participant, step, start, ms = past(1_000, seed=6)
    ms = np.where(np.arange(1_000) >= 500, ms * 8.0, ms)
    given = np.array(play(advisor_of(learned), (participant, step, start, ms)))
    assert (ms > given)[750:].mean() < 0.05
    own = [learned.figures[key] for key in zip(participant, step, strict=True)]
    fixed = np.array([one.tail + one.median for one in own])
    assert (ms > np.exp(fixed))[750:].mean() > 0.5


def test_the_future_changes_no_earlier_time_out(learned: Learned) -> None:
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


def test_a_restored_advisor_goes_on_as_if_nothing_had_happened(learned: Learned) -> None:
    data = past(500, seed=8)
    one, other = advisor_of(learned), advisor_of(learned)
    play(one, data, 0, 300)
    other.restore(json.loads(json.dumps(one.save())))
    assert play(other, data, 300, 500) == play(one, data, 300, 500)
    assert other.save() == one.save()


def test_what_was_learned_is_saved_as_json(learned: Learned) -> None:
    data = past(200, seed=8)
    restored = Learned.restore(json.loads(json.dumps(learned.save())))
    assert play(advisor_of(restored), data) == play(advisor_of(learned), data)


def test_many_predictions_at_once_are_those_of_one_at_a_time(learned: Learned) -> None:
    rows = np.random.default_rng(6).normal(size=(50, 3 + len(COVARIATES)))
    one_by_one = [learned.model.tail(row, 0.5) for row in rows.tolist()]
    for one, other in zip(learned.model.tails(rows, np.full(50, 0.5)), one_by_one, strict=True):
        assert one.start == pytest.approx(other.start)
        assert one.index == pytest.approx(other.index)


def test_a_state_of_another_form_is_refused(learned: Learned) -> None:
    with pytest.raises(ValueError, match="form 1"):
        advisor_of(learned).restore(advisor_of(learned).save() | {"form": 1})


@pytest.mark.parametrize(
    ("participant", "step", "reason"), [("new", "quick", "unknown participant"), ("pay", "new", "unknown step")]
)
def test_what_is_unknown_gets_the_default_and_is_marked(
    learned: Learned, participant: str, step: str, reason: str
) -> None:
    advisor = advisor_of(learned)
    advice = advisor.advise(1, participant, step, 0.0)
    assert (advice.timeout_ms, advice.known, advice.reason) == (30_000.0, False, reason)
    advisor.gave_up(1, 30_000.0)  # tells nothing, breaks nothing
    assert advisor.save() == advisor_of(learned).save()


def test_bounds_hold_and_are_told(learned: Learned) -> None:
    low = Advisor(learned, Bounds(floor_ms=5_000.0, default_ms=6_000.0)).advise(1, "pay", "quick", 0.0)
    high = Advisor(learned, Bounds(1.0, cap_ms=3.0, default_ms=2.0)).advise(1, "pay", "quick", 0.0)
    assert (low.timeout_ms, low.bound) == (5_000.0, "floor")
    assert high.timeout_ms == pytest.approx(3.0)
    assert high.bound == "cap"
    with pytest.raises(ValueError, match="floor"):
        Bounds(floor_ms=10.0, cap_ms=5.0)


def test_bad_input_is_refused(learned: Learned) -> None:
    advisor = advisor_of(learned)
    advisor.advise(1, "pay", "quick", 0.0)
    with pytest.raises(ValueError, match="in use already"):
        advisor.advise(1, "pay", "quick", 0.0)
    with pytest.raises(ValueError, match="milliseconds"):
        advisor.ended(1, math.nan)
    with pytest.raises(ValueError, match="too few"):
        DurationModel().fit(np.zeros((10, 3 + len(COVARIATES))), np.ones(10), np.zeros(10))
    with pytest.raises(ValueError, match="finite"):
        DurationModel().fit(np.zeros((300, 3 + len(COVARIATES))), np.full(300, np.inf), np.zeros(300))
    with pytest.raises(ValueError, match="not fitted"):
        DurationModel().tail([0.0] * (3 + len(COVARIATES)), 0.0)
    with pytest.raises(ValueError, match="order"):
        History(["a", "a"], ["s", "s"], np.array([1.0, 0.0]), np.ones(2))
    with pytest.raises(ValueError, match="durations"):
        History(["a"], ["s"], np.zeros(1), np.array([math.nan]))
    with pytest.raises(ValueError, match="share"):
        Advisor(learned, target=1.0)


def test_a_dropped_attempt_teaches_nothing(learned: Learned) -> None:
    advisor = advisor_of(learned)
    advisor.advise(1, "pay", "quick", 0.0)
    price = advisor.correction.log_price("pay")
    advisor.dropped(1)
    assert advisor.correction.log_price("pay") == price
    assert advisor.recent["pay"].covariates(0.0)[COVARIATES.index("concurrent")] == 0.0


@pytest.mark.parametrize(("tell", "kept"), [("ended", True), ("never_ended", False)])
def test_a_late_answer_confirms_an_error_and_a_hang_takes_it_back(learned: Learned, tell: str, kept: bool) -> None:
    advisor = advisor_of(learned)
    price = advisor.correction.log_price("pay")
    advisor.advise(1, "pay", "quick", 0.0)
    advisor.gave_up(1, 100.0)
    call: Callable[..., None] = getattr(advisor, tell)
    call(*((1, 500.0) if tell == "ended" else (1,)))
    call(*((1, 500.0) if tell == "ended" else (1,)))  # once is enough
    assert (advisor.correction.log_price("pay") > price + 0.1) is kept


def test_hangs_among_steps_as_fast_as_ever_do_not_lengthen_time_outs_without_end(learned: Learned) -> None:
    advisor, random = advisor_of(learned), np.random.default_rng(9)
    before = advisor.advise(-1, "pay", "quick", 0.0).timeout_ms
    advisor.dropped(-1)
    given = before
    for i in range(400):
        given = advisor.advise(i, "pay", "quick", 5.0 * i).timeout_ms
        if random.random() < 0.4:
            advisor.gave_up(i, given)
        else:
            advisor.ended(i, 20.0 * random.lognormal(0, 0.4))
    assert given < 15 * before


def test_load_that_is_told_takes_the_place_of_what_is_counted() -> None:
    recent = Recent()
    recent.started(1, 0.0, 0.0)
    concurrent = COVARIATES.index("concurrent")
    assert recent.covariates(0.0)[concurrent] == 1.0
    assert recent.covariates(0.0, load=17.0)[concurrent] == 17.0


def test_a_step_under_way_counts_with_its_age() -> None:
    recent = Recent()
    recent.started(1, 0.0, math.log(10.0))
    oldest = COVARIATES.index("oldest")
    assert recent.covariates(0.01)[oldest] == pytest.approx(0.0)
    assert recent.covariates(1.0)[oldest] == pytest.approx(math.log(100.0))


def test_a_step_seen_too_seldom_has_its_participants_figures() -> None:
    figures = step_figures(
        ["pay"] * 25 + ["new"] * 3, ["quick"] * 22 + ["rare"] * 3 + ["one"] * 3, np.arange(1.0, 29.0)
    )
    assert set(figures) == {("pay", "quick"), ("pay", "rare")}
    assert figures["pay", "rare"].median == pytest.approx(math.log(13.0))


def test_durations_that_never_vary_are_learned() -> None:
    count = 400
    history = History(["a"] * count, ["s"] * count, np.arange(float(count)), np.full(count, 50.0))
    advice = Advisor(learn([history], DurationModel(rounds=3)), Bounds(floor_ms=1.0)).advise(1, "a", "s", 1e4)
    assert 50.0 < advice.timeout_ms < 500.0


def test_steps_that_hung_in_the_past_are_learned_from() -> None:
    participant, step, start, ms = past(1_000)
    ms[::50] = np.inf
    learned = learn([History(participant, step, start, ms)], DurationModel(rounds=3))
    assert all(map(math.isfinite, learned.start.values()))
