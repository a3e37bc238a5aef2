"""Upcasts: how a payload of one version of a type becomes one of the next.

What belongs here: the steps that an upcast may have, compiling them out of ``upcasts/<type>/<version>.json``, and
applying them. What does not: when an event is upcast (``services/router``).

An upcast is a list of steps, done in order. A step names fields by their path below ``data``, names joined by slashes,
``*`` for each item of an array or each value of an object. A field that is not there is passed over.

- ``move`` (``path``, ``to``): puts the field elsewhere, making objects on the way; both share all up to the last ``*``.
- ``default`` (``path``, ``value``): sets the field where it is absent.
- ``map`` (``path``, ``values``): replaces a string by what ``values`` has for it; another value stays.
- ``scale`` (``path``, ``multiply`` or ``divide``): multiplies a number, or divides it: by 1000 rather than times 0.001,
  which is no binary fraction.
- ``drop`` (``path``): removes the field.
- ``key_by`` (``path``, ``by``, ``to``): puts the field into the object ``to`` under the name that ``by`` holds, and
  removes ``by``.

There are no conditions, loops or expressions: what an upcast does to a protected field can be told from its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from events.fields import EACH, RULES, FieldRule
from events.schemas import Schema

Path = tuple[str, ...]


class UpcastFailed(ValueError):
    """A payload that the steps cannot be applied to; the text holds no value of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, compiled. ``traces`` returns where the value at a path stands afterwards; None: nowhere."""

    apply: Callable[[dict[str, Any]], None]
    traces: Callable[[Path], Path | None]
    reads: Path
    """What its outcome depends on beyond presence (``map``, ``scale``, ``key_by``); empty for none."""


def compile_steps(document: Schema) -> tuple[Step, ...]:
    """Return the steps of an upcast's document; raises ValueError for a bad one, naming it."""
    steps = document.get("steps")
    if not isinstance(steps, list) or set(document) - {"description", "steps"}:
        raise ValueError("an upcast has a description and a list of steps")
    return tuple(_compile(step, number) for number, step in enumerate(steps))


def apply_steps(steps: Iterable[Step], data: dict[str, Any]) -> None:
    """Apply ``steps`` to ``data`` in place; raises :class:`UpcastFailed`."""
    for step in steps:
        step.apply(data)


def unprotected(old: Iterable[FieldRule], new: Iterable[FieldRule], steps: Iterable[Step]) -> list[str]:
    """Return the fields that ``old`` rules protect and ``new`` ones no longer do (or less) where the steps put them."""
    now, all_steps = {rule.path: rule.rule for rule in new}, tuple(steps)
    lost = []
    for rule in old:
        path: Path | None = rule.path
        for step in all_steps:
            # Of a value that a step computes with, nothing can be said afterwards.
            if path is None or (step.reads and _overlap(step.reads, path)):
                break
            path = step.traces(path)
        else:
            # In RULES, the stronger protection stands first: what was dropped must not appear, even hashed.
            if path is None or (path in now and RULES.index(now[path]) <= RULES.index(rule.rule)):
                continue
        if path is not None:
            lost.append("/".join(rule.path))
    return lost


# Compiling


def _compile(step: Any, number: int) -> Step:
    where = f"step {number}"
    if not isinstance(step, Mapping) or step.get("op") not in _OPS:
        raise ValueError(f"{where}: op must be one of {', '.join(_OPS)}")
    op = step["op"]
    keys, build = _OPS[op]
    given = set(step) - {"op"}
    if given not in keys:
        raise ValueError(f"{where}: {op} takes {' or '.join(', '.join(sorted(wanted)) for wanted in keys)}")
    try:
        return build(step)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _move(step: Mapping[str, Any]) -> Step:
    path, target = _path(step["path"]), _path(step["to"])
    if path == target or EACH in (path[-1], target[-1]):
        raise ValueError("a move names two different fields")
    shared = max((at for at, name in enumerate((*path, *target)) if name == EACH and at < len(path)), default=-1) + 1
    if path[:shared] != target[:shared] or EACH in target[shared:]:
        raise ValueError("both paths of a move share all up to the last *")
    if target[: len(path)] == path:
        raise ValueError("a field cannot be moved into itself")

    def apply(data: dict[str, Any]) -> None:
        for node in _nodes(data, path[:shared]):
            holder = _holder(node, path[shared:])
            if holder is not None:
                _put(node, target[shared:], holder.pop(path[-1]))

    return Step(apply, lambda at: (*target, *at[len(path) :]) if at[: len(path)] == path else at, ())


def _default(step: Mapping[str, Any]) -> Step:
    path, value = _path(step["path"]), step["value"]
    if path[-1] == EACH:
        raise ValueError("a default belongs to a named field")

    def apply(data: dict[str, Any]) -> None:
        for node in _nodes(data, path[:-1], make=True):
            if isinstance(node, dict):
                node.setdefault(path[-1], deepcopy(value))

    return Step(apply, _stays, ())


