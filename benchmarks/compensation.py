"""Compensation: what undoing costs by reverse order, the best static order, learned plans, and an oracle.

``python benchmarks/compensation.py [--data PATH] [--seeds N] [--quick]``. Without PATH: a generated world
(``_compensation_world``), its own for each seed, with sagas, health and draws the same for every arm. The first sagas
are the past: the static order is found there by successive halving over every order, and ours learns there from as many
compensations, 60 % in reverse order and 40 % drawn among what the rules allow. A second static order is the best there
was: each tried on every third past saga, 40 times as many compensations. The rest is scored; ours learns on from what
it did itself. The oracle knows the present health and every equation, not the draws. That ours forgets nothing and how
sure it has to be were chosen on seeds 101 to 104; scored are those from 200 on.

PATH is a parquet of past compensations, one row an undo, scored off-policy: ``saga`` (text), ``at`` (seconds, any
origin), ``done_order`` and ``undo_order`` (numbers: when the step was done, and undone), ``step``, ``way``, ``cost``;
optional ``open_ways`` (list of text, the preferred one first: what the rules left open), ``condition`` (text, of the
step's participant) and ``propensity`` (chance of the whole plan). No order between steps is taken for a rule.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from itertools import groupby, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._compensation_world import CHARGE, MAIL, STEPS, TRIP, Saga, World
from ml.compensation.model import CostModel, fit
from ml.compensation.offpolicy import Gain, always_default, gain
from ml.compensation.outcomes import Past, Undone
from ml.compensation.planner import Evidence, choose, plans
from ml.compensation.rules import Plan, Ruling, arranged, default_plan, violations

PAST, DAYS = 1_500, 14.0
REFIT = 100
FIRST_SEED = 200
LOOKS = 8
"""Draws that the oracle averages over."""
ARMS = ("reverse", "static", "static, hindsight", "ours", "ours, exploring", "oracle")
Static = tuple[tuple[int, ...], str]


@dataclass
class Score:
    """What an arm did on the scored sagas."""

    cost: list[float] = field(default_factory=list)
    stuck: list[bool] = field(default_factory=list)
    violations: int = 0

    def add(self, world: World, saga: Saga, plan: Plan) -> Past:
        """Undo ``saga`` by ``plan``, count, and return it as one more past compensation."""
        result = world.run(saga, [plan], world.draws(saga))
        self.cost.append(float(result.total()[0]))
        self.stuck.append(bool(result.stuck[0]))
        broken = violations(TRIP, saga.situation(), plan)
        self.violations += len(broken) + bool(result.closed_early[0]) + (len(plan) != len(saga.done))
        return past_of(saga, plan, result.cost[0], None)


def past_of(saga: Saga, plan: Plan, costs: NDArray[np.float64], propensity: float | None) -> Past:
    """Return a compensation as it is learned from."""
    undone = tuple(Undone(step, way, float(cost)) for (step, way), cost in zip(plan, costs, strict=True))
    return Past(str(saga.number), saga.at, saga.ruling(), undone, saga.seen(), propensity)


def logged(world: World, sagas: list[Saga], random: np.random.Generator) -> list[Past]:
    """Return the past that ours learns from: its plans were drawn, and their chances are known."""
    found = []
    for saga in sagas:
        ruling = saga.ruling()
        every, default = list(plans(ruling)), default_plan(ruling)
        plan = default if random.random() < 0.6 else every[int(random.integers(len(every)))]
        chance = 0.4 / len(every) + 0.6 * (plan == default)
        found.append(past_of(saga, plan, world.run(saga, [plan], world.draws(saga)).cost[0], chance))
    return found


def follow(ruling: Ruling, static: Static) -> Plan:
    """Return a static order's plan: its stock way where that is open, the preferred way of every other step."""
    order, stock = static
    wanted = []
    for step in (STEPS[place] for place in order if STEPS[place] in ruling.ways):
        ways = ruling.ways[step]
        wanted.append((step, stock if stock in ways else ways[0]))
    return arranged(ruling, wanted)


def every_static() -> list[Static]:
    """Return every static order that keeps the rules, with either way for stock."""
    return [
        (order, way)
        for order in permutations(range(len(STEPS)))
        if order.index(MAIL) < order.index(CHARGE)
        for way in ("release", "let_expire")
    ]


def best_static(world: World, sagas: list[Saga], random: np.random.Generator) -> Static:
    """Return the best static order by successive halving over as many compensations as ours sees."""
    left = every_static()
    total: dict[Static, list[float]] = {one: [] for one in left}
    waiting = [sagas[place] for place in random.permutation(len(sagas)).tolist()]
    for keep in (20, 5, 1):
        share = len(waiting) // len(left) if keep == 1 else max(1, len(sagas) // 3 // len(left))
        for one in left:
            for saga in waiting[:share]:
                plan = follow(saga.ruling(), one)
                # What a saga costs depends on how much there is to undo: compared is the cost for each step.
                total[one].append(float(world.run(saga, [plan], world.draws(saga)).total()[0]) / len(plan))
            waiting = waiting[share:]
        left = sorted(left, key=lambda one: float(np.mean(total[one])))[:keep]
    return left[0]


