"""PostgreSQL's side in SQL: the row's hash, and a column's canonical text.

What belongs here: expressions. What does not: statements and connections (``assets.reconcile``).
"""

from __future__ import annotations

from collections.abc import Sequence

from ml.reconcile.rowhash import START, Column, chain, flags


def quoted(name: str) -> str:
    """Return ``name`` as an identifier; raises ValueError where it cannot be one."""
    if not name or "\0" in name:
        raise ValueError("a name is empty or holds a zero byte")
    return '"' + name.replace('"', '""') + '"'


def canonical(column: Column) -> str:
    """Return an expression of the column's canonical form: a number of its kind, or text."""
    name, kind, type_ = quoted(column.name), column.kind, column.source_type
    if type_ == "boolean":
        form, zero = f"{name}::int4", "0"
    elif type_ == "date":
        form, zero = f"({name} - date '1970-01-01')", "0"
    elif type_ == "timestamp with time zone":
        # A zone by name is looked up for each row, an interval is added.
        form, zero = f"({name} AT TIME ZONE interval '0')", "timestamp '2000-01-01'"
    elif kind == "time":
        form, zero = name, "timestamp '2000-01-01'"
    elif kind == "int4":
        form, zero = name if type_ == "integer" else f"{name}::int4", "0"
    elif kind == "int8":
        form, zero = name, "0"
    elif kind == "float":
        form, zero = f"{name}::float8", "0"
    elif type_.startswith("numeric"):
        form, zero = f"{name}::text" if column.scale is not None else f"trim_scale({name})::text", "''"
    else:
        form, zero = name if type_ in ("text",) else f"{name}::text", "''"
    form = f"coalesce({form}, {zero})" if column.nullable else form
    return f"md5({form})" if column.long else form


def row_hash(columns: Sequence[Column]) -> str:
    """Return the expression (int8) of a row's hash over ``columns``."""
    seed = f"({START})::int8"
    functions = {
        "int4": "hashint4extended",
        "time": "timestamp_hash_extended",
        "float": "hashfloat8extended",
        "text": "hashtextextended",
    }
    for link in chain(columns):
        column = link.column
        if link.step == "xor":
            value = canonical(column) if column else _flags(columns)
            seed = f"({seed} # {value})"
        elif column is None:
            seed = f"hashint4extended(0, {seed})"
        else:
            collation = ' COLLATE "C"' if column.kind == "text" else ""
            seed = f"{functions[column.kind]}({canonical(column)}{collation}, {seed})"
    return seed


def _flags(columns: Sequence[Column]) -> str:
    bits = [f"CASE WHEN {quoted(column.name)} IS NULL THEN {bit} ELSE 0 END" for column, bit in flags(columns)]
    return f"({' + '.join(bits)})::int8"


def key_text(columns: Sequence[Column]) -> str:
    """Return the expression of a key's text: its parts' texts, joined by U+001F."""
    return " || chr(31) || ".join(f"{quoted(column.name)}::text" for column in columns)


def shown(column: Column) -> str:
    """Return the expression of a value's canonical text, null where it is null."""
    name = quoted(column.name)
    if column.kind == "time":
        inner = f"({name} AT TIME ZONE interval '0')" if column.source_type.endswith("with time zone") else name
        return f"to_char({inner}, 'YYYY-MM-DD HH24:MI:SS.US')"
    if column.source_type == "boolean":
        return f"({name}::int4)::text"
    if column.kind == "float":
        return f"encode(float8send({name}::float8 + 0), 'hex')"  # texts of floats differ between stores
    if column.kind == "text" and column.source_type.startswith("numeric"):
        return f"trim_scale({name})::text" if column.scale is None else f"{name}::text"
    return f"{name}::text"
