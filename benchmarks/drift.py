"""Drift: false alarms on clean data and what is found of known changes, beside PSI, plain KS and Evidently's default.

``python benchmarks/drift.py [--data PATH] [--seeds N] [--quick]``: on shop traffic and on PATH (default
``saga_bpic2012``; a folder of its form). One look: a reference and a sample of n sagas. Every look: the monitor over
each hour, or day, of the last 30 % of the time, beside rivals that look once a block at the newest eight blocks.
Clean means dealt out anew over time (nothing can have changed); the shop's clean runs are also in their own order, with
its day, its wandering load and its brown-outs. Changes: see ``_drift_rows.changed``.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._drift_rows import CHANGES, JUDGED, LEARNED, changed, folder_rows, shop_rows, shuffled
from ml.drift.discovery import q_values
from ml.drift.monitor import Drift, Rows, monitor
from ml.drift.twosample import compare, is_text
from resources.settings import get_settings
from tests.services.install import cache, run, say
from tests.services.process import HarnessError

RATE = 0.05
PEER = ("evidently==0.7.21", "pandas<3")
#: Looks of Evidently's, which takes about a second for each: on clean samples, and not in a quick run.
_PEER_LOOKS = 20
Pair = tuple[dict[str, Any], dict[str, Any]]


def psi(old: Any, new: Any) -> float:
    """Return the population stability index over ten bins of the reference, or its categories."""
    if is_text(old):
        names = np.unique(np.concatenate([old, new]))
        a, b = (np.array([(side == name).mean() for name in names]) for side in (old, new))
    else:
        edges = np.unique(np.nanquantile(old, np.linspace(0, 1, 11)))[1:-1]
        a, b = (
            np.bincount(np.searchsorted(edges, side, "right"), minlength=len(edges) + 1) / len(side)
            for side in (old, new)
        )
    a, b = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
    return float(((b - a) * np.log(b / a)).sum())


def plain(old: Any, new: Any) -> float:
    """Return the p-value of scipy's KS, or chi-square for categories."""
    from scipy.stats import chi2_contingency, ks_2samp

    if is_text(old):
        names = np.unique(np.concatenate([old, new]))
        table = np.array([[np.count_nonzero(side == name) for name in names] for side in (old, new)])
        return float(chi2_contingency(table).pvalue)
    return float(ks_2samp(np.nan_to_num(old, nan=-1e12), np.nan_to_num(new, nan=-1e12)).pvalue)


def by_psi(pair: Pair) -> bool:
    """Return whether PSI is above its usual threshold in any column."""
    return any(psi(old, new) > 0.2 for old, new in zip(*(side.values() for side in pair), strict=True))


def by_plain(pair: Pair) -> bool:
    """Return whether any column's uncorrected test is below the rate."""
    return any(plain(old, new) < RATE for old, new in zip(*(side.values() for side in pair), strict=True))


def by_ours(pair: Pair) -> bool:
    """Return whether any column is called at the false discovery rate."""
    return bool((q_values(np.array([one.p for one in compare(*pair)])) <= RATE).any())


def by_evidently(pairs: list[Pair]) -> list[tuple[bool, bool]] | None:
    """Return (any column, whole) for each pair by Evidently's default; None where it cannot be installed."""
    folder = cache() / "peers" / PEER[0].replace("==", "-")
    python, complete = folder / "bin" / "python", folder / "complete"
    try:
        if not complete.exists():
            say(f"installing {PEER[0]} into {folder}")
            run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
            run(["uv", "pip", "install", "--quiet", "--python", str(python), *PEER])
            complete.write_text(PEER[0])
        with tempfile.TemporaryDirectory() as place:
            given, taken = Path(place) / "pairs", Path(place) / "verdicts"
            given.write_bytes(pickle.dumps(pairs))
            worker = str(Path(__file__).with_name("_drift_evidently.py"))
            subprocess.run([str(python), worker, str(given), str(taken)], check=True, capture_output=True, text=True)
            return [(share > 0, bool(whole)) for share, whole in json.loads(taken.read_text())]
    except (HarnessError, OSError, subprocess.CalledProcessError) as error:
        say(f"Evidently is left out: {str(getattr(error, 'stderr', '') or error).strip()[-300:]}")
        return None


