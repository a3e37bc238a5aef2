"""Time-outs, retries and guardrails: what the policy says of data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import QuantileRegressor

from ml.policy import COMPLETED, FAILED, TIMED_OUT, Attempts, Limits, Risk, saga_policy, timeout_at
from ml.quantiles import fit_rising_line


def pinball(x: np.ndarray, y: np.ndarray, q: float, intercept: float, slope: float) -> float:
    residual = y - intercept - slope * x
    return float(np.mean(np.maximum(q * residual, (q - 1) * residual)))


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_line_is_as_good_as_a_linear_programs(quantile: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.gamma(3.0, 4.0, 1500)
    y = 100 * (1 + 0.08 * x) * rng.lognormal(0.0, 0.3, 1500)
    line = fit_rising_line(x, y, quantile)
    exact = QuantileRegressor(quantile=quantile, alpha=0.0).fit(x[:, None], y)
    ours = pinball(x, y, quantile, line.intercept, line.slope)
    assert ours <= pinball(x, y, quantile, exact.intercept_, exact.coef_[0]) * (1 + 1e-6)
    assert np.mean(y <= line.at(x)) == pytest.approx(quantile, abs=0.01)


def test_a_line_never_falls_with_the_load() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(0, 10, 500)
    line = fit_rising_line(x, 100 - 5 * x + rng.normal(0, 1, 500), 0.9)
    assert line.slope == 0.0


def test_one_load_gives_the_plain_quantile() -> None:
    y = np.arange(1.0, 101.0)
    assert fit_rising_line(np.zeros(100), y, 0.9).intercept == 90.0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9, 0.99]))
def test_at_most_the_stated_share_lies_above(n: int, seed: int, quantile: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.exponential(5.0, n), rng.lognormal(0.0, 1.0, n)
    line = fit_rising_line(x, y, quantile)
    assert np.mean(y > line.at(x) + 1e-9 * np.abs(y)) <= 1 - quantile + 2 / n


@pytest.mark.parametrize(("x", "y", "q"), [([], [], 0.9), ([1.0], [1.0, 2.0], 0.9), ([1.0], [1.0], 1.0)])
def test_a_line_needs_data_and_a_quantile(x: list[float], y: list[float], q: float) -> None:
    with pytest.raises(ValueError, match=r"need as many|quantile lies"):
        fit_rising_line(np.array(x), np.array(y), q)


def attempts(n: int = 4000, *, seed: int = 1, slope: float = 0.08, fail: float = 0.1, step: str = "charge") -> Attempts:
    """Attempts whose duration rises with the load; a share fails at first and succeeds at the second attempt."""
    rng = np.random.default_rng(seed)
    load = rng.gamma(3.0, 4.0, n)
    run = 100 * (1 + slope * load) * rng.lognormal(0.0, 0.25, n)
    outcome = np.where(rng.random(n) < fail, FAILED, COMPLETED)
    again = np.flatnonzero(outcome == FAILED)
    return Attempts(
        step,
        "payment",
        saga=np.concatenate([np.arange(n), again]),
        attempt=np.concatenate([np.ones(n, int), np.full(len(again), 2)]),
        outcome=np.concatenate([outcome, np.full(len(again), COMPLETED)]),
        run_ms=np.concatenate([run, run[again]]),
        load=np.concatenate([load, load[again]]),
    )


def rail(policy: object, name: str) -> dict[str, object]:
    return next(dict(entry) for entry in policy.guardrails if entry["name"] == name)  # type: ignore[attr-defined]


def test_the_timeout_covers_the_stated_share_at_every_load() -> None:
    data = attempts()
    entry = saga_policy("order", [data]).action["steps"][0]
    allowed = timeout_at(entry, data.load)
    for low, high in ((0, 8), (8, 14), (14, 99)):
        near = (data.load >= low) & (data.load < high) & (data.outcome == COMPLETED)
        assert np.mean(data.run_ms[near] <= allowed[near]) == pytest.approx(0.99, abs=0.012)


def test_the_timeout_rises_with_the_load_between_floor_and_ceiling() -> None:
    entry = saga_policy("order", [attempts()]).action["steps"][0]
    at = timeout_at(entry, np.linspace(0, 1000, 500))
    assert (np.diff(at) >= 0).all()
    assert at[0] >= entry["timeout_floor_ms"]
    assert at[-1] == entry["timeout_ceiling_ms"]
    assert timeout_at(entry, np.array([np.nan]))[0] == entry["timeout_ms"]


def test_the_same_input_gives_the_same_policy_whatever_the_order_of_the_steps() -> None:
    a, b = attempts(), attempts(seed=2, step="reserve")
    assert saga_policy("order", [a, b]) == saga_policy("order", [b, a])


def test_few_observations_take_a_lower_quantile_and_fewer_none() -> None:
    policy = saga_policy("order", [attempts(300)])
    assert policy.action["steps"][0]["timeout_quantile"] == 0.95
    assert rail(policy, "enough_data")["bit"] is True
    none = saga_policy("order", [attempts(40)])
    assert none.action["steps"] == []
    assert "40 durations" not in str(rail(none, "enough_data").get("limit"))


def test_a_step_with_few_observations_keeps_what_is_in_force() -> None:
    before = saga_policy("order", [attempts()]).action
    after = saga_policy("order", [attempts(40)], previous=before).action
    assert after["steps"][0]["timeout_ms"] == before["steps"][0]["timeout_ms"]


def test_a_timeout_moves_by_bounded_steps() -> None:
    before = saga_policy("order", [attempts()]).action
    data = attempts(seed=5)
    slow = Attempts(data.step, data.participant, data.saga, data.attempt, data.outcome, data.run_ms * 20, data.load)
    policy = saga_policy("order", [slow], previous=before)
    assert policy.action["steps"][0]["timeout_ms"] == pytest.approx(3 * before["steps"][0]["timeout_ms"], rel=1e-4)
    assert rail(policy, "max_step")["bit"] is True


def test_timeouts_that_cut_attempts_do_not_shrink_the_next_one() -> None:
    """A policy fed with what it cut itself must not spiral down."""
    data = attempts()
    uncut = saga_policy("order", [data]).action["steps"][0]["timeout_ms"]
    previous = None
    cut_at = np.quantile(data.run_ms, 0.9)
    for _ in range(4):
        cut = data.run_ms > cut_at
        seen = Attempts(
            data.step, data.participant, data.saga, data.attempt,
            np.where(cut, TIMED_OUT, data.outcome), np.minimum(data.run_ms, cut_at), data.load,
        )  # fmt: skip
        policy = saga_policy("order", [seen], previous=previous)
        timeout = policy.action["steps"][0]["timeout_ms"]
        if previous is None:
            assert rail(policy, "censored")["bit"] is True
        assert timeout >= 0.95 * uncut
        previous, cut_at = policy.action, timeout


def test_the_floor_and_the_ceiling_bite_and_say_so() -> None:
    policy = saga_policy("order", [attempts()], limits=Limits(floor_ms=5000.0))
    assert policy.action["steps"][0]["timeout_ms"] == 5000.0
    assert "raised to 5000 ms" in str(rail(policy, "floor")["detail"])
    policy = saga_policy("order", [attempts()], limits=Limits(ceiling_ms=250.0))
    assert policy.action["steps"][0]["timeout_ms"] <= 300.0
    assert rail(policy, "ceiling")["bit"] is True


def test_retries_stop_where_they_no_longer_succeed() -> None:
    good = saga_policy("order", [attempts()]).action["steps"][0]["retry_budget"]
    assert good["max_attempts"] == 2
    data = attempts()
    hopeless = Attempts(
        data.step, data.participant, data.saga, data.attempt,
        np.where(data.attempt == 2, FAILED, data.outcome), data.run_ms, data.load,
    )  # fmt: skip
    policy = saga_policy("order", [hopeless])
    assert policy.action["steps"][0]["retry_budget"]["max_attempts"] == 1
    assert "attempt 2 succeeds 0%" in str(rail(policy, "retry_evidence")["detail"])


def test_a_brown_out_is_not_fed() -> None:
    policy = saga_policy("order", [attempts(fail=0.6)])
    assert policy.action["steps"][0]["retry_budget"]["ratio"] == 0.2
    assert rail(policy, "retry_ratio")["bit"] is True


def test_a_failure_that_comes_fast_does_not_shorten_the_timeout() -> None:
    data = attempts(fail=0.3)
    fast = Attempts(
        data.step, data.participant, data.saga, data.attempt, data.outcome,
        np.where(data.outcome == FAILED, 1.0, data.run_ms), data.load,
    )  # fmt: skip
    slow_entry, fast_entry = (saga_policy("order", [one]).action["steps"][0] for one in (data, fast))
    assert fast_entry["timeout_ms"] == pytest.approx(slow_entry["timeout_ms"], rel=0.1)


def test_unknown_loads_and_durations_are_left_out() -> None:
    data = attempts()
    holes = np.arange(len(data.saga)) % 3 > 0
    thin = Attempts(
        data.step, data.participant, data.saga, data.attempt, data.outcome,
        np.where(np.arange(len(data.saga)) % 5 == 0, np.nan, data.run_ms), np.where(holes, np.nan, data.load),
    )  # fmt: skip
    entry = saga_policy("order", [thin]).action["steps"][0]
    assert entry["load_coefficients"]["load"] == 0.0, "most loads are unknown: no line in the load"
    assert np.isfinite(entry["timeout_ms"])


def test_risk_comes_from_the_model_or_from_nowhere() -> None:
    rule = saga_policy("order", [attempts()])
    assert rule.action["risk_threshold"] is None
    assert rule.action["model"] is None
    assert rail(rule, "risk_model")["bit"] is True
    judged = saga_policy("order", [attempts()], risk=Risk(0.09, "invoice", "saga_failure_order/7"))
    assert judged.action["risk_threshold"] == 0.09
    assert judged.action["model"] == "saga_failure_order/7"


def test_the_expected_effect_is_against_what_is_in_force_and_its_interval_holds_it() -> None:
    data = attempts()
    policy = saga_policy("order", [data])
    effects = {effect["metric"]: effect for effect in policy.expected}
    cut = effects["attempts_cut_share"]
    assert cut["without_action"] == 0.0
    assert cut["with_action"] == pytest.approx(0.01, abs=0.005)
    for effect in effects.values():
        assert effect["low"] <= effect["with_action"] - effect["without_action"] + 1e-6
        assert effect["high"] >= effect["with_action"] - effect["without_action"] - 1e-6
    unchanged = saga_policy("order", [data], previous=policy.action)
    for effect in unchanged.expected:
        assert effect["with_action"] == pytest.approx(effect["without_action"], rel=1e-3, abs=1e-9)


def test_nothing_seen_gives_nothing() -> None:
    policy = saga_policy("order", [])
    assert policy.action["steps"] == []
    assert policy.expected == ()
