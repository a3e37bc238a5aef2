"""How the cells of made tables are written: names, phrases, dates, clock times, gaps.

What belongs here: makers of texts. What does not: tables (``worlds``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_LOCALES = ("en_US", "en_US", "en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "pl_PL", "nl_NL")
_WRITTEN: list[str] = []


def read_words(data: Path) -> None:
    """Read what people wrote, once: the words of the incident reports and runbooks under ``data``."""
    if not _WRITTEN:
        for name in ("rag_postmortems", "rag_runbooks"):
            _WRITTEN.extend(" ".join(pd.read_parquet(data / name / "docs.parquet")["text"]).split())


def pick(rng: np.random.Generator, values: Sequence[Any], size: int, skew: float | None = None) -> np.ndarray:
    """Return ``size`` of ``values``, the first ones more often where skewed."""
    skew = float(rng.uniform(0, 1.3)) if skew is None else skew
    p = 1 / np.arange(1, len(values) + 1) ** skew
    return np.array(values, dtype=object)[rng.choice(len(values), size, p=p / p.sum())]


def one_of(rng: np.random.Generator, values: Sequence[str]) -> str:
    """Return one of ``values``."""
    return values[int(rng.integers(len(values)))]


def faker(rng: np.random.Generator) -> Any:
    """Return a Faker of a random country, seeded."""
    from faker import Faker

    fake = Faker(_LOCALES[int(rng.integers(len(_LOCALES)))])
    fake.seed_instance(int(rng.integers(2**31)))
    return fake


def many(make: Callable[[], Any], size: int) -> list[str]:
    """Return up to ``size`` distinct texts."""
    found = dict.fromkeys(str(make()).replace("\n", " ") for _ in range(size * 2))
    return list(found)[:size]


def phrase(rng: np.random.Generator, words: int) -> str:
    """Return so many words in a row of what people wrote, with its case, figures and marks."""
    at = int(rng.integers(len(_WRITTEN) - words))
    text = " ".join(_WRITTEN[at : at + words]).strip(" ,;:-")
    return text[:1].upper() + text[1:] if text else "Untitled"


def namer(rng: np.random.Generator, fake: Any, most: int) -> Callable[[], str]:
    """Return a maker of names of things: invented words, or phrases that people wrote."""
    if rng.random() < 0.4:
        return lambda: " ".join(w.capitalize() for w in fake.words(int(rng.integers(1, most))))
    return lambda: phrase(rng, int(rng.integers(1, most)))


def clock_form(rng: np.random.Generator) -> Callable[[int], str]:
    """Return one way to write a minute of the day."""
    ways: list[Callable[[int], str]] = [
        lambda m: f"{m // 60 % 24:02d}:{m % 60:02d}",
        lambda m: f"{(m // 60 - 1) % 12 + 1}:{m % 60:02d} {'a.m.' if m // 60 % 24 < 12 else 'p.m.'}",
        lambda m: f"{(m // 60 - 1) % 12 + 1}:{m % 60:02d} {'AM' if m // 60 % 24 < 12 else 'PM'}",
        lambda m: f"{m // 60 % 24:02d}{m % 60:02d}",
        lambda m: f"2019-03-{m // 1440 + 4:02d} {m // 60 % 24:02d}:{m % 60:02d}",
    ]
    return ways[int(rng.integers(len(ways)))]


def dates(rng: np.random.Generator, size: int) -> list[str]:
    """Return ``size`` days, all written in one way."""
    days = pd.Timestamp("1970-01-01") + pd.to_timedelta(rng.integers(0, 19000, size), unit="D")
    way = one_of(
        rng,
        [
            "%Y-%m-%d",
            "%m/%d/%Y",
            "%d.%m.%Y",
            "%d %b %Y",
            "%B %d, %Y",
            "%Y",
            "%m/%d/%y",
            "%-m/%-d/%y",
            "%Y-%m-%d %H:%M:%S",
        ],
    )
    return [str(v) for v in days.strftime(way)]


def holes(rng: np.random.Generator, values: Sequence[str], most: float = 0.5) -> list[str]:
    """Return the values, some truly missing in some columns: written as nothing, or by one marker."""
    if rng.random() < 0.65:
        return list(values)
    mark = one_of(rng, ["", "", "", "N/A", "empty", "NULL", "-", "none", "unknown"])
    share = rng.uniform(0.01, most)
    return [mark if rng.random() < share else value for value in values]