def share(hits: int, of: int) -> tuple[float, float, float]:
    """Return a share with Wilson's 95 % interval."""
    z, p = 1.96, hits / of
    centre, spread = p + z * z / (2 * of), z * ((p * (1 - p) + z * z / (4 * of)) / of) ** 0.5
    return p, max(0.0, (centre - spread) / (1 + z * z / of)), min(1.0, (centre + spread) / (1 + z * z / of))


def shown(found: tuple[float, float, float]) -> str:
    """Return a share and its interval in words."""
    return f"{found[0]:.0%} ({found[1]:.0%} to {found[2]:.0%})"


def pairs_of(rows: Rows, size: int, count: int, what: str | None) -> list[Pair]:
    """Return (reference of 1,000, sample of ``size``) drawn from one stretch without putting back."""
    found = []
    for number in range(count):
        order = np.random.default_rng(number).permutation(len(rows.p))[: 1000 + 2 * size]
        late = np.arange(len(order)) >= 1000
        part = rows.where(order)
        if what:
            late_rows = changed(part, late, what, number)
            late = np.arange(len(late_rows.p)) >= 1000
            part = late_rows
        new = np.flatnonzero(late)[:size]
        found.append(
            tuple({name: values[place] for name, values in part.columns.items()} for place in (np.arange(1000), new))
        )
    return found  # type: ignore[return-value]


def one_look(
    name: str, rows: Rows, *, sizes: tuple[int, ...], clean: int, changes: int, table: Table
) -> dict[str, Any]:
    """Fill the table of single looks and return its figures."""
    line: dict[str, Any] = {}
    for size in sizes:
        for what in (None, *CHANGES[:4]):
            pairs = pairs_of(rows, size, clean if what is None else changes, what)
            arms: dict[str, list[bool]] = {
                "ours": [by_ours(pair) for pair in pairs],
                "psi": [by_psi(pair) for pair in pairs],
                "ks": [by_plain(pair) for pair in pairs],
            }
            peer = by_evidently(pairs[:_PEER_LOOKS]) if what is None and clean > _PEER_LOOKS * 2 else None
            if peer is not None:
                arms |= {"evidently_column": [one for one, _ in peer], "evidently": [whole for _, whole in peer]}
            found = {arm: share(sum(hits), len(hits)) for arm, hits in arms.items()}
            for arm, value in found.items():
                line[f"{name}_{what or 'clean'}_{size}_{arm}"] = round(value[0], 3)
            order = ("ours", "psi", "ks", "evidently_column", "evidently")
            table.add_row(
                name, str(size), what or "clean", *(shown(found[arm]) if arm in found else "" for arm in order)
            )
    return line


def stretches(rows: Rows) -> tuple[int, int, int]:
    """Return the ends of what was learned from, judged on, and watched."""
    at = [int(len(rows.p) * part) for part in (LEARNED, LEARNED + JUDGED)]
    return int(rows.start_us[at[0]]), int(rows.start_us[at[1]]), int(rows.start_us[-1]) + 1


def rivals_over_time(rows: Rows, drift: Drift) -> tuple[bool, bool]:
    """Return whether PSI and plain KS ever alarm, looking after each block at the newest eight."""
    learned, judged, _ = stretches(rows)
    reference = {
        name: values[(rows.start_us >= learned) & (rows.start_us < judged)] for name, values in rows.columns.items()
    }
    hits = [False, False]
    for start in drift.starts[7:]:
        inside = (rows.start_us >= start - 7 * drift.block_us) & (rows.start_us < start + drift.block_us)
        if not inside.any():
            continue
        pair = (reference, {name: values[inside] for name, values in rows.columns.items()})
        hits = [hit or by(pair) for hit, by in zip(hits, (by_psi, by_plain), strict=True)]
        if all(hits):
            break
    return hits[0], hits[1]


