"""Evidence in spelling: a more frequent value, or word, that a value is a few edits away from.

What belongs here: neighbours of values and words within a column. What does not: dictionaries of any language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml.cells.table import Column, Floats, Ints

Features = dict[str, Floats]
_EDITS = 3
_PAIRS = 4_000_000
"""Pairs of a column that are compared at most; the most frequent values stand for the rest."""
_TEXT = 80
"""Characters that are compared."""


def spelling_features(column: Column) -> Features:
    """Return, for each distinct value, its nearest more frequent value, word, and other spelling."""
    found: Features = {}
    texts = [value[:_TEXT] for value in column.values]
    edits, ratio, near = _nearest(texts, column.counts)
    lengths = np.maximum([len(text) for text in texts], 1)
    found["edits"] = edits
    found["edits_share"] = np.minimum(edits / lengths, 1.0)
    found["edits_ratio"] = ratio
    fine = np.array([shape[:_TEXT] for shape in column.shapes[0]], dtype=object)
    found["edits_same_shape"] = np.where(near >= 0, fine == fine[near], False).astype(float)
    close = edits <= 2
    found["column_close"] = np.full(len(texts), float(close.mean()))
    found["column_close_rows"] = np.full(len(texts), float(column.counts[close].sum() / column.rows))
    found |= _words(column)
    _, codes = np.unique(np.array(column.keys, dtype=object).astype(str), return_inverse=True)
    by_key = np.bincount(codes, column.counts)[codes]
    found["variants"] = np.where(column.empty, 0.0, np.log((by_key - column.counts + 0.5) / (column.counts + 0.5)))
    found["column_variants"] = np.full(len(texts), float(column.counts[by_key > column.counts].sum() / column.rows))
    return found


def _nearest(texts: Sequence[str], counts: Ints) -> tuple[Floats, Floats, Ints]:
    """Return edits to the nearest text of more rows (``_EDITS`` + 1: none), log ratio of rows, and which it is (-1)."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cdist

    size = len(texts)
    edits, ratio, near = np.full(size, _EDITS + 1.0), np.zeros(size), np.full(size, -1, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    targets = order[counts[order] >= 2][: max(_PAIRS // max(size, 1), 50)]
    if not len(targets):
        return edits, ratio, near
    choices = [texts[target] for target in targets]
    step = max(1, 2_000_000 // len(targets))
    for start in range(0, size, step):
        part = slice(start, min(start + step, size))
        matrix = cdist(texts[part], choices, scorer=OSA.distance, score_cutoff=_EDITS, dtype=np.uint8)
        # A neighbour is more frequent, and not empty; among equally near ones the most frequent stands first.
        allowed = counts[targets][None, :] > counts[part][:, None]
        matrix = np.where(allowed & (matrix > 0), matrix, _EDITS + 1)
        best = matrix.argmin(axis=1)
        edits[part] = np.minimum(matrix[np.arange(len(best)), best], _EDITS + 1)
        near[part] = np.where(edits[part] <= _EDITS, targets[best], -1)
        ratio[part] = np.where(near[part] >= 0, np.log(counts[targets[best]] / counts[part]), 0.0)
    short = np.array([len(text) for text in texts]) <= edits
    edits[short], ratio[short], near[short] = _EDITS + 1.0, 0.0, -1
    return edits, ratio, near


def _words(column: Column) -> Features:
    """Return the rarest word of a value, and how near its rare words are to frequent ones."""
    size = len(column.values)
    owner = np.repeat(np.arange(size), [len(tokens) for tokens in column.tokens])
    flat = [token.lower() for tokens in column.tokens for token in tokens]
    rarest, edits, ratio = np.zeros(size), np.full(size, _EDITS + 1.0), np.zeros(size)
    if flat:
        import pandas as pd

        codes, words = pd.factorize(np.array(flat, dtype=object))
        pair = np.unique(owner * np.int64(len(words)) + codes)
        of, word = np.divmod(pair, np.int64(len(words)))
        rows = np.bincount(word, column.counts[of], minlength=len(words))
        others = rows[word] - column.counts[of]
        np.minimum.at(rarest, of, np.log((others + 0.5) / (column.rows + 1.0)))
        near_edits, near_ratio, _ = _nearest([str(text)[:_TEXT] for text in words], rows.astype(np.int64))
        long = np.array([len(str(text)) >= 3 and not str(text).isdigit() for text in words])
        near_edits = np.where(long, near_edits, _EDITS + 1.0)
        np.minimum.at(edits, of, near_edits[word])
        hit = near_edits[word] <= 2
        np.maximum.at(ratio, of[hit], near_ratio[word][hit])
    return {"word_rarest": rarest, "word_edits": edits, "word_ratio": ratio}
