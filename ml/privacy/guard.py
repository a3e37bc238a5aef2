"""Erased persons are known again by keyed hashes alone: which values of a column mention one.

What belongs here: words, runs of words and their hashes, by column. What does not: where the list of hashes stands.

A value is cut into words (:mod:`ml.privacy.matching` has the rule); each run of as many words as a listed identifier
has is hashed, distinct ones once. Without a list nothing is done at all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_WORD: Final = re.compile(r"\w+(?:[.+\-@]\w+)*")
# The same rule for RE2, which knows no Unicode \w: what stands between words.
_BETWEEN: Final = r"[^\pL\pN\pM_.+\-@]+"
_ESCAPES: Final = r'\\[bfnrt"/]'


def canonical(text: str) -> str:
    """Return the words of ``text`` in one spelling (compatibility form, no case), with a space between."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


class Guard:
    """The list of erased persons, as hashes, and the keys that they were made with."""

    def __init__(self, hashes: Iterable[tuple[str, int]], keys: Iterable[bytes]) -> None:
        listed = set(hashes)
        self._hashes = frozenset(hash_ for hash_, _ in listed)
        self._lengths = sorted({words for _, words in listed})
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def mentions(self, columns: Iterable[pa.Array | pa.ChunkedArray]) -> NDArray[np.bool_]:
        """Return for each row whether any of ``columns`` (texts or bytes, of one length) mentions an erased person."""
        import numpy as np

        held: NDArray[np.bool_] | None = None
        for column in columns:
            found = self._column(column)
            held = found if held is None else held | found
        return np.zeros(0, bool) if held is None else held

    def _column(self, column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        held = np.zeros(len(column), bool)
        if not self or not len(column):
            return held
        words = pc.split_pattern_regex(_texts(column), _BETWEEN)
        flat = pc.utf8_trim(words.flatten(), characters=".+-@")
        rows = pc.list_parent_indices(words)
        full = pc.not_equal(flat, "")
        flat, rows = flat.filter(full), rows.filter(full).to_numpy()
        for length in self._lengths:
            if len(flat) < length:
                continue
            runs = flat.slice(0, len(flat) - length + 1)
            for at in range(1, length):
                runs = pc.binary_join_element_wise(runs, flat.slice(at, len(runs)), " ")
            # A run may not go from one row into the next.
            whole = rows[: len(runs)] == rows[length - 1 : length - 1 + len(runs)]
            coded = pc.dictionary_encode(runs.filter(pa.array(whole)))
            listed = np.fromiter(map(self._listed, coded.dictionary.to_pylist()), bool, len(coded.dictionary))
            if listed.any():
                held[rows[: len(runs)][whole][listed[coded.indices.to_numpy()]]] = True
        return held

    def _listed(self, words: Any) -> bool:
        from ml.privacy.sealing import subject_hash

        return any(subject_hash(canonical(words), key) in self._hashes for key in self._keys)


def _texts(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return ``column`` as texts in canonical form, escapes of JSON undone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    raw = whole.cast(pa.binary()).fill_null(b"")
    try:
        texts = raw.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array([one.decode("utf-8", "replace") for one in raw.to_pylist()], pa.string())
    escaped = pc.match_substring(texts, "\\u")
    if pc.any(escaped).as_py():
        # Only what names characters by number is read one by one.
        undone = pa.array([_undone(one) for one in texts.filter(escaped).to_pylist()], pa.string())
        texts = pc.replace_with_mask(texts, escaped, undone)
    texts = pc.replace_substring_regex(texts, _ESCAPES, " ")
    return pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))


def _undone(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return (
            re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), text)
            .encode("utf-8", "replace")
            .decode()
        )
