"""The suites: YAML files beside this module, one a table, that people edit.

What belongs here: reading and checking them. What does not: evaluating them (``pushdown``), or what an expectation
means (``ml.quality``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ml.quality import Check, Expectation, Suite

FOLDER = Path(__file__).parent / "suites"

#: Suites generated from the dbt contracts, see ``contracts``.
CONTRACTS = Path(__file__).parent / "contracts"

#: Other rooms check the same assets: the prefix keeps their names and ours apart.
PREFIX = "expect_"

_LAYERS = ("raw", "staging", "intermediate", "marts", "ml", "ops")
_SUITE_KEYS = {"asset", "table", "description", "where", "final", "on_report", "checks", "off"}
_CHECK_KEYS = {"name", "severity", "blocking", "description", "expectations", "edited"}
_EXPECTATION_KEYS = {"type", "kwargs", "because"}


class SuiteError(ValueError):
    """A suite file that cannot be used; the text names the file and the place."""


@lru_cache
def suites(folder: Path = FOLDER) -> tuple[Suite, ...]:
    """Return all suites, in the way of an event. Raises :class:`SuiteError` for a file that is not a suite."""
    found = tuple(sorted((read_suite(path) for path in folder.glob("*.yml")), key=_order))
    assets = [suite.asset for suite in found]
    if len(set(assets)) != len(assets):
        raise SuiteError(f"{folder}: two suites stand for one asset")
    return found


@lru_cache
def every(folder: Path = FOLDER, contracts: Path = CONTRACTS) -> tuple[Suite, ...]:
    """Return all suites with the dbt contracts' checks among them: one suite, and so one query, a table.

    Decisions rest on :func:`suites` alone. Where both have a check of one name, the hand-written one counts.
    """
    written = {suite.asset: suite for suite in suites(folder)}
    for generated in suites(contracts):
        mine = written.get(generated.asset)
        if mine is None:
            written[generated.asset] = generated
            continue
        names = {check.name for check in mine.checks}
        more = tuple(check for check in generated.checks if check.name not in names)
        written[generated.asset] = replace(mine, checks=mine.checks + more)
    return tuple(sorted(written.values(), key=_order))


def _order(suite: Suite) -> tuple[int, str]:
    layer = suite.asset.split("/", 1)[0]
    return (_LAYERS.index(layer) if layer in _LAYERS else len(_LAYERS), suite.asset)


def read_suite(path: Path) -> Suite:
    """Return the suite in ``path``; a key that is not known is refused, lest a misspelt one switch a check off."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text())
        _known(content, _SUITE_KEYS, "suite")
        checks = tuple(_check(entry) for entry in content["checks"])
        names = [check.name for check in checks]
        if len(set(names)) != len(names):
            raise SuiteError("two checks have one name")
        return Suite(
            asset=content["asset"],
            table=content["table"],
            checks=checks,
            where=content.get("where", ""),
            final=bool(content.get("final", False)),
            on_report=bool(content.get("on_report", False)),
            description=content.get("description", ""),
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise SuiteError(f"{path.name}: {error}") from error


def _check(entry: Mapping[str, Any]) -> Check:
    _known(entry, _CHECK_KEYS, "check")
    severity = entry.get("severity", "ERROR")
    if severity not in {"ERROR", "WARN"}:
        raise SuiteError(f"check {entry['name']}: severity is ERROR or WARN")
    blocking = bool(entry.get("blocking", False))
    if blocking and severity != "ERROR":
        raise SuiteError(f"check {entry['name']}: only ERROR blocks")
    expectations = tuple(_expectation(one) for one in entry["expectations"])
    if not expectations:
        raise SuiteError(f"check {entry['name']}: expects nothing")
    return Check(PREFIX + entry["name"], expectations, severity, blocking, entry.get("description", ""))


def _expectation(entry: Mapping[str, Any]) -> Expectation:
    _known(entry, _EXPECTATION_KEYS, "expectation")
    return Expectation(entry["type"], entry.get("kwargs") or {}, entry.get("because", ""))


def _known(entry: Mapping[str, Any], keys: set[str], what: str) -> None:
    if unknown := set(entry) - keys:
        raise SuiteError(f"{what} has unknown keys {sorted(unknown)}")
