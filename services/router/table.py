"""The routing table: which topics an event goes to besides, or instead of, its type's own; and what is added to it.

What belongs here: the table's form, its checks, and applying it to one event. What does not: watching the file
(:mod:`services.router.tables`), the catalogue's own topics, clients.

A table is YAML::

    routes:
      - name: payments-audit
        when: {type: isthmus.saga.step, data: {participant: payment}}
        copy: [audit.payments]          # extra copies, with the key of the original
        sample: 0.1                     # share of the extra copies; the original always goes
      - name: partner
        when: {type: "com.partner.*", source: ["/eu/*", "/us/*"]}
        to: partner.events              # instead of the type's own topic
    enrich:
      - name: teams
        set: {environment: production}
        lookup: {team: {from: data.participant, values: {payment: team-pay}, default: unknown}}

Of the routes that an event meets, the first with ``to`` names its topic, and each one's copies are made. Sampling is by
the event's source and id, so that a repeated event has the same fate. Enrichment adds CloudEvents attributes and never
changes one that is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from hashlib import blake2b
from typing import Annotated, Any, Final

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from events.catalogue import DEAD_LETTER, INGRESS

Document = Mapping[str, Any]
Scalar = str | int | bool
Topic = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Attribute = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,20}$")]

_LOOPS: Final = frozenset({INGRESS, DEAD_LETTER})
_OWN_ATTRIBUTES: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "traceparent", "data"}
)
_MISSING: Final = object()


class BadTable(ValueError):
    """A table that cannot be used; the message says where and why, one line a problem."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Strict):
    """Which events: all that is given must hold. Texts are globs, a list is any of its values."""

    type: str | list[str] = "*"
    source: str | list[str] = "*"
    subject: str | list[str] = "*"
    attributes: dict[Attribute, Scalar | list[Scalar]] = Field(default_factory=dict)
    data: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict, description="Dotted path → value.")


class Route(_Strict):
    """One route."""

    name: str = Field(min_length=1)
    when: When = When()
    to: Topic | None = None
    copies: list[Topic] = Field(default_factory=list, alias="copy")
    sample: float = Field(default=1.0, gt=0, le=1)

    @field_validator("copies", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _makes_sense(self) -> Route:
        if self.to is None and not self.copies:
            raise ValueError("a route has `to`, `copy`, or both")
        if self.sample < 1 and not self.copies:
            raise ValueError("only extra copies are sampled: nothing is ever dropped")
        if loops := _LOOPS.intersection([self.to, *self.copies]):
            raise ValueError(f"{', '.join(sorted(loops))} is the router's own: a route into it would go in circles")
        return self


class Lookup(_Strict):
    """A value by another one of the event."""

    source: str = Field(alias="from", pattern=r"^(data\.|[a-z0-9]+$)")
    values: dict[str, Scalar]
    default: Scalar | None = None


class Enrich(_Strict):
    """Attributes that are added."""

    name: str = Field(min_length=1)
    when: When = When()
    constants: dict[Attribute, Scalar] = Field(default_factory=dict, alias="set")
    lookup: dict[Attribute, Lookup] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _makes_sense(self) -> Enrich:
        if taken := _OWN_ATTRIBUTES & {*self.constants, *self.lookup}:
            raise ValueError(f"{', '.join(sorted(taken))} is an attribute that the event itself sets")
        if not self.constants and not self.lookup:
            raise ValueError("an enrichment has `set`, `lookup`, or both")
        return self


class Table(_Strict):
    """The file's form."""

    routes: list[Route] = Field(default_factory=list)
    enrich: list[Enrich] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_differ(self) -> Table:
        for part in (self.routes, self.enrich):
            names = [one.name for one in part]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"two entries are named {', '.join(sorted(twice))}")
        return self


Test = Callable[[Document], bool]


@dataclass(frozen=True, slots=True)
class _Compiled:
    entry: Any
    types: Callable[[str], bool]
    test: Test | None
    """What is left to ask of an event of a fitting type; None: nothing."""
    salt: bytes = b""


