"""ClickHouse's side in SQL: PostgreSQL's lookup3 hash in arithmetic, and a column's canonical text.

What belongs here: expressions. What does not: statements and connections (``assets.reconcile``).

ClickHouse has no ``let``: an alias that is used twice is expanded twice, and thirteen rounds of three uses each would
be a text of a million terms. A column of a subquery is computed once, so the rounds of a number's hash are subqueries
in each other, which ClickHouse turns into one expression. A text has many more rounds, as many as it is long: these are
lambdas (the parameter is a name that is evaluated once), an ``arrayMap`` over an array of one state each, compiled.

Source of the hash: Bob Jenkins, lookup3.c (2006), as in PostgreSQL's ``src/common/hashfn.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ml.reconcile.rowhash import START, Column, Link, chain, flags

_INIT: Final = 0x9E3779B9 + 3923095
_STATE: Final = {"a": "t.1", "b": "t.2", "c": "t.3"}
_MIX: Final = (
    ("a", "c", "b", 4), ("b", "a", "c", 6), ("c", "b", "a", 8),
    ("a", "c", "b", 16), ("b", "a", "c", 19), ("c", "b", "a", 4),
)  # fmt: skip
_FINAL: Final = (
    ("c", "b", 14), ("a", "c", 11), ("b", "a", 25), ("c", "b", 16), ("a", "c", 4), ("b", "a", 14), ("c", "b", 24),
)  # fmt: skip
#: Microseconds from 1970 to PostgreSQL's own epoch, 2000.
_EPOCH: Final = 946_684_800_000_000
#: Longest text (bytes) that is hashed as it is: each twelve bytes are one more round.
LONGEST: Final = 95
#: Rounds in one lambda, or subquery: each costs, and so does the text, which doubles or trebles with each round.
TOGETHER: Final = 2
#: Hashes of numbers whose rounds are subqueries; each takes long to analyse, so what a wide table has more are lambdas.
FLAT: Final = 8


def quoted(name: str) -> str:
    """Return ``name`` as an identifier; raises ValueError where it cannot be one."""
    if not name or "\0" in name:
        raise ValueError("a name is empty or holds a zero byte")
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _rounds(state: str, rounds: Sequence[Callable[[dict[str, str]], None]]) -> str:
    """Apply ``rounds`` to a state, several in one lambda: equal terms in one are computed once, each lambda costs."""
    for at in range(0, len(rounds), TOGETHER):
        now = dict(_STATE)
        for each in rounds[at : at + TOGETHER]:
            each(now)
        state = f"arrayMap(t -> ({now['a']}, {now['b']}, {now['c']}), {state})"
    return state


def _mix(x: str, y: str, z: str, turn: int) -> Callable[[dict[str, str]], None]:
    def each(now: dict[str, str]) -> None:
        now[x] = f"bitXor(toUInt32({now[x]} - {now[y]}), bitRotateLeft({now[y]}, {turn}))"
        now[y] = f"toUInt32({now[y]} + {now[z]})"

    return each


def _final(x: str, y: str, turn: int) -> Callable[[dict[str, str]], None]:
    def each(now: dict[str, str]) -> None:
        now[x] = f"toUInt32(bitXor({now[x]}, {now[y]}) - bitRotateLeft({now[y]}, {turn}))"

    return each


def _mixed(state: str) -> str:
    return _rounds(state, [_mix(*each) for each in _MIX])


def _finished(state: str) -> str:
    state = _rounds(state, [_final(*each) for each in _FINAL])
    return f"arrayMap(t -> bitOr(bitShiftLeft(toUInt64(t.2), 32), toUInt64(t.3)), {state})"


def _begun(seed: str, length: str) -> str:
    """Return the state (an array of one tuple) after the seed; ``seed`` is an array of one UInt64."""
    init = f"toUInt32({_INIT} + n)"
    start = f"(toUInt32({init} + bitShiftRight(h, 32)), toUInt32({init} + bitAnd(h, 4294967295)), {init})"
    return _mixed(f"arrayMap((h, n) -> {start}, {seed}, [toUInt32({length})])")


def _hash_word(word: str, seed: str) -> str:
    """Hash of four bytes: ``hash_bytes_uint32_extended``."""
    added = f"arrayMap((t, k) -> (toUInt32(t.1 + k), t.2, t.3), {_begun(seed, '4')}, [toUInt32({word})])"
    return _finished(added)


def _hash_double(bits: str, seed: str) -> str:
    """Hash of a double's eight bytes, given as UInt64; a zero's is the seed."""
    words = "(toUInt32(t.1 + bitAnd(k, 4294967295)), toUInt32(t.2 + bitShiftRight(k, 32)), t.3)"
    hashed = _finished(f"arrayMap((t, k) -> {words}, {_begun('[s]', '8')}, [b])")
    return f"arrayMap((s, b) -> if(b = 0, s, ({hashed})[1]), {seed}, [{bits}])"


def _hash_text(text: str, seed: str, longest: int) -> str:
    """Hash of up to ``longest`` bytes: ``hash_bytes_extended``."""
    state = _begun(seed, f"length({text})")
    for block in range(longest // 12 + 1):
        # The twelve bytes of a block as three words; what lies beyond the text is zero.
        value = f"reinterpretAsUInt128(substring({text}, {12 * block + 1}, 12))"
        a, b, c = (f"toUInt32(bitAnd(bitShiftRight(k, {shift}), 4294967295))" for shift in (0, 32, 64))
        full = f"(toUInt32(t.1 + {a}), toUInt32(t.2 + {b}), toUInt32(t.3 + {c}))"
        # The last word of what is left begins a byte further: its lowest byte is the length's.
        tail = f"(toUInt32(t.1 + {a}), toUInt32(t.2 + {b}), toUInt32(t.3 + bitShiftLeft({c}, 8)))"
        given = f"[{value}], [toUInt32(length({text}))]"
        last = f"intDiv(n, 12) = {block}"
        if block == longest // 12:
            state = f"arrayMap((t, k, n) -> if({last}, {tail}, t), {state}, {given})"
            continue
        state = f"arrayMap((t, k, n) -> if({last}, {tail}, if(n >= {12 * block + 12}, {full}, t)), {state}, {given})"
        mixed = _mixed("[t]")
        state = f"arrayMap((t, n) -> if(n >= {12 * block + 12}, ({mixed})[1], t), {state}, [toUInt32(length({text}))])"
    return _finished(state)


def canonical(column: Column) -> str:
    """Return an expression of the column's canonical form; null never, where the column may be."""
    name, kind = quoted(column.name), column.kind
    if kind == "time":
        form, zero = f"toUnixTimestamp64Micro(toDateTime64({name}, 6, 'UTC'))", str(_EPOCH)
    elif column.source_type == "date":
        form, zero = f"toInt32(toDate32({name}))", "0"
    elif kind in ("int4", "int8"):
        form, zero = f"to{'Int32' if kind == 'int4' else 'Int64'}({name})", "0"
    elif kind == "float":
        form, zero = f"toFloat64({name})", "0"
    elif column.scale is not None:
        form, zero = f"toDecimalString({name}, {column.scale})", "''"
    else:
        form, zero = f"toString({name})", "''"
    form = f"assumeNotNull(ifNull({form}, {zero}))" if column.nullable else form
    return f"lower(hex(MD5({form})))" if column.long else form


