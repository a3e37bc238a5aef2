"""A storm of retries, and its end: retries alone keep an outage alive; a budget and deadlines end it.

    uv run python benchmarks/retry_storm.py [--seeds N] [--quick]

The shop in virtual time, its workers three fifths busy. Payment takes four times as long for one minute, then is as
quick as before. What is asked of it meanwhile is tried again by its callers, and is work that nobody waits for any more
when its turn comes: the queue stays full after the fault. Each arm adds one thing to the one before it; the budget and
the deadlines are those of ``examples.client``, the last arm is ``ml.steering``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._policy_arms import Isthmus
from examples.client.budget import RetryBudget
from examples.client.deadline import Deadline, ExpectedDuration
from examples.shop.world.faults import Fault, Kind
from examples.shop.world.policy import Coming, GiveUp, Policy, Send, Wait
from examples.shop.world.run import World, run, sized
from examples.shop.world.saga import End
from ml.steering.decide import Rules
from ml.steering.health import Habits

Floats = NDArray[np.float64]
PLAN = ("inventory", "payment", "notification")
RATE, USAGE, PATIENCE = 40.0, 0.6, 30.0
BEGINS, ENDS, HORIZON = 120.0, 180.0, 600.0
BIN = 20.0
HEALTHY = 0.95
"""Share of a bin's orders that complete, from which the storm is over."""
ARMS = ("retries", "with a budget", "and deadlines", "Isthmus")


@dataclass
class Retrying:
    """Time-outs at twice the p99, four attempts, a tenth of a second between them, and what an arm adds."""

    timeout: float
    budget: bool = False
    deadlines: bool = False
    _budgets: dict[str, RetryBudget] = field(default_factory=dict)
    _expected: dict[str, ExpectedDuration] = field(default_factory=dict)
    _sent: dict[tuple[int, int], float] = field(default_factory=dict)

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""
        if coming.attempts >= 4:
            return GiveUp("attempts")
        if coming.attempts and not coming.asked:
            return Wait(0.1)
        until = Deadline(coming.deadline).earlier(self.timeout, now)
        expected = self._expected.setdefault(coming.participant, ExpectedDuration())
        if self.deadlines and not until.allows(expected.value(now), now):
            return GiveUp("shed")
        budget = self._budgets.setdefault(coming.participant, RetryBudget(0.1, 60.0))
        if self.budget and coming.attempts and not budget.withdraw(now):
            return GiveUp("budget")
        if not coming.attempts:
            budget.deposit(now)
        return Send(self.timeout, tells=self.deadlines)

    def sent(self, coming: Coming, now: float) -> int:
        """Note when."""
        self._sent[coming.saga, coming.step] = now
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> tuple[int, ...]:
        """Learn how long answers take."""
        began = self._sent.pop((coming.saga, coming.step))
        if outcome in ("ok", "declined"):
            self._expected[coming.participant].observe(now - began, now)
        return ()


def a_world(seed: int) -> World:
    """Return the shop with its bad minute."""
    random = np.random.default_rng([seed, 5])
    durations = {name: random.lognormal(np.log(0.1), 0.4, 2_000) for name in PLAN}
    return World(
        plan=PLAN,
        durations=durations,
        slow_durations={},
        workers=sized(durations, PLAN, RATE, USAGE),
        rate=RATE,
        horizon=HORIZON,
        patience=PATIENCE,
        faults=(Fault("payment", Kind.SLOW, BEGINS, ENDS, 4.0),),
    )


def policy(arm: str, world: World, seed: int) -> Policy:
    """Return the policy of an arm."""
    if arm == "Isthmus":
        return Isthmus(Rules(), Habits(), world, world.durations, seed)
    p99 = float(np.quantile(world.durations["payment"], 0.99))
    return Retrying(2 * p99, budget=arm != "retries", deadlines=arm == "and deadlines")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    arguments = parser.parse_args()
    seeds = range(1, 1 + (3 if arguments.quick else arguments.seeds))
    console = Console()
    completed: dict[str, Floats] = {}
    calls: dict[str, float] = {}
    with console.status("[dim]storms") as status:
        for arm in ARMS:
            shares, called = [], []
            for seed in seeds:
                status.update(f"[dim]{arm}, seed {seed}")
                world = a_world(seed)
                outcome = run(world, policy(arm, world, seed), seed)
                shares.append(_by_time(outcome.ends))
                called.append(outcome.summary()["calls"])
            completed[arm], calls[arm] = np.mean(shares, axis=0), float(np.mean(called))
    _print(console, completed, calls, len(seeds))
    figures = {
        arm.replace(" ", "_").lower(): {
            "lost_share": float(1 - completed[arm].mean()),
            "seconds_until_healthy_after_fault": _over(completed[arm]),
            "calls_an_order": calls[arm],
        }
        for arm in ARMS
    }
    print(json.dumps({**figures, "seeds": len(seeds)}))


def _by_time(ends: tuple[End, ...]) -> Floats:
    """Return the share of orders that completed, declines apart, by when they came in."""
    bins = int(HORIZON / BIN)
    came = np.zeros(bins)
    through = np.zeros(bins)
    for end in ends:
        if end.reason != "declined":
            place = min(int(end.began / BIN), bins - 1)
            came[place] += 1
            through[place] += end.reason == ""
    return through / np.maximum(came, 1.0)


def _over(shares: Floats) -> float | None:
    """Return the seconds after the fault from which on all is well; None where that never comes."""
    sick = np.flatnonzero(shares < HEALTHY)
    if not len(sick):
        return 0.0
    if sick[-1] == len(shares) - 1:
        return None
    return max(0.0, float((sick[-1] + 1) * BIN - ENDS))


def _print(console: Console, completed: dict[str, Floats], calls: dict[str, float], seeds: int) -> None:
    bars = " ▁▂▃▄▅▆▇█"
    table = Table(
        title=f"Share of orders that complete, by when they came in; mean of {seeds} seeds",
        caption=f"Calls are for each order. A sign is {BIN:.0f} s, the fault lasts from {BEGINS:.0f} to {ENDS:.0f} s.",
    )
    for column in ("arm", "completed", "lost, %", "well after", "calls"):
        left = column in ("arm", "completed")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    fault = "".join("!" if BEGINS <= place * BIN < ENDS else " " for place in range(int(HORIZON / BIN)))
    table.add_row("[dim]fault", f"[red]{fault}", "", "", "")
    for arm in ARMS:
        line = "".join(bars[round(share * (len(bars) - 1))] for share in completed[arm].tolist())
        after = _over(completed[arm])
        lost = f"{100 * (1 - completed[arm].mean()):.1f}"
        table.add_row(arm, line, lost, "never" if after is None else f"{after:.0f}", f"{calls[arm]:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
