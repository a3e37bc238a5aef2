"""Every asset that makes decisions says on which checks they rest: found by what its code reaches, not by a list."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from assets.decisions import evidence
from assets.refusal import SAGA_POLICY
from assets.resting import decides, declared
from definitions import defs

ROOMS = ("assets", "sensors")


@cache
def tree_of(module: str) -> ast.Module:
    source = import_module(module)
    assert source.__file__ is not None
    return ast.parse(Path(source.__file__).read_text())


@cache
def functions_of(module: str) -> dict[str, ast.AST]:
    """Functions and classes at the top of a module, by name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name: node for node in tree_of(module).body if isinstance(node, kinds)}


@cache
def imports_of(module: str) -> dict[str, tuple[str, str]]:
    """What a name of a module stands for: the module it comes from, and its name there (empty: the module itself)."""
    found = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = find_spec(whole) is not None if hasattr(import_module(node.module), "__path__") else False
                found[alias.asname or alias.name] = (whole, "") if is_module else (node.module, alias.name)
    return found


def reached(module: str, name: str, seen: set[tuple[str, str]]) -> Iterator[ast.AST]:
    """Yield the function and every function of the rooms that it reaches by name."""
    if (module, name) in seen:
        return
    seen.add((module, name))
    node = functions_of(module).get(name)
    if node is None:
        if name in imports_of(module):  # handed on by a package
            origin, inner = imports_of(module)[name]
            yield from reached(origin, inner or name, seen)
        return
    yield node
    # Not its decorators: a hook that records the refusal of another asset's decision decides nothing.
    for part in (part for statement in getattr(node, "body", ()) for part in ast.walk(statement)):
        if isinstance(part, ast.Name):
            if part.id in functions_of(module):
                yield from reached(module, part.id, seen)
            elif part.id in imports_of(module):
                origin, inner = imports_of(module)[part.id]
                if inner:
                    yield from reached(origin, inner, seen)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            origin, inner = imports_of(module).get(part.value.id, ("", "x"))
            if origin and not inner:
                yield from reached(origin, part.attr, seen)


def records(node: ast.AST) -> bool:
    """Whether a function writes a decision down: only the book's ``record`` is called with ``allowed``."""
    return any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr == "record"
        and "allowed" in {word.arg for word in part.keywords}
        for part in ast.walk(node)
    )


def makers() -> list[dg.AssetsDefinition]:
    """The assets of the location whose code records a decision."""
    found = []
    for one in defs.assets or ():
        if not isinstance(one, dg.AssetsDefinition) or not one.is_executable:
            continue
        function = one.op.compute_fn.decorated_fn  # type: ignore[union-attr]
        module = inspect.getmodule(function)
        assert isinstance(module, ModuleType)
        if any(records(node) for node in reached(module.__name__, function.__name__, set())):
            found.append(one)
    return found


def test_the_walk_finds_the_makers_of_decisions() -> None:
    keys = {key.to_user_string() for one in makers() for key in one.keys}
    assert keys == {"ops/saga_policy", "ml/saga_model", "quality/pii_inventory", "quality/source_reconciliation"}


@pytest.mark.parametrize("maker", makers(), ids=lambda one: min(one.keys).to_user_string())
def test_an_asset_that_records_decisions_declares_what_they_rest_on(maker: dg.AssetsDefinition) -> None:
    said = [declared(metadata) for metadata in maker.metadata_by_key.values()]
    assert any(kinds and checks for kinds, checks in said), "add metadata=assets.resting.decides(…)"


def test_every_check_that_is_declared_is_one_of_the_location() -> None:
    there = set(defs.resolve_asset_graph().asset_check_keys)
    said = {spec.key: declared(spec.metadata) for spec in defs.resolve_all_asset_specs()}
    for key, (kinds, checks) in said.items():
        assert set(checks) <= there, key
        assert bool(kinds) == bool(checks), key
    every = {kind for kinds, _ in said.values() for kind in kinds}
    assert every == {
        *("saga_policy", "model_promotion", "schema_change", "data_repair"),
        *("retraining", "step_timeouts"),
    }


def test_the_saga_policy_reads_every_check_that_it_declares() -> None:
    (spec,) = [spec for spec in defs.resolve_all_asset_specs() if spec.key == SAGA_POLICY]
    with dg.DagsterInstance.ephemeral() as instance:
        read = {
            dg.AssetCheckKey(dg.AssetKey(one.asset.split("/")), one.check) for one in evidence.read_checks(instance)
        }
    _, checks = declared(spec.metadata)
    # The comparison with a source is read where a table is compared, and no source is configured here.
    assert {key for key in checks if "source_reconciliation" not in key.asset_key.to_user_string()} <= read


def test_a_declaration_without_a_check_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one check"):
        decides("saga_policy", rests_on=[])
