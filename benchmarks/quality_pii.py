"""Personal data found: F2 by presidio-evaluator's span metric and speed, beside vanilla Presidio in the same run.

``python benchmarks/quality_pii.py [--data PATH] [--seeds N] [--quick]``: PATH is a folder of the form of
``pii_presidio``
and is scored whole. Without it the developers' folder is used, by template: the rules were written on a half, a quarter
was looked at afterwards, and the figures are those of the quarter that never was.

Vanilla is ``AnalyzerEngine`` with every recogniser of its own, the same spaCy model and the threshold of its notebooks
(0.4); its list of top-level domains is kept from the internet. Times are of the processor, both ways in one process,
interleaved; ratios only mean something.

Mixed traffic is the shop's events as they are on the bus, one column a JSON path, with the labelled sentences as the
notes of one event in fifty. The shop's own columns hold customers' addresses of e-mail, and any other finding there is
false. Vanilla reads a sample of the values there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._pii_data import BadFolder, Sentence, drawn, part_of, sentences, shop_columns, structured_columns
from benchmarks._pii_scoring import Score, Scorer, Spans
from ml.pii import columns, fast
from ml.pii.engine import MODEL, FreeText
from resources.settings import get_settings

THRESHOLD = 0.4
AIMS = {
    "f2_over_presidio": "F2 above vanilla Presidio's",
    "structured_recall": "recall of structured entities at least 0.995",
    "mixed_throughput_ratio": "mixed traffic at least 20 times vanilla's throughput, at no lower F2",
    "structured_throughput_ratio": "structured columns at least 100 times",
}


class Vanilla:
    """Presidio as it comes, over the same model."""

    def __init__(self) -> None:
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        # The snapshot that the package ships, instead of a list that it would fetch at the first address.
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
        configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
        engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
        self._engine = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])

    def find(self, texts: Sequence[str]) -> list[Spans]:
        """Return the findings in each text."""
        return [
            [
                (one.start, one.end, one.entity_type, one.score)
                for one in self._engine.analyze(text, "en", score_threshold=THRESHOLD)
            ]
            for text in texts
        ]


def main() -> int:
    """Score, time, print a table and the line of figures."""
    options = _options()
    _quiet()
    try:
        scored = _scored(options.data)
    except BadFolder as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scored = drawn(scored, 150 if options.quick else len(scored), 0)
    ours, vanilla = FreeText(), Vanilla()
    ours.find(["Ada Lovelace lives in London."])
    vanilla.find(["Ada Lovelace lives in London."])

    texts = [one.text for one in scored]
    repeats = 1 if options.quick else options.seeds
    found, our_seconds = _timed(lambda: ours.find(texts), repeats)
    theirs, their_seconds = _timed(lambda: vanilla.find(texts), 1)
    spans = [[(f.start, f.end, f.entity, f.score) for f in findings] for findings in found]
    scorer = Scorer(scored, MODEL)
    score, base = scorer.score(spans), scorer.score(theirs)
    loose, loose_base = scorer.score(spans, iou=0.75), scorer.score(theirs, iou=0.75)
    mixed = _mixed(scored, score, base, ours, vanilla, events=500 if options.quick else 5000)
    structured = _structured(vanilla, rows=20_000 if options.quick else 100_000)

    line = {
        "f2": score.f2,
        "precision": score.precision,
        "recall": score.recall,
        "f2_presidio": base.f2,
        "precision_presidio": base.precision,
        "recall_presidio": base.recall,
        "f2_iou75": loose.f2,
        "f2_iou75_presidio": loose_base.f2,
        "structured_recall": score.structured_recall,
        "structured_recall_presidio": base.structured_recall,
        "texts": len(scored),
        "texts_per_s": len(texts) / our_seconds,
        "throughput_ratio": their_seconds / our_seconds,
        **mixed,
        **structured,
        "entities": {
            name: dict(zip(("precision", "recall", "f2", "labelled"), one, strict=True))
            for name, one in score.entities.items()
        },
        "entities_presidio": {name: {"recall": one[1], "f2": one[2]} for name, one in base.entities.items()},
    }
    missed = _missed(line)
    _print(line, score, base, missed, options.data)
    print(json.dumps({**_rounded(line), "missed": missed}))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with *.jsonl[.gz]: full_text, spans; scored whole")
    parser.add_argument("--seeds", type=int, default=3, help="timed repeats of ours; the fastest counts")
    parser.add_argument("--quick", action="store_true", help="150 sentences, one repeat")
    return parser.parse_args()


def _quiet() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def _scored(folder: Path | None) -> list[Sentence]:
    if folder is not None:
        return sentences(folder)
    return [one for one in sentences(get_settings().data / "pii_presidio") if part_of(one) == "held out"]


def _timed(work: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Return what ``work`` returns, and the least processor time of ``repeats``."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return result, min(seconds)


def _mixed(
    scored: Sequence[Sentence], score: Score, base: Score, ours: FreeText, vanilla: Vanilla, *, events: int
) -> dict[str, Any]:
    """Return speed and F2 on the shop's events with the sentences as notes of one event in fifty."""
    shop = {name: pa.array(values) for name, values in shop_columns(events, 0).items()}
    notes = pa.array([one.text for one in drawn(scored, max(1, events // 50), 1)])
    traffic = {**shop, "$.data.notes": notes}
    found, seconds = _timed(lambda: {name: columns.read(name, values, ours) for name, values in traffic.items()}, 1)
    own = [one for name in shop for findings in found[name] for one in findings]
    mails = sum("@" in value for values in shop.values() for value in values.to_pylist())
    caught = sum(one.entity == "EMAIL_ADDRESS" for one in own)
    false = len(own) - caught

    values = [value for name in shop for value in shop[name].to_pylist()]
    chosen = np.random.default_rng(2).choice(len(values), min(300, len(values)), replace=False)
    sampled, sample_seconds = _timed(lambda: vanilla.find([values[at] for at in chosen]), 1)
    _, notes_seconds = _timed(lambda: vanilla.find(notes.to_pylist()), 1)
    scale = len(values) / len(chosen)
    # Vanilla's findings of entities that no sentence is labelled with do not count, here as there.
    labelled = {name for name, one in base.entities.items() if one[3]}
    theirs = [one for spans in sampled for one in spans if one[2] in labelled | {"EMAIL_ADDRESS"}]
    their_caught = scale * sum(one[2] == "EMAIL_ADDRESS" for one in theirs)
    their_false = scale * len(theirs) - their_caught
    share = len(notes) / len(scored)
    return {
        "mixed_values": len(values) + len(notes),
        "mixed_values_per_s": (len(values) + len(notes)) / seconds,
        "mixed_throughput_ratio": (sample_seconds * scale + notes_seconds) / seconds,
        "mixed_f2": _f2(
            score.true * share + caught, score.predicted * share + len(own), score.labelled * share + mails
        ),
        "mixed_f2_presidio": _f2(
            base.true * share + min(mails, their_caught),
            base.predicted * share + their_caught + their_false,
            base.labelled * share + mails,
        ),
        "mixed_false": false,
        "mixed_false_presidio": round(their_false),
    }


def _f2(true: float, predicted: float, labelled: float) -> float:
    precision, recall = true / max(predicted, 1e-9), true / max(labelled, 1e-9)
    return 5 * precision * recall / max(4 * precision + recall, 1e-9)


def _structured(vanilla: Vanilla, *, rows: int) -> dict[str, Any]:
    """Return speed and recall on columns of structured values; vanilla reads a sample of each."""
    made = structured_columns(rows, 0)
    counted, seconds = _timed(
        lambda: {name: fast.counts(values, fast.context_of(name)) for name, (_, values) in made.items()}, 1
    )
    sample = [value for _, values in made.values() for value in values[:25].to_pylist()]
    _, their_seconds = _timed(lambda: vanilla.find(sample), 1)
    kinds = {name: entity for name, (entity, _) in made.items() if entity}
    recalled = sum(counted[name][0][entity] for name, entity in kinds.items())
    false = sum(sum(found.values()) - found[made[name][0]] for name, (found, _) in counted.items())
    ours, theirs = rows * len(made) / seconds, len(sample) / their_seconds
    return {
        "structured_values_per_s": ours,
        "structured_throughput_ratio": ours / theirs,
        "structured_columns_recall": recalled / (rows * len(kinds)),
        "structured_columns_false": false,
    }


def _missed(line: dict[str, Any]) -> list[str]:
    held = {
        "f2_over_presidio": line["f2"] > line["f2_presidio"],
        "structured_recall": line["structured_recall"] >= 0.995,
        "mixed_throughput_ratio": line["mixed_throughput_ratio"] >= 20
        and line["mixed_f2"] >= line["mixed_f2_presidio"],
        "structured_throughput_ratio": line["structured_throughput_ratio"] >= 100,
    }
    return [AIMS[name] for name, holds in held.items() if not holds]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _print(line: dict[str, Any], score: Score, base: Score, missed: Sequence[str], folder: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=110)
    what = f"{folder}" if folder else "templates never looked at while the rules were written"
    table = Table(title=f"Personal data, {line['texts']} sentences: {what}")
    for name in ("entity", "labelled", "precision", "recall", "F2", "Presidio's recall", "Presidio's F2"):
        table.add_column(name, justify="left" if name == "entity" else "right")
    rows = {"all, as one": (score.precision, score.recall, score.f2, score.labelled), **score.entities}
    bases = {"all, as one": (base.precision, base.recall, base.f2, base.labelled), **base.entities}
    for name, (precision, recall, f2, labelled) in rows.items():
        _, their_recall, their_f2, _ = bases.get(name, (0.0, 0.0, 0.0, 0))
        cells = (f"{value:.3f}" for value in (precision, recall, f2, their_recall, their_f2))
        table.add_row(name, str(labelled), *cells)
    console.print(table)
    speed = Table(title="Speed (processor time; only the ratios mean something)")
    for name in ("what", "a second", "times vanilla", "F2", "Presidio's F2"):
        speed.add_column(name, justify="left" if name == "what" else "right")
    speed.add_row(
        "these sentences",
        f"{line['texts_per_s']:,.0f}",
        f"{line['throughput_ratio']:.1f}",
        f"{line['f2']:.3f}",
        f"{line['f2_presidio']:.3f}",
    )
    speed.add_row(
        "mixed traffic, values", f"{line['mixed_values_per_s']:,.0f}", f"{line['mixed_throughput_ratio']:.0f}",
        f"{line['mixed_f2']:.3f}", f"{line['mixed_f2_presidio']:.3f}",
    )  # fmt: skip
    speed.add_row(
        "structured columns, values",
        f"{line['structured_values_per_s']:,.0f}",
        f"{line['structured_throughput_ratio']:,.0f}",
        "",
        "",
    )
    console.print(speed)
    for aim in missed:
        console.print(f"missed: {aim}")


if __name__ == "__main__":
    raise SystemExit(main())