def _map(step: Mapping[str, Any]) -> Step:
    path, values = _path(step["path"]), step["values"]
    if not isinstance(values, Mapping) or not values:
        raise ValueError("values is an object: new value by old one")
    return _replace(path, lambda value: values.get(value, value) if isinstance(value, str) else value)


def _scale(step: Mapping[str, Any]) -> Step:
    path = _path(step["path"])
    factor = step.get("multiply", step.get("divide"))
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor:
        raise ValueError("the factor is a number other than 0")

    def scaled(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return value * factor if "multiply" in step else value / factor

    return _replace(path, scaled)


def _drop(step: Mapping[str, Any]) -> Step:
    path = _path(step["path"])
    if path[-1] == EACH:
        raise ValueError("a drop belongs to a named field")

    def apply(data: dict[str, Any]) -> None:
        for node in _nodes(data, path[:-1]):
            if isinstance(node, dict):
                node.pop(path[-1], None)

    return Step(apply, lambda at: None if at[: len(path)] == path else at, ())


def _key_by(step: Mapping[str, Any]) -> Step:
    path, by, target = (_path(step[name]) for name in ("path", "by", "to"))
    if not path[:-1] == by[:-1] == target[:-1] or EACH in (path[-1], by[-1], target[-1]):
        raise ValueError("path, by and to are fields of one object")
    if len({path, by, target}) < 3:
        raise ValueError("path, by and to are three fields")

    def apply(data: dict[str, Any]) -> None:
        for node in _nodes(data, path[:-1]):
            if not isinstance(node, dict):
                continue
            name = node.pop(by[-1], None)
            if path[-1] in node:
                if not isinstance(name, str):
                    raise UpcastFailed(f"{'/'.join(by)} does not say where {'/'.join(path)} belongs")
                _put(node, (target[-1], name), node.pop(path[-1]))

    # Both end in a place that the value decides, so neither may be protected: see `unprotected`.
    return Step(apply, lambda at: (*target, EACH) if at[: len(path)] == path else at, by)


def _replace(path: Path, change: Callable[[Any], Any]) -> Step:
    def apply(data: dict[str, Any]) -> None:
        for node in _nodes(data, path[:-1]):
            places: Iterable[Any] = ()
            if isinstance(node, dict):
                places = tuple(node) if path[-1] == EACH else ((path[-1],) if path[-1] in node else ())
            elif isinstance(node, list) and path[-1] == EACH:
                places = range(len(node))
            for place in places:
                node[place] = change(node[place])

    return Step(apply, _stays, path)


_OPS: Final[dict[str, tuple[tuple[set[str], ...], Callable[[Mapping[str, Any]], Step]]]] = {
    "move": (({"path", "to"},), _move),
    "default": (({"path", "value"},), _default),
    "map": (({"path", "values"},), _map),
    "scale": (({"path", "multiply"}, {"path", "divide"}), _scale),
    "drop": (({"path"},), _drop),
    "key_by": (({"path", "by", "to"},), _key_by),
}


def _path(text: Any) -> Path:
    names = text.split("/") if isinstance(text, str) else []
    if not all(names) or not names:
        raise ValueError("a path is names joined by slashes")
    return tuple(names)


def _stays(path: Path) -> Path:
    return path


def _overlap(one: Path, other: Path) -> bool:
    return all(EACH in pair or pair[0] == pair[1] for pair in zip(one, other, strict=False))


# Walking


def _nodes(node: Any, path: Path, *, make: bool = False) -> Iterator[Any]:
    """Yield what stands at ``path``, once for each ``*``; ``make`` puts an object where a named field is absent."""
    if not path:
        yield node
        return
    head, rest = path[0], path[1:]
    if head == EACH:
        for child in tuple(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from _nodes(child, rest, make=make)
    elif isinstance(node, dict) and (head in node or make):
        yield from _nodes(node.setdefault(head, {}), rest, make=make)


def _holder(node: Any, path: Path) -> dict[str, Any] | None:
    """Return the object that holds the field at ``path`` (names only), None where it is absent."""
    for holder in _nodes(node, path[:-1]):
        if isinstance(holder, dict) and path[-1] in holder:
            return holder
    return None


def _put(node: Any, path: Path, value: Any) -> None:
    for holder in _nodes(node, path[:-1], make=True):
        if not isinstance(holder, dict) or path[-1] in holder:
            raise UpcastFailed(f"there is something at {'/'.join(path)} already")
        holder[path[-1]] = value
        return
    raise UpcastFailed(f"there is something on the way to {'/'.join(path)}")