def hashed(
    columns: Sequence[Column], longest: Mapping[str, int], table: str, keep: Mapping[str, str], where: str = "true"
) -> str:
    """Return what stands after FROM: the rows of ``table`` as ``keep`` (name → expression) and ``hash_`` (UInt64).

    ``longest`` holds the longest text of each text column, ``table`` is what stands after FROM itself.
    """
    links = chain(columns)
    values = {at: _value(link, columns) for at, link in enumerate(links)}
    start = f"toUInt64({START})"
    if (first := links[0].column) is not None and first.few:
        start = _looked_up(canonical(first), f"[{start}]", longest.get(first.name, 0), table)
        del values[0]
    flat = [at for at in values if links[at].step == "hash" and _is_word(links[at])][:FLAT]
    given = {**keep, "h_": start, **{f"v{at}_": value for at, value in values.items()}}
    rows = f"(SELECT {', '.join(f'{each} AS {name}' for name, each in given.items())} FROM {table} WHERE {where})"  # noqa: S608
    seed = "h_"
    for at in values:
        column, value = links[at].column, f"v{at}_"
        if links[at].step == "xor":
            seed = f"bitXor({seed}, {value})"
            continue
        kept = [*keep, *(f"v{later}_" for later in values if later > at)]
        if at in flat:
            rows = _flat_word(rows, kept, value, seed)
        else:
            if _is_word(links[at]):
                done = _hash_word(value, f"[{seed}]")
            elif column is not None and column.kind == "float":
                done = _hash_double(value, f"[{seed}]")
            else:
                done = _hash_text(value, f"[{seed}]", longest.get(column.name, 0) if column else 0)
            rows = _level(rows, kept, {"h_": f"({done})[1]"})
        seed = "h_"
    return _level(rows, list(keep), {"hash_": seed})


def lambdas(columns: Sequence[Column]) -> bool:
    """Return whether the rows' hash has rounds in lambdas, which are fast only where they are compiled."""
    hashes = [link for link in chain(columns) if link.step == "hash"]
    rest = hashes[1:] if (first := hashes[0].column) is not None and first.few else hashes
    return not all(_is_word(link) for link in rest) or len(rest) > FLAT


