"""How much the confidence of ``ml.knowledge`` is worth: calibration, and precision against coverage.

What belongs here: questions whose answer is there or was taken out, in corpora of several sizes. What does not: the
map itself (``ml.knowledge.confidence``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks._knowledge_sets import Questions
from ml.knowledge.confidence import FITTED, Calibration, Evidence, fit
from ml.knowledge.evaluation import trade
from ml.knowledge.index import Index
from ml.sagas.evaluation import calibration_error

THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9)
#: Documents of the small corpora: a handful of runbooks is the usual case of a young platform.
SMALL = (3, 6, 25, 100)


@dataclass(slots=True)
class Cases:
    """First hits of many questions: what stood behind each, whether it was right, and whether its answer was there."""

    evidence: list[Evidence] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    there: list[bool] = field(default_factory=list)

    def ask(self, asked: Questions, gone: Sequence[int], questions: Sequence[int], *, there: bool) -> None:
        """Ask some questions of the documents but ``gone``."""
        documents, at = asked.without(gone)
        index = Index(documents)
        for question in questions:
            found = index.evidence(asked.questions[question])
            if found is None:
                continue
            top, evidence = found
            self.evidence.append(evidence)
            self.right.append(top in {at.get(one) for one in asked.right[question]})
            self.there.append(there)


def whole(asked: Questions, *, folds: int = 4, seed: int = 0) -> Cases:
    """Ask each question of all documents, and once more of all but its right ones."""
    cases, everything = Cases(), range(len(asked.questions))
    cases.ask(asked, (), everything, there=True)
    fold = np.random.default_rng(seed).permutation(len(everything)) % folds
    for number in range(folds):
        chosen = [question for question in everything if fold[question] == number]
        gone = [at for question in chosen for at in asked.right[question]]
        cases.ask(asked, gone, chosen, there=False)
    return cases


def small(asked: Questions, *, draws: int = 12, seed: int = 0) -> Cases:
    """Ask of random small corpora: as many questions whose answer is there as others whose is not."""
    cases, random = Cases(), np.random.default_rng(seed)
    for size in SMALL:
        for _ in range(draws):
            kept = set(random.permutation(len(asked.documents))[:size].tolist())
            order = random.permutation(len(asked.questions)).tolist()
            answers = [question for question in order if not kept & set(asked.right[question])][: size // 4 + 1]
            present = order[: size // 4 + 1]
            kept |= {at for question in present for at in asked.right[question]}
            answers = [question for question in answers if not kept & set(asked.right[question])]
            gone = [at for at in range(len(asked.documents)) if at not in kept]
            cases.ask(asked, gone, present, there=True)
            cases.ask(asked, gone, answers, there=False)
    return cases


def fitted(sets: Sequence[Questions], *, draws: int = 12) -> Calibration:
    """Return the map fitted on whole and small corpora of these sets."""
    parts = [cases for asked in sets for cases in (whole(asked), small(asked, draws=draws))]
    evidence = [one for cases in parts for one in cases.evidence]
    return fit(evidence, np.array([one for cases in parts for one in cases.right]))


def confidence_report(asked: Questions, others: Sequence[Questions], suffix: str, *, draws: int) -> dict[str, float]:
    """Print and return what confidence is worth on one set: fitted on ``others``, as shipped where there are none."""
    calibration = fitted(others, draws=draws) if others else FITTED
    line = {}
    print(f"confidence {'fitted on ' + ', '.join(one.name for one in others) if others else 'as shipped'}")
    print(f"{'documents':<10} {'from':>5} {'answered':>9} {'right':>6} {'nothing said where there is none':>33}")
    for name, cases in (("all", whole(asked)), ("few", small(asked, draws=draws))):
        confidence = np.array([calibration.probability(one) for one in cases.evidence])
        right, there = np.array(cases.right), np.array(cases.there)
        for point in trade(confidence, right, THRESHOLDS):
            silent = float(np.mean(confidence[~there] < point.threshold))
            print(f"{name:<10} {point.threshold:5.1f} {point.coverage:9.2f} {point.precision:6.2f} {silent:33.2f}")
        error = calibration_error(right, confidence, bins=10)
        at = trade(confidence, right, (0.5,))[0]
        print(f"{name:<10} calibration error {error:.3f}, 10 bins of equal mass; {1 - there.mean():.0%} have no answer")
        line[f"confidence_ece_{name}{suffix}"] = round(error, 4)
        line[f"precision_at_half_{name}{suffix}"] = round(at.precision, 4)
        line[f"coverage_at_half_{name}{suffix}"] = round(at.coverage, 4)
        line[f"accepted_right_{name}{suffix}"] = round(_kept(confidence, right), 4)
        line[f"silent_{name}{suffix}"] = round(float(np.mean(confidence[~there] < 0.5)), 4)
    print()
    return line


def _kept(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the share of right first hits that are answered from a confidence of one half on."""
    return float(np.mean(confidence[right] >= 0.5))
