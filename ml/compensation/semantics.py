"""What may be done to undo a saga's steps: declared for each saga type, validated when it is read.

What belongs here: the form of a declaration, its conditions, and what they say of known and unknown facts. What does
not: which ways are open in a situation (``rules``), and what they cost (``model``).

A declaration is a YAML file in ``types/``, named after its saga type. A saga type without one has a single way for
each step, ``compensate``, and is undone in reverse order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Fact = bool | float | str
"""A fact by name: ``amount``, or ``STEP.settled`` for one of a step. ``STEP.age_seconds`` is the time since its end."""

FOLDER: Final = Path(__file__).parent / "types"
COMPENSATE: Final = "compensate"
"""The way of a step where nothing is declared for the saga type."""
Name = Annotated[str, Field(min_length=1, max_length=200)]


class DeclarationInvalid(ValueError):
    """A declaration that cannot be used; the text names the file and every problem."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Condition(_Part):
    """A condition on one fact: equal to a value, or a number within bounds (both inclusive)."""

    fact: Name
    equals: bool | str | None = None
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounded = self.at_least is not None or self.at_most is not None
        if bounded == (self.equals is not None):
            raise ValueError("a condition has either equals, or at_least and at_most")
        return self

    def holds(self, facts: Mapping[str, Fact], step: str) -> bool | None:
        """Return whether it holds for ``step``; None where the fact is unknown, or has not the right kind."""
        value = facts.get(f"{step}.{self.fact}", facts.get(self.fact))
        if self.equals is not None:
            return value == self.equals if type(value) is type(self.equals) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return None
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    def words(self) -> str:
        """Return it as people say it."""
        if self.equals is not None:
            return f"{self.fact} is {str(self.equals).lower() if isinstance(self.equals, bool) else self.equals}"
        bounds = [(self.at_least, "at least"), (self.at_most, "at most")]
        return f"{self.fact} is " + " and ".join(f"{how} {value:g}" for value, how in bounds if value is not None)


def all_hold(conditions: tuple[Condition, ...], facts: Mapping[str, Fact], step: str) -> bool | None:
    """Return whether all hold: False where one does not, None where that depends on an unknown fact."""
    held = [condition.holds(facts, step) for condition in conditions]
    return False if False in held else None if None in held else True


class Way(_Part):
    """One way to undo a step.

    ``yields_to`` are ways that go before it: it is closed while one of them is, or may be, possible. ``safe_to_try``:
    the participant refuses it where it is not possible, without harm, so it may be asked while a fact is unknown.
    ``idempotent``: asking twice does what asking once does; any other way is never asked again before its answer came.
    """

    way: Name
    when: tuple[Condition, ...] = ()
    yields_to: tuple[Name, ...] = ()
    safe_to_try: bool = False
    idempotent: bool = True


class Undo(_Part):
    """How a step is undone: its ways, the preferred one first.

    ``irreversible``: there is none, a person decides. ``pivot``: once it is done, the saga only goes forward.
    ``hold_when``: a person decides where any of these holds, or may hold. ``if_unsure``: what follows where it timed
    out, and may or may not have been done: it is undone by a way that is ``safe_to_try``, left, or held for a person.
    """

    step: Name
    ways: tuple[Way, ...] = ()
    irreversible: bool = False
    pivot: bool = False
    hold_when: tuple[Condition, ...] = ()
    if_unsure: Literal["undo", "leave", "hold"] = "undo"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [way.way for way in self.ways]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.step}: a way is declared twice")
        final = self.irreversible or self.pivot
        if final == bool(names):
            raise ValueError(f"{self.step}: {'is final, and has ways' if final else 'has no way, and is not final'}")
        for way in self.ways:
            if unknown := set(way.yields_to) - set(names):
                raise ValueError(
                    f"{self.step}: {way.way} yields to {', '.join(sorted(unknown))}, which is no way of it"
                )
        _acyclic({way.way: set(way.yields_to) for way in self.ways}, f"{self.step}: ways that yield")
        return self


class Order(_Part):
    """A step that is undone before another one, where both are."""

    first: Name
    then: Name
    because: Annotated[str, Field(min_length=1, max_length=500)]


class Rates(_Part):
    """What an undo costs beside its fee, in the unit of the fees."""

    per_second: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    per_retry: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    by_hand: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def cost(self, fee: float, seconds: float, tries: int, *, by_hand: bool) -> float:
        """Return the cost of one undo that took ``seconds`` and ``tries``; ``by_hand``: a person had to end it."""
        return fee + self.per_second * seconds + self.per_retry * (tries - 1) + self.by_hand * by_hand


class Semantics(_Part):
    """How the sagas of one type are undone. ``steps`` stand in the order in which a saga does them."""

    saga_type: Name
    steps: tuple[Undo, ...] = ()
    order: tuple[Order, ...] = ()
    rates: Rates = Rates(per_second=0.001, per_retry=0.05, by_hand=5.0)
    declared: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [undo.step for undo in self.steps]
        if len(set(names)) < len(names):
            raise ValueError("a step is declared twice")
        graph: dict[str, set[str]] = {name: set() for name in names}
        for pair in self.order:
            if unknown := {pair.first, pair.then} - set(names):
                raise ValueError(f"order: {', '.join(sorted(unknown))} is no step of {self.saga_type}")
            graph[pair.then].add(pair.first)
        _acyclic(graph, "order")
        return self

    def of(self, step: str) -> Undo | None:
        """Return how a step is undone; None where that is not declared."""
        if not self.declared:
            return Undo(step=step, ways=(Way(way=COMPENSATE, safe_to_try=True),))
        return next((undo for undo in self.steps if undo.step == step), None)


def parse(text: str, *, name: str = "declaration") -> Semantics:
    """Return a declaration from its YAML; raises :class:`DeclarationInvalid` with everything that is wrong."""
    try:
        return Semantics.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise DeclarationInvalid(f"{name}: it is no YAML ({str(error).splitlines()[0]})") from None
    except ValidationError as error:
        problems = [f"{'/'.join(map(str, one['loc'])) or 'declaration'}: {one['msg']}" for one in error.errors()]
        raise DeclarationInvalid(f"{name}: " + "; ".join(problems)) from None


@lru_cache
def semantics(saga_type: str) -> Semantics:
    """Return what is declared for a saga type, or that nothing is."""
    return _declared().get(saga_type) or Semantics(saga_type=saga_type, declared=False)


@lru_cache
def _declared() -> Mapping[str, Semantics]:
    found = {}
    for path in sorted(FOLDER.glob("*.yml")):
        one = parse(path.read_text(), name=path.name)
        if one.saga_type != path.stem:
            raise DeclarationInvalid(f"{path.name}: it declares {one.saga_type}; the file has another name")
        found[one.saga_type] = one
    return found


def _acyclic(graph: Mapping[str, set[str]], what: str) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise ValueError(f"{what} in a circle: {' → '.join(error.args[1])}") from None