def _is_word(link: Link) -> bool:
    return link.column is None or link.column.kind in ("int4", "time")


def _value(link: Link, columns: Sequence[Column]) -> str:
    """Return the expression of what a link takes in, in the form in which it does."""
    column = link.column
    if link.step == "xor":
        return f"toUInt64(toInt64({canonical(column) if column else _flags(columns)}))"
    if column is None:
        return "toUInt32(0)"
    value = canonical(column)
    return {"int4": f"toUInt32({value})", "time": _folded(value), "float": _bits(value)}.get(column.kind, value)


def _level(rows: str, kept: Sequence[str], new: Mapping[str, str]) -> str:
    return f"(SELECT {', '.join([*kept, *(f'{each} AS {name}' for name, each in new.items())])} FROM {rows})"  # noqa: S608


def _flat_word(rows: str, kept: Sequence[str], word: str, seed: str) -> str:
    """Put the hash of four bytes over ``rows``: a subquery a few rounds, whose columns are computed once.

    ClickHouse makes one expression of them all. The columns of a round bear its number, for a name means what is below.
    """
    init = (_INIT + 4) & 0xFFFFFFFF
    start = {
        "a0": f"toUInt32({init} + bitShiftRight({seed}, 32))",
        "b0": f"toUInt32({init} + bitAnd({seed}, 4294967295))",
        "c0": f"toUInt32({init})",
    }
    rows = _level(rows, [*kept, word], start)

    def added(now: dict[str, str]) -> None:
        now["a"] = f"toUInt32({now['a']} + {word})"

    rounds = [*(_mix(*each) for each in _MIX), added, *(_final(*each) for each in _FINAL)]
    for at in range(0, len(rounds), TOGETHER):
        now = {name: f"{name}{at}" for name in "abc"}
        for each in rounds[at : at + TOGETHER]:
            each(now)
        last = at + TOGETHER
        rows = _level(rows, [*kept, *([word] if last <= len(_MIX) else [])], {f"{n}{last}": now[n] for n in "abc"})
    end = -(-len(rounds) // TOGETHER) * TOGETHER
    return _level(rows, kept, {"h_": f"bitOr(bitShiftLeft(toUInt64(b{end}), 32), toUInt64(c{end}))"})


def _looked_up(text: str, seed: str, longest: int, table: str) -> str:
    """Hash of a text of few values with a constant seed: computed once a value, and looked up a row."""
    values = f"(SELECT DISTINCT toString({text}) AS value_ FROM {table} ORDER BY value_)"  # noqa: S608 (quoted names)
    hashed = f"({_hash_text('value_', seed, longest)})[1]"
    known = f"(SELECT groupArray(value_) FROM {values}), (SELECT groupArray({hashed}) FROM {values})"  # noqa: S608
    return f"transform(toString({text}), {known}, toUInt64(0))"


def bucket(columns: Sequence[Column], buckets: int, longest: int) -> str:
    """Return the expression of a key's bucket: the low bits of its text's hash. ``buckets`` is a power of two."""
    return f"bitAnd(({_hash_text(key_text(columns), f'[toUInt64({START})]', longest)})[1], {buckets - 1})"


def _bits(value: str) -> str:
    """Return a double's bits; minus zero and zero are one number, and so is whatever is none."""
    return f"reinterpretAsUInt64(if(isNaN({value}), nan, {value} + 0.))"


def _folded(micros: str) -> str:
    """Return 32 bits of microseconds since 2000, as ``hashint8extended`` folds them."""
    value = f"({micros} - {_EPOCH})"
    low, high = f"bitAnd({value}, 4294967295)", f"bitShiftRight({value}, 32)"
    return f"toUInt32(bitXor({low}, if({value} >= 0, {high}, bitNot({high}))))"


def _flags(columns: Sequence[Column]) -> str:
    return " + ".join(f"{bit} * isNull({quoted(column.name)})" for column, bit in flags(columns))


def key_text(columns: Sequence[Column]) -> str:
    """Return the expression of a key's text: its parts' texts, joined by U+001F."""
    parts = [f"toString({quoted(column.name)})" for column in columns]
    return parts[0] if len(parts) == 1 else f"concat({', char(31), '.join(parts)})"


def shown(column: Column) -> str:
    """Return the expression of a value's canonical text, null where it is null."""
    name = quoted(column.name)
    if column.kind == "time":
        return f"toString(toDateTime64({name}, 6, 'UTC'))"
    if column.source_type == "boolean":
        return f"toString(toInt32({name}))"
    if column.kind == "float":
        return f"if(isNull({name}), NULL, leftPad(lower(hex({_bits(f'assumeNotNull(toFloat64({name}))')})), 16, '0'))"
    if column.scale is not None:
        return f"toDecimalString({name}, {column.scale})"
    return f"toString({name})"