def best_in_hindsight(world: World, sagas: list[Saga]) -> Static:
    """Return the static order of least cost where each is tried on the same past sagas: no real system can."""
    found = every_static()
    total = np.zeros(len(found))
    for saga in sagas:
        ruling = saga.ruling()
        total += world.run(saga, [follow(ruling, one) for one in found], world.draws(saga)).total()
    return found[int(total.argmin())]


def oracle(world: World, saga: Saga) -> Plan:
    """Return the plan of least expected cost by the world's own equations, over draws that are not the saga's."""
    every = list(plans(saga.ruling()))
    draws = np.tile(world.draws(saga, salt=1, count=LOOKS), (len(every), 1, 1, 1))
    costs = world.run(saga, [plan for plan in every for _ in range(LOOKS)], draws).total()
    return every[int(costs.reshape(len(every), LOOKS).mean(axis=1).argmin())]


def one_seed(seed: int, scored: int) -> tuple[dict[str, Score], list[Past], World]:
    """Return every arm's score on one world, and the past that ours learned from."""
    count = PAST + scored
    world = World(seed, sagas=count, days=DAYS * count / (PAST + 200))
    before, after = world.sagas[:PAST], world.sagas[PAST:]
    random = np.random.default_rng([seed, 1])
    static, hindsight = best_static(world, before, random), best_in_hindsight(world, before[::3])
    past = logged(world, before, random)
    scores = {name: Score() for name in ARMS}
    learning: dict[str, list[Past]] = {"ours": list(past), "ours, exploring": list(past)}
    evidence = {"ours": Evidence(), "ours, exploring": Evidence(explore=0.1)}
    models: dict[str, CostModel | None] = {}
    for number, saga in enumerate(after):
        ruling = saga.ruling()
        scores["reverse"].add(world, saga, default_plan(ruling))
        scores["static"].add(world, saga, follow(ruling, static))
        scores["static, hindsight"].add(world, saga, follow(ruling, hindsight))
        scores["oracle"].add(world, saga, oracle(world, saga))
        for name, known in learning.items():
            if number % REFIT == 0:
                models[name] = fit(known, now=saga.at)
            choice = choose(ruling, models[name], saga.seen(), evidence=evidence[name], random=random)
            known.append(scores[name].add(world, saga, choice.plan))
    return scores, past, world


def chooser(model: CostModel, saga: Past) -> Plan:
    """Choose as ours does."""
    return choose(saga.ruling, model, saga.conditions).plan


