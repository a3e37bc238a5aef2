"""Wrong cells of two kinds of made tables that no training saw: contradicting sources, records of articles.

``uv run python benchmarks/cells/unseen.py [--seeds N]``: precision, recall and F1 without labels and with 20 labelled
rows. *Departures*: several sources tell the times of a flight; some copy from each other, so that the majority may be
wrong. *Articles*: titles, journals, ISSN, dates and pages that are missing, abbreviated or in another form. Both stand
for tables of Raha's that are not at hand (flights, rayyan); published F1 with 20 rows: 0.81 and 0.79.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Shown

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from assets.quality.cell_model import shipped
from ml.cells.detector import Detector, threshold
from ml.cells.table import table

Columns = dict[str, list[str]]
_SOURCES = ("north", "boards", "gatewatch", "skyline", "terminal", "wayfare", "plannr", "aeroinfo")
_WORDS = (
    *("cell", "growth", "of", "rats", "in", "trials", "with", "oral", "therapy", "for", "acute", "renal"),
    *("and", "late", "cardiac", "disease", "among", "adults"),
)

_JOURNALS = {
    "Annals of Renal Care": "Ann Ren Care",
    "Journal of Clinical Trials": "J Clin Trials",
    "Heart and Vessels": "Heart Vessels",
    "Archives of Oral Therapy": "Arch Oral Ther",
    "Acute Medicine Quarterly": "Acute Med Q",
}


def departures(random: np.random.Generator) -> tuple[Columns, Columns]:
    """Return dirty and clean columns: 150 flights by eight sources of unequal worth, two of which copy a third."""
    names = ("source", "flight", "scheduled_departure", "departure", "scheduled_arrival", "arrival")
    dirty: Columns = {name: [] for name in names}
    clean: Columns = {name: [] for name in names}
    worth = random.beta(3, 2, len(_SOURCES))
    copies = {6: 2, 7: 2}
    for number in range(150):
        begins = int(random.integers(300, 1_200))
        ends = begins + int(random.integers(60, 300))
        truth = [begins, begins + int(random.exponential(15)), ends, ends + int(random.normal(5, 15))]
        told: dict[int, list[str]] = {}
        for source, name in enumerate(_SOURCES):
            values = []
            for at in truth:
                drawn = random.random()
                shift = int(random.integers(1, 40)) * (1 if random.random() < 0.7 else -1)
                wrong = "" if drawn > 1 - 0.3 * (1 - worth[source]) else _clock(at + shift)
                values.append(_clock(at) if drawn < worth[source] else wrong)
            told[source] = told[copies[source]] if source in copies and random.random() < 0.8 else values
            if random.random() < 0.15:
                continue
            for column, value, right in zip(
                names,
                [name, f"XY-{number + 100}", *told[source]],
                [name, f"XY-{number + 100}", *map(_clock, truth)],
                strict=True,
            ):
                dirty[column].append(value)
                clean[column].append(right)
    return dirty, clean


def _clock(minute: int) -> str:
    hour, rest = divmod(minute % 1_440, 60)
    return f"{hour % 12 or 12}:{rest:02d} {'a.m.' if hour < 12 else 'p.m.'}"


def articles(random: np.random.Generator) -> tuple[Columns, Columns]:
    """Return dirty and clean columns of 800 articles; one in seven cells of some columns has another form or none."""
    names = ("title", "journal", "abbreviation", "issn", "volume", "created", "pages")
    clean: Columns = {name: [] for name in names}
    issn = {name: f"{random.integers(1000, 9999)}-{random.integers(1000, 9999)}" for name in _JOURNALS}
    for _ in range(800):
        journal = list(_JOURNALS)[int(random.integers(len(_JOURNALS)))]
        first = int(random.integers(1, 900))
        year, month, day = (int(random.integers(low, high)) for low, high in ((1990, 2016), (1, 13), (1, 29)))
        row = (
            " ".join(random.choice(_WORDS, int(random.integers(4, 10)))).capitalize(),
            journal,
            _JOURNALS[journal],
            issn[journal],
            str(random.integers(1, 60)),
            f"{month}/{day}/{year % 100:02d}",
            f"{first}-{first + int(random.integers(2, 20))}",
        )
        for name, value in zip(names, row, strict=True):
            clean[name].append(value)
    forms: dict[str, Callable[[str], str]] = {
        "journal": lambda value: _JOURNALS[value].lower(),
        "abbreviation": lambda value: value.replace(" ", ". ") + ".",
        "issn": lambda value: value.replace("-", ""),
        "created": lambda value: "/".join(value.split("/")[::-1]),
        "pages": lambda value: value.split("-")[0] + "-" + value.split("-")[1][-1:],
    }
    dirty = {
        name: [
            value
            if name not in forms or random.random() > 0.14
            else ("" if random.random() < 0.3 else forms[name](value))
            for value in values
        ]
        for name, values in clean.items()
    }
    return dirty, clean


def scores(wrong: np.ndarray, said: np.ndarray) -> tuple[float, float, float]:
    """Return precision, recall and F1."""
    hit = float((wrong & said).sum())
    return hit / max(said.sum(), 1), hit / max(wrong.sum(), 1), 2 * hit / max(wrong.sum() + said.sum(), 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    shown = Shown("table", "cells wrong", "labels", "precision", "recall", "F1", "lowest F1")
    for name, make in (("departures", departures), ("articles", articles)):
        found: dict[int, list[tuple[float, float, float]]] = {0: [], 20: []}
        share = []
        for seed in range(seeds):
            dirty, clean = make(np.random.default_rng([17, seed]))
            wrong = np.array([[a != b for a, b in zip(dirty[c], clean[c], strict=True)] for c in dirty]).T
            detector = Detector(table(list(dirty.items())), shipped())
            p = detector.unlabelled
            found[0].append(scores(wrong, p >= threshold(p)))
            labelled, asked = detector.learn(wrong.__getitem__, seed=seed)
            rest, truth = np.delete(labelled, asked, axis=0), np.delete(wrong, asked, axis=0)
            found[20].append(scores(truth, rest >= threshold(rest)))
            share.append(wrong.mean())
        for labels, figures in found.items():
            mean = np.mean(figures, axis=0)
            lowest = min(one[2] for one in figures)
            shown.add_row(name, f"{np.mean(share):.2f}", str(labels), *(f"{x:.2f}" for x in mean), f"{lowest:.2f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
