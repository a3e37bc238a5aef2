"""Clean tables to put faults into: samples of real sets under ``ISTHMUS_DATA``, and made ones of many kinds.

What belongs here: tables without errors, as text. What does not: faults (``faults``), and the sets that the benchmark
scores: no table of ``dq_raha`` is read here, neither its dirty nor its clean copy.

Made tables need Faker (``uv run --with faker``); it is no dependency of the project, since only training uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cells.writing import clock_form, dates, faker, holes, many, namer, one_of, phrase, pick, read_words


@dataclass
class World:
    """A clean table; ``sources`` names (source, key, reported columns) where several rows report one thing."""

    name: str
    frame: pd.DataFrame
    reported: list[str] = field(default_factory=list)
    source: str | None = None
    key: str | None = None


def world(rng: np.random.Generator, data: Path) -> World:
    """Return a random clean table: real in one case of three."""
    read_words(data)
    if rng.random() < 0.25:
        return _real(rng, data)
    makers: list[Callable[[np.random.Generator], World]] = [
        _sources, _sources, _publications, _publications, _people, _people, _films, _places, _measures, _orders, _staff,
    ]  # fmt: skip
    made = makers[int(rng.integers(len(makers)))](rng)
    return _dressed(made, rng)


_REAL: dict[str, list[str] | None] = {
    "incidents_bpic2013/events.parquet": None,
    "saga_bpic2012/events.parquet": None,
    "pdm_backblaze/drive_intervals.parquet": None,
    "pdm_cmapss/train_FD001.parquet": None,
    "traces_nezha_trainticket/normal_spans.parquet": None,
    "traces_nezha_trainticket/pod_metrics.parquet": None,
    "traces_nezha_onlineboutique/faulty_checkout_spans.parquet": None,
    "rag_postmortems/docs.parquet": ["uuid", "url", "title", "company", "product", "start_time"],
    "rag_runbooks/docs.parquet": ["doc_id", "repo", "path", "title"],
    "load_azure_llm/AzureLLMInferenceTrace_conv.parquet": None,
    "anomaly_skab/anomaly_free.parquet": None,
}


def _real(rng: np.random.Generator, data: Path) -> World:
    names = list(_REAL)
    name = names[int(rng.integers(len(names)))]
    frame = pd.read_parquet(data / name, columns=_REAL[name])
    size = min(len(frame), int(rng.integers(200, 1800)))
    if rng.random() < 0.5:
        start = int(rng.integers(0, len(frame) - size + 1))
        frame = frame.iloc[start : start + size]
    else:
        frame = frame.iloc[np.sort(rng.choice(len(frame), size, replace=False))]
    width = frame.shape[1]
    if width > 14:
        frame = frame.iloc[:, np.sort(rng.choice(width, 14, replace=False))]
    texts = frame.astype(object).where(frame.notna(), "").astype(str).reset_index(drop=True)
    return World(name.split("/", maxsplit=1)[0], texts)


def _sources(rng: np.random.Generator) -> World:
    """Several sources report the same things: times, prices, places."""
    fake = faker(rng)
    things, sources = int(rng.integers(15, 120)), int(rng.integers(4, 36))
    clock = clock_form(rng)
    kind = int(rng.integers(4))
    letters = many(lambda: fake.lexify("??").upper(), 6)
    keys = {
        0: [
            f"{one_of(rng, letters)}-{rng.integers(100, 9999)}-{fake.lexify('???-???').upper()}" for _ in range(things)
        ],
        1: many(fake.company, things),
        2: [f"{one_of(rng, letters)}{rng.integers(10000, 99999)}" for _ in range(things)],
        3: many(lambda: fake.sentence(4).rstrip("."), things),
    }[kind]
    keys = list(dict.fromkeys(keys))
    things = len(keys)
    base = rng.integers(300, 1380, things)
    attributes: dict[str, list[str]] = {}
    for place in range(int(rng.integers(2, 6))):
        choice = int(rng.integers(5)) if kind else 0
        shifted = base + rng.integers(0, 300, things) * place
        attributes[f"a{place}"] = {
            0: [clock(int(m)) for m in shifted],
            1: [f"{v:.2f}" for v in rng.lognormal(3, 1, things)],
            2: list(pick(rng, many(fake.city, 30), things)),
            3: [str(v) for v in rng.integers(1, 200, things)],
            4: many(fake.name, things * 2)[:things] if things > 2 else ["x"] * things,
        }[choice]
        if len(attributes[f"a{place}"]) < things:
            attributes[f"a{place}"] = list(pick(rng, attributes[f"a{place}"], things))
    names = many(lambda: fake.domain_word() + rng.choice(["", ".com", "_feed"]), sources)
    share = rng.uniform(0.35, 1.0)
    rows = [(s, t) for s in range(len(names)) for t in range(things) if rng.random() < share][:2400]
    frame = pd.DataFrame({"src": [names[s] for s, _ in rows], "key": [keys[t] for _, t in rows]})
    for name, values in attributes.items():
        column = [values[t] for _, t in rows]
        if rng.random() < 0.25:  # truly unknown for some things
            unknown = set(rng.choice(things, max(1, things // 8), replace=False).tolist())
            column = ["" if t in unknown else v for (_, t), v in zip(rows, column, strict=True)]
        frame[name] = column
    return World("sources", frame, list(attributes), "src", "key")


def _publications(rng: np.random.Generator) -> World:
    fake = faker(rng)
    n = int(rng.integers(300, 1500))
    journals = int(rng.integers(20, 250))
    titles = many(namer(rng, fake, 6), journals)
    make_title = namer(rng, fake, 16)
    short = [". ".join(word[: int(rng.integers(2, 6))] for word in title.split()) for title in titles]
    issn = [f"{rng.integers(1000, 9999)}-{rng.integers(100, 999)}{one_of(rng, list('0123456789X'))}" for _ in titles]
    which = pick(rng, range(len(titles)), n).astype(int)
    pages = [(int(a), int(a + d)) for a, d in zip(rng.integers(1, 1500, n), rng.integers(1, 20, n), strict=True)]
    short_to = rng.random() < 0.5
    frame = pd.DataFrame(
        {
            "id": [str(i) for i in range(1, n + 1)],
            "title": [make_title() for _ in range(n)],
            "language": pick(rng, ["eng", "fre", "ger", "spa", "chi", "jpn"], n, 2.2),
            "journal": [titles[j] for j in which],
            "short": [short[j] for j in which],
            "issn": holes(rng, [issn[j] for j in which], 0.2),
            "volume": holes(rng, [str(v) for v in rng.integers(1, 120, n)], 0.2),
            "issue": holes(rng, [str(v) for v in rng.integers(1, 13, n)]),
            "created": dates(rng, n),
            "pages": holes(rng, [f"{a}-{b % 100 if short_to and b // 100 == a // 100 else b}" for a, b in pages], 0.2),
            "authors": [_authors(rng, fake, in_braces=short_to) for _ in range(n)],
        }
    )  # fmt: skip
    return World("publications", frame)


def _authors(rng: np.random.Generator, fake: Any, *, in_braces: bool) -> str:
    count = int(rng.integers(1, 6))
    if in_braces:
        return "{" + ", ".join(f'"{fake.last_name()}, {fake.first_name()[0]}."' for _ in range(count)) + "}"
    return "; ".join(fake.name() for _ in range(count))


def _people(rng: np.random.Generator) -> World:
    """Persons with an address: places depend on each other, dues on state and status."""
    fake = faker(rng)
    n, places = int(rng.integers(300, 2400)), int(rng.integers(20, 400))
    states = many(lambda: fake.lexify("??").upper(), int(rng.integers(5, 45)))
    cities = many(fake.city, places)
    state_of = pick(rng, states, len(cities))
    zips = [f"{z}" for z in rng.choice(np.arange(10000, 99999), len(cities), replace=False)]
    area = {
        state: str(code)
        for state, code in zip(states, rng.choice(np.arange(201, 989), len(states), replace=False), strict=True)
    }
    which = pick(rng, range(len(cities)), n).astype(int)
    married, child = pick(rng, ["S", "M"], n, 0.3), pick(rng, ["Y", "N"], n, 0.3)
    due = {(s, m): str(int(rng.integers(0, 40)) * 100) for s in states for m in "SM"}
    rate = {s: f"{rng.uniform(0, 9):.2f}" for s in states}
    state = [state_of[w] for w in which]
    frame = pd.DataFrame(
        {
            "first": [fake.first_name() for _ in range(n)],
            "last": [fake.last_name() for _ in range(n)],
            "gender": pick(rng, ["M", "F"], n, 0.1),
            "area_code": [area[s] for s in state],
            "phone": [fake.numerify("###-####") for _ in range(n)],
            "city": [cities[w] for w in which],
            "state": state,
            "zip": [zips[w] for w in which],
            "married": married,
            "child": child,
            "salary": [str(int(v)) for v in rng.choice(np.arange(50, 1000), n) * 100],
            "rate": [rate[s] for s in state],
            "single_due": [due[s, m] for s, m in zip(state, married, strict=True)],
            "email": holes(rng, [fake.email() for _ in range(n)]),
        }
    )
    if rng.random() < 0.5:
        frame["street"] = [fake.street_address() for _ in range(n)]
    return World("people", frame)


def _films(rng: np.random.Generator) -> World:
    fake = faker(rng)
    n = int(rng.integers(300, 1800))
    directors, actors = many(fake.name, n // 4), many(fake.name, n)
    make_title = namer(rng, fake, 6)
    genres = [
        "Drama",
        "Comedy",
        "Action",
        "Thriller",
        "Romance",
        "Horror",
        "Adventure",
        "Documentary",
        "Sci-Fi",
        "Family",
    ]
    years = rng.integers(1950, 2020, n)
    unit = one_of(rng, [" min", " minutes", "", " m"])
    countries = many(fake.country, 20)
    languages = ["English", "French", "German", "Hindi", "Spanish,English"]
    released = [f"{rng.integers(1, 29)} {fake.month_name()} {y} ({one_of(rng, countries[:4])})" for y in years]
    frame = pd.DataFrame(
        {
            "id": [f"tt{rng.integers(10**6, 10**7)}" for _ in range(n)],
            "title": [make_title() for _ in range(n)],
            "year": [str(y) for y in years],
            "released": holes(rng, released, 0.3),
            "director": pick(rng, directors, n, 0.4),
            "actors": [", ".join(pick(rng, actors, int(rng.integers(1, 5)), 0.4)) for _ in range(n)],
            "language": holes(rng, list(pick(rng, languages, n, 1.8)), 0.1),
            "country": pick(rng, countries, n, 1.5),
            "duration": holes(rng, [f"{v}{unit}" for v in rng.normal(105, 20, n).astype(int)], 0.2),
            "rating": holes(rng, [f"{v:.1f}" for v in np.clip(rng.normal(6.3, 1.2, n), 1, 10)], 0.2),
            "votes": holes(rng, [f"{int(v):,}" for v in rng.lognormal(8, 2, n)], 0.3),
            "genre": [",".join(dict.fromkeys(pick(rng, genres, int(rng.integers(1, 4)), 0.7))) for _ in range(n)],
            "plot": [phrase(rng, int(rng.integers(8, 25))) for _ in range(n)],
        }
    )  # fmt: skip
    return World("films", frame)


def _places(rng: np.random.Generator) -> World:
    """Makers and their products with a quantity and a share."""
    fake = faker(rng)
    n, makers = int(rng.integers(300, 2200)), int(rng.integers(30, 500))
    make_name = namer(rng, fake, 5)
    companies, cities = many(fake.company, makers), many(fake.city, max(makers // 2, 10))
    states = many(lambda: fake.lexify("??").upper(), 30)
    city_of, phone = (
        pick(rng, range(len(cities)), len(companies)).astype(int),
        [fake.phone_number() for _ in companies],
    )
    state_of = pick(rng, states, len(cities))
    which = pick(rng, range(len(companies)), n, 0.5).astype(int)
    frame = pd.DataFrame(
        {
            "id": [str(v) for v in rng.permutation(n) + 1],
            "product": [make_name() for _ in range(n)],
            "kind": pick(rng, many(lambda: " ".join(w.capitalize() for w in fake.words(2)), 60), n),
            "size": pick(rng, [str(v) for v in (12, 16, 8, 24, 32, 19.2, 16.9)], n, 1.5),
            "share": holes(rng, [f"{v:.3f}".rstrip("0") for v in np.clip(rng.normal(0.06, 0.015, n), 0.01, 0.2)], 0.1),
            "units": holes(rng, [str(v) for v in rng.integers(5, 130, n)]),
            "maker_id": [str(w) for w in which],
            "maker": [companies[w] for w in which],
            "phone": [phone[w] for w in which],
            "city": [cities[city_of[w]] for w in which],
            "state": [state_of[city_of[w]] for w in which],
        }
    )
    return World("places", frame)


def _measures(rng: np.random.Generator) -> World:
    """Organisations by measures: both have attributes of their own, and values with a unit."""
    fake = faker(rng)
    sites, measures = int(rng.integers(10, 90)), int(rng.integers(5, 40))
    site = pd.DataFrame(
        {
            "site_id": [str(v) for v in rng.choice(np.arange(10000, 99999), sites, replace=False)],
            "site": [fake.company().lower() for _ in range(sites)],
            "street": [fake.street_address().lower() for _ in range(sites)],
            "city": pick(rng, [c.lower() for c in many(fake.city, 40)], sites),
            "postcode": [fake.numerify("#####") for _ in range(sites)],
            "phone": [fake.numerify("##########") for _ in range(sites)],
            "owner": pick(rng, [" ".join(fake.words(3)) for _ in range(6)], sites, 1.0),
        }
    )
    codes = [f"{one_of(rng, ['am', 'hf', 'pn', 'sc', 'qk'])}-{i}" for i in range(measures)]
    texts = [phrase(rng, int(rng.integers(6, 28))).lower().rstrip(".") for _ in codes]
    groups = pick(rng, [" ".join(fake.words(2)) for _ in range(5)], measures)
    region = fake.lexify("??").lower()
    rows = [(s, m) for s in range(sites) for m in range(measures)]
    rows = [rows[i] for i in np.sort(rng.choice(len(rows), min(len(rows), 1600), replace=False))]
    frame = site.iloc[[s for s, _ in rows]].reset_index(drop=True)
    frame["code"], frame["measure"] = [codes[m] for _, m in rows], [texts[m] for _, m in rows]
    frame["group"], frame["region_code"] = [groups[m] for _, m in rows], [f"{region}_{codes[m]}" for _, m in rows]
    unit = one_of(rng, ["%", " points", " %"])
    frame["score"] = holes(
        rng,
        [
            f"{v}{unit}"
            for v in np.clip(rng.normal(rng.uniform(50, 100), rng.uniform(3, 30), len(rows)), 0, 100).astype(int)
        ],
    )
    frame["sample"] = holes(rng, [f"{v} cases" for v in rng.integers(1, 900, len(rows))])
    frame["note"] = one_of(rng, ["", "empty", "none", "ok"])
    return World("measures", frame)


def _orders(rng: np.random.Generator) -> World:
    fake = faker(rng)
    n = int(rng.integers(300, 2400))
    skus = [fake.bothify("??-####").upper() for _ in range(int(rng.integers(10, 200)))]
    price = {sku: f"{v:.2f}" for sku, v in zip(skus, rng.lognormal(3, 1, len(skus)), strict=True)}
    name = {sku: " ".join(fake.words(2)) for sku in skus}
    sku = pick(rng, skus, n)
    quantity = rng.integers(1, 9, n)
    frame = pd.DataFrame(
        {
            "order": [fake.uuid4() for _ in range(n)],
            "placed": dates(rng, n),
            "sku": sku,
            "name": [name[s] for s in sku],
            "quantity": [str(q) for q in quantity],
            "price": [price[s] for s in sku],
            "total": [f"{q * float(price[s]):.2f}" for q, s in zip(quantity, sku, strict=True)],
            "currency": pick(rng, ["EUR", "USD", "GBP"], n, 2.0),
            "status": pick(rng, ["shipped", "paid", "cancelled", "returned"], n, 1.0),
            "country": pick(rng, many(fake.country, 25), n),
            "coupon": holes(rng, [fake.bothify("????##") for _ in range(n)], 0.9),
        }
    )
    return World("orders", frame)


def _staff(rng: np.random.Generator) -> World:
    fake = faker(rng)
    n = int(rng.integers(200, 1500))
    units = many(lambda: fake.bs().title(), 12)
    head = {unit: fake.name() for unit in units}
    floor = {unit: str(int(rng.integers(1, 20))) for unit in units}
    jobs = many(fake.job, 40)
    grade = {job: one_of(rng, ["A", "B", "C", "D1", "D2"]) for job in jobs}
    unit, job = pick(rng, units, n), pick(rng, jobs, n)
    frame = pd.DataFrame(
        {
            "number": [f"{i:05d}" for i in rng.choice(99999, n, replace=False)],
            "name": [fake.name() for _ in range(n)],
            "unit": unit, "head": [head[u] for u in unit], "floor": [floor[u] for u in unit],
            "job": job, "grade": [grade[j] for j in job],
            "born": dates(rng, n), "since": dates(rng, n),
            "salary": [f"{v:.0f}" for v in rng.lognormal(10.7, 0.3, n)],
            "email": [fake.email() for _ in range(n)],
            "phone": holes(rng, [fake.numerify("+## ### #######") for _ in range(n)]),
            "site": pick(rng, ["N", "S", "W"], n),
            "color": pick(rng, many(fake.color_name, 20), n),
        }
    )  # fmt: skip
    return World("staff", frame)


def _dressed(made: World, rng: np.random.Generator) -> World:
    """Return the table with another case, some columns left out, a row number, a repeated column."""
    frame = made.frame.astype(str)
    if rng.random() < 0.25:
        frame = frame.apply(lambda column: column.str.lower())
    keep = {made.source, made.key, *made.reported} - {None}
    others = [name for name in frame.columns if name not in keep]
    gone = [name for name in others if rng.random() < 0.2] if len(others) > 4 else []
    frame = frame.drop(columns=gone)
    if rng.random() < 0.5:
        frame.insert(0, "row", [str(i) for i in range(1, len(frame) + 1)])
    made.frame = frame.reset_index(drop=True)
    return made
