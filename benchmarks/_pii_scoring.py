"""presidio-evaluator's span metric over two analysers' findings.

What belongs here: tokens, tags and the metric. What does not: the analysers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks._pii_data import Sentence

Spans = Sequence[tuple[int, int, str, float]]

#: The data sets' labels as Presidio's, as presidio-evaluator's notebooks map them.
MAPPING = {
    "ADDRESS": "LOCATION", "STREET_ADDRESS": "LOCATION", "GPE": "LOCATION", "CITY": "LOCATION", "FACILITY": "LOCATION",
    "DOMAIN_NAME": "URL", "NATIONALITY": "NRP", "NORP": "NRP", "ORG": "ORGANIZATION", "FIRST_NAME": "PERSON",
    "LAST_NAME": "PERSON", "PREFIX": "TITLE", "SSN": "US_SSN", "IBAN": "IBAN_CODE", "EMAIL": "EMAIL_ADDRESS",
    "DATE": "DATE_TIME", "TIME": "DATE_TIME", "BIRTHDAY": "DATE_TIME", "ZIP": "ZIP_CODE", "PHONE": "PHONE_NUMBER",
}  # fmt: skip
STRUCTURED = frozenset(
    {"CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "URL", "US_SSN", "US_DRIVER_LICENSE"}
)


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F2 of all personal data as one kind, and by entity: (precision, recall, F2, labelled)."""

    precision: float
    recall: float
    f2: float
    true: int
    predicted: int
    labelled: int
    entities: dict[str, tuple[float, float, float, int]]

    @property
    def structured_recall(self) -> float:
        """Recall over the entities that have a form."""
        rows = [
            (recall, count) for name, (_, recall, _, count) in self.entities.items() if name in STRUCTURED and count
        ]
        return sum(recall * count for recall, count in rows) / max(1, sum(count for _, count in rows))


class Scorer:
    """The metric over a fixed list of sentences: their tokens and labels are made once."""

    def __init__(self, sentences: Sequence[Sentence], model: str) -> None:
        from presidio_evaluator import InputSample
        from presidio_evaluator.data_objects import Span

        self._samples = [
            InputSample(
                full_text=one.text,
                spans=[Span(entity, one.text[start:end], start, end) for start, end, entity in one.spans],
                create_tags_from_span=True,
                scheme="IO",
                sample_id=number,
                token_model_version=model,
            )
            for number, one in enumerate(sentences)
        ]

    def score(self, found: Sequence[Spans], *, iou: float = 0.9) -> Score:
        """Return the score of ``found``; an entity that no sentence is labelled with counts as not predicted.

        The threshold of the overlap is the evaluator's own; 0.75 is what its later notebooks set.
        """
        import numpy as np
        from presidio_evaluator.evaluation import SpanEvaluator

        result = SpanEvaluator(iou_threshold=iou, skip_words=None).calculate_score_on_df(self._frame(found), beta=2)

        def number(value: float) -> float:
            return 0.0 if value is None or np.isnan(value) else float(value)

        return Score(
            number(result.pii_precision),
            number(result.pii_recall),
            number(result.pii_f),
            int(result.pii_true_positives),
            int(result.pii_predicted),
            int(result.pii_annotated),
            {
                name: (number(one.precision), number(one.recall), number(one.f_beta), int(one.num_annotated))
                for name, one in sorted(result.per_type.items())
            },
        )

    def _frame(self, found: Sequence[Spans]) -> Any:
        import pandas as pd
        from presidio_evaluator import span_to_tag

        rows = []
        for number, (sample, spans) in enumerate(zip(self._samples, found, strict=True)):
            predicted = span_to_tag(
                scheme="IO",
                text=sample.full_text,
                starts=[start for start, _, _, _ in spans],
                ends=[end for _, end, _, _ in spans],
                tags=[entity for _, _, entity, _ in spans],
                scores=[score for _, _, _, score in spans],
                tokens=sample.tokens,
            )
            for token, label, tag, at in zip(sample.tokens, sample.tags, predicted, sample.start_indices, strict=True):
                rows.append((number, str(token), MAPPING.get(label, label), MAPPING.get(tag, tag), at))
        frame = pd.DataFrame(rows, columns=["sentence_id", "token", "annotation", "prediction", "start_indices"])
        frame.loc[~frame["prediction"].isin(set(frame["annotation"])), "prediction"] = "O"
        return frame
