"""What stands: policies in force, champion models and learned time-outs, read whole and swapped in one step.

What belongs here: reading them, and keeping what was known while a store does not answer. What does not: what follows
from them for a saga (:mod:`services.orchestrator.advice`).
"""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Thread
from typing import Any, Final, Protocol, TypeVar

from ml.sagas.lean import Score, scorer
from ml.sagas.model import FailureModel
from ml.sagas.state import Layout
from ml.sagas.types import TYPES, model_name, saga_type
from ml.timeouts.learning import Learned
from resources.decisions import StoredDecision
from resources.registry import ModelVersion

log = logging.getLogger("isthmus.orchestrator")

T = TypeVar("T")
KIND: Final = "saga_policy"
_LEARNED_AT: Final = "SELECT toString(max(learned_at)) AS at FROM ml.step_timeouts"
_LEARNED: Final = "SELECT learned FROM ml.step_timeouts WHERE toString(learned_at) = {at:String} LIMIT 1"
_SUBJECTS: Final = "SELECT DISTINCT subject FROM ops.decisions WHERE kind = {kind:String}"


@dataclass(frozen=True, slots=True)
class InForce:
    """The last good policy of a saga type; it stays, marked, when its validity has ended."""

    decision_id: str
    action: Mapping[str, Any]
    valid_to: datetime


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that may speak for an outcome, made ready to be asked: laid out once, by whoever reads it."""

    version: ModelVersion
    model: FailureModel
    score: Score = field(init=False, repr=False, compare=False)
    """The probabilities of rows, as the model's own and much sooner."""
    layout: Layout = field(init=False, repr=False, compare=False)
    """Where the features of a saga's events go."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", scorer(self.model))
        object.__setattr__(self, "layout", Layout(self.model.features))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What was learned of the durations of steps; ``at`` names it, and is empty where nothing was."""

    at: str = ""
    learned: Learned | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that advice rests on, at one moment."""

    policies: Mapping[str, InForce] = field(default_factory=dict)
    champions: Mapping[str, tuple[Champion, ...]] = field(default_factory=dict)
    """By saga type, for its failures, the costliest to miss first."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, by store, and the class of the error."""
    timeouts: Timeouts = field(default_factory=Timeouts)


class Book(Protocol):
    """What is needed of the book of decisions."""

    def in_force(self, kind: str, subject: str) -> StoredDecision | None:
        """Return the last good decision."""


class Tables(Protocol):
    """What is needed of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""


class Models(Protocol):
    """What is needed of the registry."""

    def find(self, name: str, alias: Any) -> ModelVersion | None:
        """Return the version that an alias points at."""

    def load(self, version: ModelVersion) -> Any:
        """Return the model."""


class Keeper:
    """Holds what stands, and reads it again every ``seconds`` in a thread of its own."""

    def __init__(self, tables: Tables, book: Book, models: Models, *, seconds: float = 5.0) -> None:
        self.standing = Standing()
        """Replaced whole: a request sees one or the other, never a mixture."""
        self._tables = tables
        self._book = book
        self._models = models
        self._seconds = seconds
        self._read_at: float | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="standing", daemon=True)

    @property
    def age(self) -> float | None:
        """Seconds since the stores were last read, whether they answered or not; None before the first time."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    def start(self) -> None:
        """Begin to read, now and again."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, at the latest with the reading that it is in."""
        self._stop.set()
        self._thread.join(5)

    def renew(self) -> None:
        """Read both stores; what one of them does not tell stays as it was known."""
        known = self.standing
        problems: dict[str, str] = {}
        policies = self._asked("warehouse", self._policies, known.policies, problems)
        # A declared type may have a champion before its first policy.
        names = sorted({*policies, *TYPES})
        champions = self._asked("registry", lambda: self._champions(names, known.champions), known.champions, problems)
        timeouts = self._asked("warehouse", lambda: self._timeouts(known.timeouts), known.timeouts, problems)
        for store in problems.keys() - known.problems.keys():
            log.warning("the %s does not answer (%s); what was known stays in force", store, problems[store])
        for store in known.problems.keys() - problems.keys():
            log.info("the %s answers again", store)
        self.standing = Standing(policies, champions, problems, timeouts)
        self._read_at = time.monotonic()

    def _run(self) -> None:
        first = True
        while not self._stop.is_set():
            self.renew()
            if first:
                # Half a million objects of libraries are there for good by now. To look through them again for garbage
                # takes some hundred milliseconds, in which no question is answered.
                gc.collect()
                gc.freeze()
                first = False
            self._stop.wait(self._seconds)

    @staticmethod
    def _asked(store: str, ask: Callable[[], T], known: T, problems: dict[str, str]) -> T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 (whatever a store does, sagas go on with what is known)
            # Its text may hold an address with a password in it.
            problems[store] = type(error).__name__
            return known

    def _policies(self) -> dict[str, InForce]:
        found = {}
        for row in self._tables.query_rows(_SUBJECTS, {"kind": KIND}):
            decision = self._book.in_force(KIND, row["subject"])
            if decision is not None and decision.action.get("steps"):
                found[decision.subject] = InForce(str(decision.decision_id), decision.action, decision.valid_to)
        return found

    def _timeouts(self, known: Timeouts) -> Timeouts:
        at = self._tables.query_rows(_LEARNED_AT)[0]["at"]
        if at == known.at:
            return known
        rows = self._tables.query_rows(_LEARNED, {"at": at})
        return Timeouts(at, Learned.restore(json.loads(rows[0]["learned"])) if rows else None)

    def _champions(
        self, names: list[str], known: Mapping[str, tuple[Champion, ...]]
    ) -> dict[str, tuple[Champion, ...]]:
        return {name: self._of_type(name, known.get(name, ())) for name in names}

    def _of_type(self, name: str, known: tuple[Champion, ...]) -> tuple[Champion, ...]:
        loaded = {(one.version.name, one.version.version): one for one in known}
        failures = [outcome for outcome in saga_type(name).outcomes if outcome.is_failure]
        champions = []
        for outcome in sorted(failures, key=lambda one: -one.missed / one.false_alarm):
            version = self._models.find(model_name(name, outcome.name), "champion")
            if version is None:
                continue
            known_already = loaded.get((version.name, version.version))
            champions.append(known_already or Champion(version, self._models.load(version)))
        return tuple(champions)
