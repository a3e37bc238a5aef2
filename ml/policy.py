"""Saga policy: time-outs, retry budgets and the risk threshold of one saga type, from its observed steps.

What belongs here: the computation from arrays to the action, its guardrails and its expected effect. What does not:
reading steps or models (``assets.decisions``) and judging whether the decision may go ahead (``ml.decisions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.quantiles import QuantileLine, fit_rising_line

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COMPLETED, FAILED, TIMED_OUT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts of one step, one entry each, all arrays of one length.

    ``saga`` numbers the sagas, ``attempt`` counts from 1, ``outcome`` is COMPLETED, FAILED or TIMED_OUT, ``run_ms`` and
    ``load`` (requests in flight at the participant) are NaN where unknown. A timed-out attempt's duration is how long
    it was waited for: a lower bound.
    """

    step: str
    participant: str
    saga: Ints
    attempt: Ints
    outcome: Ints
    run_ms: Floats
    load: Floats


@dataclass(frozen=True, slots=True)
class Limits:
    """The guardrails of a policy."""

    quantile: float = 0.99
    #: Fewer observations above a quantile than this say nothing about it: a lower quantile is taken, or none.
    tail_observations: int = 10
    fallback_quantiles: tuple[float, ...] = (0.95, 0.9)
    floor_ms: float = 20.0
    #: A time-out below this many times the median would cut attempts that are merely usual.
    floor_over_median: float = 1.5
    #: A time-out above this many times the longest completed attempt waits for what never came.
    ceiling_over_longest: float = 1.5
    ceiling_ms: float = 30 * 86_400_000.0
    #: Against the policy in force, a time-out moves by at most this factor in one decision.
    max_step: float = 3.0
    max_attempts: int = 5
    default_attempts: int = 2
    min_attempts_seen: int = 20
    #: A further attempt must succeed at least this often, by the lower end of its interval.
    min_retry_success: float = 0.2
    retry_ratio: tuple[float, float] = (0.05, 0.2)
    window_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Risk:
    """A registered model's operating point for one saga type; all None where there is no model: a rule decides."""

    threshold: float | None = None
    fallback: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A computed policy: the typed action, the guardrails that were applied, and the expected effect."""

    action: Mapping[str, Any]
    guardrails: tuple[Mapping[str, Any], ...]
    expected: tuple[Mapping[str, Any], ...]


@dataclass(slots=True)
class _Rails:
    """What each limit did: its name, its value, and whether it changed the action."""

    entries: list[dict[str, Any]] = field(default_factory=list)

    def note(self, name: str, limit: float | str | None, bit: bool, detail: str = "") -> None:
        self.entries.append(
            {"name": name, "limit": limit, "bit": bit, **({"detail": detail} if bit and detail else {})}
        )

    def merged(self) -> tuple[dict[str, Any], ...]:
        """Return one entry a limit: it bit where it bit at any step, and the details say where."""
        merged: dict[str, dict[str, Any]] = {}
        for entry in self.entries:
            known = merged.setdefault(entry["name"], {"name": entry["name"], "limit": entry["limit"], "bit": False})
            if known["limit"] != entry["limit"]:
                known["limit"] = "by step"
            known["bit"] = known["bit"] or entry["bit"]
            if detail := entry.get("detail"):
                known["detail"] = f"{known['detail']}; {detail}"[:4000] if "detail" in known else detail
        return tuple(merged.values())


def saga_policy(
    saga_type: str,
    steps: list[Attempts],
    *,
    previous: Mapping[str, Any] | None = None,
    risk: Risk | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> Policy:
    """Compute the policy of one saga type; the same input and seed give the same policy.

    ``previous`` is the action in force: time-outs move from it by bounded steps, and a step without enough durations
    keeps the time-out that it has there, or gets none.
    """
    limits, risk, rails = limits or Limits(), risk or Risk(), _Rails()
    before = {(entry["step"], entry["participant"]): entry for entry in (previous or {}).get("steps", [])}
    entries, judged = [], []
    for attempts in sorted(steps, key=lambda one: (one.step, one.participant)):
        old = before.get((attempts.step, attempts.participant))
        entry = _step_entry(attempts, old, limits, rails)
        if entry is not None:
            entries.append(entry)
            judged.append((attempts, entry, old))
    if risk.threshold is None:
        rails.note("risk_model", None, True, "no calibrated champion: the fallback is never chosen by risk")
    action = {
        "saga_type": saga_type,
        "steps": entries,
        "risk_threshold": risk.threshold,
        "fallback": risk.fallback,
        "model": risk.model if risk.threshold is not None else None,
    }
    return Policy(action, rails.merged(), _expected(judged, seed))


def _step_entry(
    attempts: Attempts, before: Mapping[str, Any] | None, limits: Limits, rails: _Rails
) -> dict[str, Any] | None:
    waited = np.isfinite(attempts.run_ms) & (attempts.outcome != FAILED)  # a failure that comes fast is no duration
    run, load = attempts.run_ms[waited], attempts.load[waited]
    observations = len(run)
    candidates = [limits.quantile, *(q for q in limits.fallback_quantiles if q < limits.quantile)]
    quantile = next((q for q in candidates if observations * (1 - q) >= limits.tail_observations), None)
    name = attempts.step
    rails.note(
        "enough_data",
        float(limits.tail_observations),
        quantile != limits.quantile,
        f"{name}: {observations} durations" + (f", quantile {quantile}" if quantile else ", time-out kept as it was"),
    )
    if quantile is None and before is None:
        return None
    retry = _retry_budget(attempts, run, limits, rails)
    if quantile is None:
        return {**(before or {}), "retry_budget": retry}
    known = np.isfinite(load)
    if known.mean() >= 0.5:
        line = fit_rising_line(load[known], run[known], quantile)
        usual = float(np.median(load[known]))
    else:
        line, usual = fit_rising_line(np.zeros(observations), run, quantile), 0.0
    completed = run[attempts.outcome[waited] == COMPLETED]
    timeout, floor, ceiling = _railed(
        name, line, usual, run=run, completed=completed, before=before, limits=limits, rails=rails
    )
    return {
        "step": name,
        "participant": attempts.participant,
        "timeout_ms": _round(timeout),
        "timeout_quantile": quantile,
        "load_coefficients": {"intercept": _round(line.intercept), "load": _round(line.slope)},
        "timeout_floor_ms": _round(floor),
        "timeout_ceiling_ms": _round(ceiling),
        "observations": observations,
        "retry_budget": retry,
    }


def _railed(
    name: str,
    line: QuantileLine,
    usual: float,
    *,
    run: Floats,
    completed: Floats,
    before: Mapping[str, Any] | None,
    limits: Limits,
    rails: _Rails,
) -> tuple[float, float, float]:
    """Return time-out at the usual load, floor and ceiling, milliseconds, after every guardrail."""
    longest = float(completed.max()) if len(completed) else float(run.max())
    floor = max(limits.floor_ms, limits.floor_over_median * float(np.median(run)))
    ceiling = max(floor, min(limits.ceiling_ms, limits.ceiling_over_longest * longest))
    timeout = float(line.at(usual))
    cut = 1.0 - len(completed) / len(run)
    censored = cut > 1 - line.quantile
    if censored:
        # Attempts beyond the old time-out were never seen to end, so the quantile is a lower bound; a time-out that
        # followed it would shrink with every decision.
        timeout = max(timeout, limits.ceiling_over_longest * float(run.max()))
        ceiling = max(ceiling, min(limits.ceiling_ms, timeout))
    rails.note("censored", 1 - line.quantile, censored, f"{name}: {cut:.1%} of the attempts were cut by a time-out")
    rails.note("floor", None, timeout < floor, f"{name}: {timeout:.0f} raised to {floor:.0f} ms")
    rails.note("ceiling", None, timeout > ceiling, f"{name}: {timeout:.0f} cut to {ceiling:.0f} ms")
    timeout = min(max(timeout, floor), ceiling)
    if before is not None:
        old = float(before["timeout_ms"])
        held = min(max(timeout, old / limits.max_step), old * limits.max_step)
        rails.note("max_step", limits.max_step, held != timeout, f"{name}: {timeout:.0f} held at {held:.0f} ms")
        timeout, floor, ceiling = held, min(floor, held), max(ceiling, held)
    return timeout, floor, ceiling


def _retry_budget(attempts: Attempts, run: Floats, limits: Limits, rails: _Rails) -> dict[str, Any]:
    """Return how often the step may be tried: as long as a further attempt is seen to succeed often enough."""
    allowed, reason = 1, ""
    for attempt in range(2, limits.max_attempts + 1):
        tried = attempts.attempt == attempt
        seen = int(tried.sum())
        if seen < limits.min_attempts_seen:
            allowed = max(allowed, limits.default_attempts)
            reason = f"{attempts.step}: attempt {attempt} seen {seen} times"
            break
        success = int((attempts.outcome[tried] == COMPLETED).sum())
        if _wilson_low(success, seen) < limits.min_retry_success:
            reason = f"{attempts.step}: attempt {attempt} succeeds {success / seen:.0%}"
            break
        allowed = attempt
    rails.note("retry_evidence", limits.min_retry_success, bool(reason), reason)
    first = attempts.attempt == 1
    failing = float((attempts.outcome[first] != COMPLETED).mean()) if first.any() else 0.0
    low, high = limits.retry_ratio
    # Room for half as many failures again as usual; beyond that it is a brown-out, which retries would feed.
    ratio = min(max(1.5 * failing, low), high)
    rails.note("retry_ratio", high, 1.5 * failing > high, f"{attempts.step}: {failing:.1%} of first attempts fail")
    backoff = float(np.median(run)) if len(run) else 100.0
    return {
        "max_attempts": allowed,
        "ratio": _round(ratio),
        "window_seconds": limits.window_seconds,
        "backoff_ms": _round(min(max(backoff, 10.0), 10_000.0)),
    }


def _expected(judged: list[tuple[Attempts, dict[str, Any], Mapping[str, Any] | None]], seed: int) -> tuple[Any, ...]:
    """Return the effect on failed steps, cut attempts and waiting, against the policy in force (or none).

    Intervals are of the difference, 95%, by a Poisson bootstrap over sagas: attempts of one saga are not independent.
    """
    if not judged:
        return ()
    sagas = np.unique(np.concatenate([attempts.saga for attempts, _, _ in judged]))
    weights = np.random.default_rng(seed).poisson(1.0, size=(200, len(sagas))).astype(np.float64)
    weights = np.vstack([np.ones(len(sagas)), weights])  # row 0 is the data itself
    totals = {name: [np.zeros(len(weights)), np.zeros(len(weights))] for name in _METRICS}
    firsts, ended = np.zeros(len(weights)), np.zeros(len(weights))
    for attempts, entry, before in judged:
        position = np.searchsorted(sagas, attempts.saga)
        drawn = weights[:, position]
        first = drawn @ (attempts.attempt == 1).astype(np.float64)
        done = ((attempts.outcome == COMPLETED) & np.isfinite(attempts.run_ms)).astype(np.float64)
        all_done = drawn @ done
        firsts, ended = firsts + first, ended + all_done
        for side, policy in enumerate((entry, before)):
            allowed = _timeout_of(policy, attempts)
            over = done * (np.nan_to_num(attempts.run_ms) > allowed)
            cut = drawn @ over
            wait = drawn @ (done * np.minimum(np.nan_to_num(attempts.run_ms), allowed))
            totals["attempts_cut_share"][side] += cut
            totals["mean_wait_ms"][side] += wait
            most = policy["retry_budget"]["max_attempts"] if policy and "retry_budget" in policy else None
            failing = _failing(attempts, drawn, cut / np.maximum(all_done, 1.0), most)
            totals["failed_steps_share"][side] += first * failing
    effects = []
    for name in _METRICS:
        below = np.maximum(firsts if name == "failed_steps_share" else ended, 1.0)
        with_action, without = totals[name][0] / below, totals[name][1] / below
        low, high = np.quantile((with_action - without)[1:], [0.025, 0.975])
        effects.append(
            {
                "metric": name,
                "with_action": _round(with_action[0]),
                "without_action": _round(without[0]),
                "low": _round(low),
                "high": _round(high),
            }
        )
    return tuple(effects)


_METRICS = ("failed_steps_share", "attempts_cut_share", "mean_wait_ms")


def _timeout_of(policy: Mapping[str, Any] | None, attempts: Attempts) -> Floats:
    """Return the time-out that a policy gives each attempt at its load; infinite where there is no policy."""
    if policy is None:
        return np.full(len(attempts.run_ms), np.inf)
    return timeout_at(policy, attempts.load)


def timeout_at(entry: Mapping[str, Any], load: Floats) -> Floats:
    """Return the time-out of a policy's step at each ``load``, milliseconds; at an unknown load the usual one.

    This is how a reader of the policy applies it: the line in the load, held between floor and ceiling.
    """
    line = entry.get("load_coefficients")
    if not line:
        return np.full(len(load), float(entry["timeout_ms"]))
    raw = line["intercept"] + line["load"] * load
    held = np.clip(raw, entry.get("timeout_floor_ms", 0.0), entry.get("timeout_ceiling_ms", np.inf))
    return np.where(np.isfinite(load), held, float(entry["timeout_ms"]))


def _failing(attempts: Attempts, drawn: Floats, cut: Floats, most: int | None) -> Floats:
    """Return the share of steps that fail after ``most`` attempts (None: as many as were seen), for each draw."""
    failing = np.ones(len(drawn))
    seen = int(attempts.attempt.max()) if len(attempts.attempt) else 1
    success = np.zeros(len(drawn))
    for attempt in range(1, (most or seen) + 1):
        tried = (attempts.attempt == attempt).astype(np.float64)
        if tried.any():
            count = drawn @ tried
            success = drawn @ (tried * (attempts.outcome == COMPLETED)) / np.maximum(count, 1.0)
        failing *= 1.0 - success * (1.0 - cut)
    return failing


def _wilson_low(success: int, trials: int, z: float = 1.96) -> float:
    """Return the lower end of Wilson's 95% interval of a share."""
    share = success / trials
    centre = share + z * z / (2 * trials)
    spread = z * ((share * (1 - share) + z * z / (4 * trials)) / trials) ** 0.5
    return float((centre - spread) / (1 + z * z / trials))


def _round(value: float) -> float:
    """Round to 6 significant digits: a policy is read by people, and equal input gives equal text."""
    return float(f"{float(value):.6g}")