def every_look(name: str, make: Callable[[int], Rows], seeds: int, *, rivals: int, table: Table) -> dict[str, Any]:
    """Fill the table of the monitor over time and return its figures; the change comes at a third of the watch."""
    line: dict[str, Any] = {}
    found: dict[str, list[Any]] = {what: [] for what in ("clean", *CHANGES)}
    looked: list[tuple[bool, bool]] = []
    for seed in range(seeds):
        rows = make(seed)
        learned, judged, end = stretches(rows)
        begin = judged + (end - judged) // 3
        for what, delays in found.items():
            told = rows if what == "clean" else changed(rows, rows.start_us >= begin, what, seed)
            drift = monitor(told, learned, judged, end, rate=RATE, seed=seed)
            early = drift.alarm_us is not None and drift.alarm_us <= begin
            delays.append(
                None
                if drift.alarm_us is None or (early and what != "clean")
                else (drift.alarm_us - begin) / drift.block_us
            )
            if what == "clean" and seed < rivals:
                looked.append(rivals_over_time(told, drift))
        line[f"{name}_blocks_watched"], line[f"{name}_block_hours"] = len(drift.starts), drift.block_us / 3.6e9
    for what, delays in found.items():
        known = [one for one in delays if one is not None]
        value = share(len(known), len(delays))
        line[f"{name}_{what}_alarms"] = round(value[0], 3)
        delay = f"{np.median(known):.0f} (to {max(known):.0f})" if known and what != "clean" else ""
        if known and what != "clean":
            line[f"{name}_{what}_delay_blocks"] = float(np.median(known))
        others = [
            shown(share(sum(one[at] for one in looked), len(looked))) if what == "clean" and looked else ""
            for at in (0, 1)
        ]
        if what == "clean" and looked:
            line |= {
                f"{name}_clean_alarms_{arm}": round(sum(one[at] for one in looked) / len(looked), 3)
                for at, arm in enumerate(("psi", "ks"))
            }
        table.add_row(name, what, str(len(delays)), shown(value), delay, *others)
    return line


def main() -> None:
    """Run, print the tables, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the form of saga_bpic2012")
    parser.add_argument("--seeds", type=int, default=20, help="runs of the shop, and deals of the folder")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: ends within a minute")
    options = parser.parse_args()
    began, quick = time.perf_counter(), options.quick
    sizes = (100,) if quick else (100, 500)
    seeds = 2 if quick else options.seeds
    clean, changes = (30, 3) if quick else (100, 20)
    days, per_day = (3.0, 1_500.0) if quick else (6.0, 2_000.0)
    single = Table(
        "data",
        "n",
        "change",
        "ours",
        "PSI 0.2",
        "KS, no correction",
        "Evidently, any column",
        "Evidently, whole",
        title=f"One look: share of samples that alarm (ours promises {RATE:.0%} on clean)",
    )
    over = Table(
        "data",
        "change",
        "runs",
        "monitor alarms",
        "delay, blocks",
        "PSI, every block",
        "KS, every block",
        title="Every look: share of runs that ever alarm",
    )
    shop = {seed: shop_rows(seed, days=days, per_day=per_day) for seed in range(seeds)}
    line: dict[str, Any] = {"benchmark": "drift", "quick": quick, "seeds": seeds}
    line |= one_look("shop", shop[0], sizes=sizes, clean=clean, changes=changes, table=single)
    line |= every_look("shop", shop.__getitem__, seeds, rivals=min(seeds, 10), table=over)
    line |= every_look("shop_dealt", lambda seed: shuffled(shop[seed], seed), seeds, rivals=0, table=over)
    folder = options.data or get_settings().data / "saga_bpic2012"
    if folder.exists():
        loans = folder_rows(folder, 0)
        line |= one_look("loans", loans, sizes=sizes, clean=clean, changes=changes, table=single)
        line |= every_look("loans_dealt", lambda seed: shuffled(loans, seed), seeds, rivals=min(seeds, 10), table=over)
        learned, judged, end = stretches(loans)
        drift = monitor(loans, learned, judged, end, rate=RATE)
        blamed = ", ".join(f"{name} (e = {value:.3g})" for name, value in drift.blamed[:3])
        line["loans_in_order_evidence"] = round(drift.evidence, 1)
        said = f"alarm, {blamed}" if drift.alarm_us else f"no alarm (e = {drift.evidence:.1f})"
    else:
        said = f"{folder} is not there: left out"
    Console(width=180).print(single, over, f"Loans in their own order: {said}")
    missed = [
        f"{key} {value:.1%}"
        for key, value in line.items()
        if key.endswith(("_clean_alarms", "_100_ours", "_500_ours")) and "clean" in key and value > RATE
    ]
    print("missed: " + ("; ".join(missed) if missed else f"no clean figure of ours is above {RATE:.0%}"))
    print(json.dumps({**line, "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