def off_policy(world: World, past: list[Past], looks: int = 32) -> tuple[Gain, float]:
    """Return the estimated saving against the default on the past, and the true one of the same plans."""
    chosen: dict[str, Plan] = {}

    def remember(model: CostModel, saga: Past) -> Plan:
        return chosen.setdefault(saga.saga, chooser(model, saga))

    found = gain(past, remember, against=always_default)
    saved = []
    for number in sorted(found.judged, key=int):
        saga, plan = world.sagas[int(number)], chosen[number]
        draws = world.draws(saga, salt=2, count=looks)
        default = default_plan(saga.ruling())
        costs = world.run(saga, [default] * looks + [plan] * looks, np.concatenate([draws, draws])).total()
        saved.append(float(costs[:looks].mean() - costs[looks:].mean()))
    return found, float(np.mean(saved))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return mean and 95% interval over seeds (Student's t)."""
    from scipy.stats import t

    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0
    return mean, mean - half, mean + half


def share(parts: list[float], wholes: list[float]) -> tuple[float, float, float]:
    """Return the sum of ``parts`` over that of ``wholes`` with its 95% interval, by a bootstrap over seeds."""
    drawn = np.random.default_rng(0).integers(len(parts), size=(2_000, len(parts)))
    low, high = np.quantile(np.array(parts)[drawn].sum(1) / np.array(wholes)[drawn].sum(1), [0.025, 0.975])
    return float(np.sum(parts) / np.sum(wholes)), float(low), float(high)


def generated(seeds: int, scored: int, checked: int) -> dict[str, Any]:
    """Run every seed, print the table, and return the figures."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    checks: list[tuple[Gain, float]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        scores, past, world = one_seed(seed, scored)
        floor, base = float(np.mean(scores["oracle"].cost)), float(np.mean(scores["reverse"].cost))
        tuned = float(np.mean(scores["static"].cost))
        for name, score in scores.items():
            cost = float(np.mean(score.cost))
            rows[name].append(
                {
                    "cost": cost,
                    "saving_vs_reverse": 1 - cost / base,
                    "saving_vs_static": 1 - cost / tuned,
                    "saving_vs_hindsight": 1 - cost / float(np.mean(scores["static, hindsight"].cost)),
                    "gained": base - cost,
                    "to_gain": base - floor,
                    "stuck": float(np.mean(score.stuck)),
                    "violations": float(score.violations),
                }
            )
        if seed < FIRST_SEED + checked:
            checks.append(off_policy(world, past))
        print(f"seed {seed} done", file=sys.stderr)
    found: dict[str, Any] = {"seeds": seeds, "sagas_per_seed": scored}
    heads = [f"{head:>26}" for head in ("cost a saga", "saving vs reverse", "vs static in hindsight")]
    print(f"{'arm':18}{''.join(heads)}{'stuck':>8}{'broken':>8}")
    for name, of_arm in rows.items():
        figures = {key: interval([row[key] for row in of_arm]) for key in of_arm[0]}
        broken = int(sum(row["violations"] for row in of_arm))
        cells = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in (figures["cost"],)]
        cells += [
            f"{mean:.1%} ({low:.1%} to {high:.1%})"
            for mean, low, high in (figures["saving_vs_reverse"], figures["saving_vs_hindsight"])
        ]
        print(f"{name:18}{cells[0]:>26}{cells[1]:>26}{cells[2]:>26}{figures['stuck'][0]:>8.1%}{broken:>8}")
        key = name.replace(", ", "_")
        found |= {f"cost_{key}": figures["cost"][0], f"stuck_{key}": figures["stuck"][0], f"violations_{key}": broken}
        if name.startswith("ours"):
            figures["headroom"] = share([row["gained"] for row in of_arm], [row["to_gain"] for row in of_arm])
            for figure in ("saving_vs_reverse", "saving_vs_static", "saving_vs_hindsight", "headroom"):
                mean, low, high = figures[figure]
                found |= {f"{figure}_{key}": mean, f"{figure}_{key}_ci_low": low, f"{figure}_{key}_ci_high": high}
    if checks:
        covered = sum(one.low is not None and one.low <= truth <= (one.high or 0.0) for one, truth in checks)
        print(f"\noff-policy on the past: the interval covers the true saving in {covered} of {len(checks)} worlds")
        for one, truth in checks:
            print(
                f"  estimated {one.saving} ({one.low} to {one.high}), true {truth:.4f}, effective {one.effective:.0f}"
            )
        found |= {"off_policy_covered": covered, "off_policy_worlds": len(checks)}
    return found


def recorded(path: Path) -> dict[str, Any]:
    """Score our choice against the default on recorded compensations; raises ValueError for a file of another form."""
    table = pq.read_table(path)
    wanted = {"saga", "at", "done_order", "undo_order", "step", "way", "cost"}
    if missing := wanted - set(table.column_names):
        raise ValueError(f"{path}: it lacks the columns {', '.join(sorted(missing))}")
    rows = sorted(table.to_pylist(), key=lambda row: (str(row["saga"]), row["undo_order"]))
    past = [_recorded(list(of_one)) for _, of_one in groupby(rows, key=lambda row: str(row["saga"]))]
    found = gain(past, chooser, against=always_default)
    print(f"{len(past)} compensations, {found.mean_cost:.4g} each; saving against the default: ", end="")
    print("no figure" if found.saving is None else f"{found.saving:.4g} ({found.low:.4g} to {found.high:.4g})")
    for problem in found.problems:
        print(f"- {problem}")
    inadmissible = sum(not one.is_admissible for one in past)
    print(f"{inadmissible} of them took a way that was not open")
    return {**found.as_dict(), "inadmissible": inadmissible}


def _recorded(rows: list[dict[str, Any]]) -> Past:
    done = tuple(row["step"] for row in sorted(rows, key=lambda row: row["done_order"]))
    if len(set(done)) < len(done):
        raise ValueError(f"saga {rows[0]['saga']} undoes a step twice")
    ways = {row["step"]: tuple(row.get("open_ways") or (row["way"],)) for row in rows}
    undone = tuple(Undone(row["step"], row["way"], float(row["cost"])) for row in rows)
    conditions = {row["step"]: str(row["condition"]) for row in rows if row.get("condition") is not None}
    propensity = rows[0].get("propensity")
    ruling = Ruling(done, ways, {}, {}, frozenset())
    return Past(str(rows[0]["saga"]), float(rows[0]["at"]), ruling, undone, conditions, propensity)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a parquet of past compensations")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="few seeds: ends within a minute")
    options = parser.parse_args()
    began = time.perf_counter()
    if options.data:
        try:
            found = recorded(options.data)
        except (ValueError, OSError) as error:
            parser.error(str(error))
    else:
        seeds = min(options.seeds, 3) if options.quick else options.seeds
        found = generated(seeds, scored=100 if options.quick else 200, checked=0 if options.quick else 5)
    print(json.dumps({"benchmark": "compensation", **found, "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
