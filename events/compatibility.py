"""Compatibility: whether a schema only grew since its last release.

What belongs here: comparing two versions of a schema or of the catalogue, and the released copy that they are compared
with (``released/``). What does not: deciding when a release is made; :func:`release` only writes the copy.

A released version of a type promises: what it accepted stays accepted, personal data that it protected stays protected,
and its events stay on their topic under their key. The first is proved, not guessed: jsonschema-rs computes whether the
set of values that the new schema admits contains the old one's, and what cannot be proved counts as broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import orjson

from events.catalogue import TYPES
from events.fields import RULES, compile_rules
from events.schemas import ENVELOPE, FOLDER, Schema

RELEASED: Final = FOLDER.parent / "released"
"""Last released copy: ``envelope.json``, ``catalogue.json`` and ``schemas/`` as they were."""

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME: Final = ("pattern", "format", "multipleOf", "uniqueItems", "const", "not", "dependentRequired", "propertyNames")


def breaks(old: Schema, new: Schema, *, references: Mapping[str, tuple[Schema, Schema]] | None = None) -> list[str]:
    """Return what in ``new`` breaks the promise of ``old``, in words; empty where it only grew.

    ``references`` gives the old and the new schema of each ``$ref`` that leads outside. Raises ValueError for what is
    no JSON Schema.
    """
    references = references or {}
    found = list(dict.fromkeys([*_narrowed(old, new, ""), *_unprotected(old, new, references)]))
    if not found and not _covers(old, new, references):
        found.append("the new schema does not provably accept everything that the released one accepts")
    return found


def released_breaks(released: Path = RELEASED, current: Path = FOLDER.parent) -> list[str]:
    """Return what in the schemas and the catalogue of ``current`` breaks the promise of the copy in ``released``."""
    found: list[str] = []
    old_files = {path.relative_to(released): path for path in sorted((released / FOLDER.name).rglob("*.json"))}
    old_files[Path(ENVELOPE.name)] = released / ENVELOPE.name
    pairs: dict[Path, tuple[Schema, Schema]] = {}
    for name, path in old_files.items():
        if (current / name).exists():
            pairs[name] = (orjson.loads(path.read_bytes()), orjson.loads((current / name).read_bytes()))
        else:
            found.append(f"{name}: a released version was removed")
    references = {pair[0]["$id"]: pair for pair in pairs.values()}
    for name, (old, new) in pairs.items():
        found += [f"{name}: {problem}" for problem in breaks(old, new, references=references)]
    entries = orjson.loads((released / "catalogue.json").read_bytes())
    return found + list(catalogue_breaks(entries, catalogue_entries()))


def release(released: Path = RELEASED) -> None:
    """Write schemas and catalogue, as they stand, as the released copy; raises ValueError where they break the last."""
    if released.exists() and (found := released_breaks(released)):
        raise ValueError("not released, since it breaks a promise:\n" + "\n".join(found))
    for path in (ENVELOPE, *FOLDER.rglob("*.json")):
        target = released / path.relative_to(FOLDER.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    entries = orjson.dumps(catalogue_entries(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (released / "catalogue.json").write_bytes(entries)


def catalogue_entries() -> dict[str, dict[str, Any]]:
    """Return the catalogue as it is written down at a release."""
    return {
        name: {"topic": event_type.topic, "key": event_type.key, "versions": list(event_type.versions)}
        for name, event_type in TYPES.items()
    }


def catalogue_breaks(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what in the catalogue ``new`` breaks the promise of ``old``."""
    for name, entry in old.items():
        if name not in new:
            yield f"{name}: a released type was removed"
            continue
        for what in ("topic", "key"):
            if new[name][what] != entry[what]:
                yield f"{name}: its {what} changed from {entry[what]} to {new[name][what]}, so its order is lost"
        if gone := sorted(set(entry["versions"]) - set(new[name]["versions"])):
            yield f"{name}: released version {', '.join(map(str, gone))} was removed"


def _covers(old: Schema, new: Schema, references: Mapping[str, tuple[Schema, Schema]]) -> bool:
    old_set, new_set = (
        jsonschema_rs.canonicalize(
            _inlined(schema, {uri: pair[side] for uri, pair in references.items()}), validate_formats=True
        )
        for side, schema in enumerate((old, new))
    )
    return new_set.covers(old_set) == jsonschema_rs.canonical.Containment.YES


def _inlined(schema: Schema, references: Mapping[str, Schema]) -> Schema:
    # Two sets can be compared only where a reference means the same in both, and here it may not.
    registry = jsonschema_rs.Registry(list(references.items()), draft=jsonschema_rs.Draft202012)
    return jsonschema_rs.dereference(schema, registry=registry, offline=True)


def _unprotected(old: Schema, new: Schema, references: Mapping[str, tuple[Schema, Schema]]) -> Iterator[str]:
    before = {rule.path: rule.rule for rule in compile_rules(old, lambda uri: references[uri][0])}
    after = {rule.path: rule.rule for rule in compile_rules(new, lambda uri: references[uri][1])}
    for path, rule in before.items():
        now = after.get(path)
        # In RULES, the stronger protection stands first: what was dropped must not appear, even hashed.
        if now is None or (now != rule and RULES.index(now) > RULES.index(rule)):
            yield f"/{'/'.join(path)}: x-pii was {rule} and is {now or 'gone'}, so personal data would come through"


def _narrowed(old: Any, new: Any, path: str) -> Iterator[str]:
    """Yield the narrowings that can be named; what it overlooks, the proof of containment finds."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return
    here = path or "the payload"
    old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(new_required - old_required):
        yield f"{path}/{name}: is required now"
    yield from _narrowed_types(old, new, here)
    for keyword in _LOWER:
        if new.get(keyword, float("-inf")) > old.get(keyword, float("-inf")):
            yield f"{here}: {keyword} rose from {old.get(keyword, 'none')} to {new[keyword]}"
    for keyword in _UPPER:
        if new.get(keyword, float("inf")) < old.get(keyword, float("inf")):
            yield f"{here}: {keyword} fell from {old.get(keyword, 'none')} to {new[keyword]}"
    for keyword in _SAME:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{here}: {keyword} changed from {old.get(keyword, 'none')} to {new[keyword]}"
    yield from _narrowed_children(old, new, path, here)


def _narrowed_types(old: Mapping[str, Any], new: Mapping[str, Any], here: str) -> Iterator[str]:
    if "type" in new:
        before, after = (_types(schema) for schema in (old, new))
        if "number" in after:
            after.add("integer")
        if gone := sorted(before - after):
            yield f"{here}: type no longer takes {', '.join(gone)}"
    if "enum" in new:
        if "enum" not in old:
            yield f"{here}: has an enum now"
        elif gone := [value for value in old["enum"] if value not in new["enum"]]:
            yield f"{here}: enum no longer takes {', '.join(map(str, gone))}"


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type", ["any other type"] if "enum" not in schema and "const" not in schema else [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _narrowed_children(old: Mapping[str, Any], new: Mapping[str, Any], path: str, here: str) -> Iterator[str]:
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name, child in old_fields.items():
        if name in new_fields:
            yield from _narrowed(child, new_fields[name], f"{path}/{name}")
        elif new.get("additionalProperties") is False:
            yield f"{path}/{name}: was removed, and other fields are not allowed"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{here}: fields that are not declared are no longer allowed"
    for keyword in ("additionalProperties", "items"):
        yield from _narrowed(old.get(keyword), new.get(keyword), f"{path}/*")
