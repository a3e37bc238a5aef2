"""A landed event without the person: what stays of it is its place, and what its schema says is not personal.

What belongs here: the decision about one payload. What does not: reading and writing rows.
"""

from __future__ import annotations

from typing import Any

import orjson

from events.compiled import compiled_types
from events.fields import EACH, FieldRule
from ml.privacy.matching import ERASED, Found, Matcher


def redacted_event(raw: bytes, matcher: Matcher) -> bytes:
    """Return the payload without the person; empty where that cannot be said field by field.

    An event whose schema marks personal fields (``x-pii``) loses all of them, not only those that name the person, and
    the person's values elsewhere. Any other payload that mentions them goes whole: who knows what else it says. So
    does one that is *about* them, by its subject.
    """
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return b""
    name, data = (event.get("type"), event.get("data")) if isinstance(event, dict) else (None, None)
    rules = {
        rule
        for types in compiled_types().values()
        if isinstance(name, str) and name in types
        for rule in types[name].rules
    }
    if not rules or not isinstance(data, dict):
        return b""
    if any(matcher.find(str(event.get(name, ""))) is Found.PERSON for name in ("subject", "id", "source")):
        return b""
    for rule in rules:
        _drop(data, rule)
    made = matcher.scrub(orjson.dumps(event).decode())
    return b"" if made == ERASED else made.encode()


def _drop(data: Any, rule: FieldRule) -> None:
    nodes = [data]
    for part in rule.path[:-1]:
        inner = []
        for node in nodes:
            if isinstance(node, dict):
                inner += list(node.values()) if part == EACH else [node[part]] if part in node else []
            elif isinstance(node, list) and part == EACH:
                inner += node
        nodes = inner
    for node in nodes:
        if isinstance(node, dict):
            for name in list(node) if rule.path[-1] == EACH else [rule.path[-1]]:
                node.pop(name, None)
        elif isinstance(node, list) and rule.path[-1] == EACH:
            node.clear()