class RoutingTable:
    """A table, ready for events; the empty one leaves everything to the catalogue."""

    def __init__(self, table: Table | None = None) -> None:
        self.table = table = table or Table()
        self._routes = [
            _Compiled(route, _glob(route.when.type), _test(route.when), route.name.encode()[:64])
            for route in table.routes
        ]
        self._enrich = [_Compiled(one, _glob(one.when.type), _test(one.when)) for one in table.enrich]
        self._by_type: dict[str, TypeTable | None] = {}
        self.topics: tuple[str, ...] = tuple(
            dict.fromkeys(topic for route in table.routes for topic in (*filter(None, (route.to,)), *route.copies))
        )
        """Every topic that the table names."""

    def of(self, event_type: str) -> TypeTable | None:
        """Return what concerns events of a type; None where the table says nothing of them."""
        try:
            return self._by_type[event_type]
        except KeyError:
            routes = [one for one in self._routes if one.types(event_type)]
            enrich = [one for one in self._enrich if one.types(event_type)]
            found = TypeTable(routes, enrich) if routes or enrich else None
            self._by_type[event_type] = found
            return found


class TypeTable:
    """The part of a table that concerns one type of event."""

    def __init__(self, routes: list[_Compiled], enrich: list[_Compiled]) -> None:
        self._routes = routes
        self._enrich = enrich

    def topics(self, document: Document, own: str | None) -> tuple[str | None, tuple[str, ...]]:
        """Return the event's topic (``own`` unless a route names another) and those of its extra copies."""
        chosen: str | None = None
        copies: dict[str, None] = {}
        for compiled in self._routes:
            if compiled.test is not None and not compiled.test(document):
                continue
            route: Route = compiled.entry
            if chosen is None:
                chosen = route.to
            if route.copies and (route.sample == 1 or _drawn(document, route.sample, compiled.salt)):
                copies.update(dict.fromkeys(route.copies))
        chosen = chosen or own
        copies.pop(chosen or "", None)
        return chosen, tuple(copies)

    def enrich(self, document: dict[str, Any]) -> bool:
        """Add attributes to ``document``; return whether any was."""
        added = False
        for compiled in self._enrich:
            if compiled.test is not None and not compiled.test(document):
                continue
            entry: Enrich = compiled.entry
            for name, value in entry.constants.items():
                if name not in document:
                    document[name] = value
                    added = True
            for name, lookup in entry.lookup.items():
                if name in document:
                    continue
                found = lookup.values.get(str(_at(document, lookup.source)), lookup.default)
                if found is not None:
                    document[name] = found
                    added = True
        return added


def load(text: str) -> RoutingTable:
    """Return the table in ``text``; raises :class:`BadTable` with every problem."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadTable(f"not YAML: {' '.join(str(error).split())}") from None
    if given is None:
        return RoutingTable()
    if not isinstance(given, dict):
        raise BadTable("a table is a mapping with `routes` and `enrich`")
    try:
        return RoutingTable(Table.model_validate(given))
    except ValidationError as error:
        raise BadTable(
            "\n".join(
                f"{'.'.join(map(str, problem['loc'])) or 'table'}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_url=False, include_input=False)
            )
        ) from None


def _drawn(document: Document, share: float, salt: bytes) -> bool:
    # Not a checksum: those are linear, and two routes with salts of their own would not draw independently.
    identity = f"{document['source']}\0{document['id']}".encode()
    return int.from_bytes(blake2b(identity, digest_size=8, key=salt).digest()) < share * 2**64


def _glob(patterns: str | list[str]) -> Callable[[str], bool]:
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if "*" in wanted:
        return lambda _text: True
    if not any(re.search(r"[*?\[]", pattern) for pattern in wanted):
        return frozenset(wanted).__contains__
    compiled = re.compile("|".join(translate(pattern) for pattern in wanted))
    return lambda text: compiled.match(text) is not None


def _test(when: When) -> Test | None:
    """Return the test of everything but the type, the cheap ones first."""
    tests: list[Test] = []
    for name in ("source", "subject"):
        patterns = getattr(when, name)
        if patterns != "*":
            matches = _glob(patterns)
            tests.append(lambda document, name=name, matches=matches: matches(document[name]))  # type: ignore[misc]
    for path, wanted in {**when.attributes, **{f"data.{path}": value for path, value in when.data.items()}}.items():
        # By JSON's types: true is not 1.
        values = {(value.__class__, value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        tests.append(lambda document, path=path, values=values: _is_in(_at(document, path), values))  # type: ignore[misc]
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda document: all(test(document) for test in tests)


def _is_in(value: Any, values: set[tuple[type, Any]]) -> bool:
    return isinstance(value, str | int | float | bool) and (value.__class__, value) in values


def _at(document: Document, path: str) -> Any:
    """Return the value at a dotted path; a marker that equals nothing where there is none."""
    node: Any = document
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return _MISSING
        node = node[name]
    return node
