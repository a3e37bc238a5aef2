"""What a careful person does without learning: rules set up from a column's profile, and an isolation forest.

What belongs here: the two baselines of ``quality_cells.py``. Their settings without labels are the best
of their grids on fourteen made tables. What does not: anything of ``ml/cells``'s own evidence.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ml.cells.table import Column, Floats, Table

Rules = tuple[float, float, float, bool]
"""Share from which a form is the column's (regex), share under which a value is out of the set, tail that is out of
range on each side as a multiple of the inner range, and whether nulls are wrong where a column has few."""
DEFAULT: Rules = (0.7, 0.002, 1e9, True)
CUT = 0.59
"""Score of the isolation forest from which a cell is called wrong."""


_FORMS, _RARE, _TAILS = (0.7, 0.9, 0.97), (0.0, 0.002, 0.005, 0.02), (1.5, 3.0, 1e9)


def rule_sets(table: Table) -> tuple[dict[Rules, np.ndarray], Rules]:
    """Return what each setting of the rules calls wrong, (rows, columns) each, and the default setting."""
    parts = [_broken(column) for column in table.columns]
    found = {}
    for rules in product(_FORMS, _RARE, _TAILS, (True, False)):
        form, rare, tail, nulls = rules
        columns = [
            part["kind"] | part[f"form {form}"] | part[f"rare {rare}"] | part[f"tail {tail}"] | (part["null"] & nulls)
            for part in parts
        ]
        found[rules] = np.stack([w[c.codes] for w, c in zip(columns, table.columns, strict=True)], axis=1)
    return found, DEFAULT


def _broken(column: Column) -> dict[str, np.ndarray]:
    """Return which distinct values break an expectation: not null, in set, matches a regex, between, unique."""
    n = column.rows
    missing = column.empty | column.marker
    none = np.zeros(len(column.values), dtype=bool)
    present = max(int(column.counts[~missing].sum()), 1)
    runs = np.unique(np.array(column.shapes[1], dtype=object).astype(str), return_inverse=True)[1]
    by_form = np.bincount(runs, column.counts * ~missing)
    numeric = column.counts[column.plain].sum() > 0.9 * present
    out = {"null": missing if column.counts[missing].sum() < 0.2 * n else none}
    for form in _FORMS:
        out[f"form {form}"] = ~missing & (runs != by_form.argmax()) if by_form.max() >= form * present else none
    for rare in _RARE:
        few = len(column.values) < 0.1 * n
        out[f"rare {rare}"] = ~missing & (column.counts < rare * n) if few else none
    for tail in _TAILS:
        out[f"tail {tail}"] = none
        if numeric:
            numbers = np.repeat(column.numbers[column.plain], column.counts[column.plain])
            low, high = np.quantile(numbers, [0.25, 0.75])
            far = (column.numbers < low - tail * (high - low)) | (column.numbers > high + tail * (high - low))
            out[f"tail {tail}"] = column.plain & far & (high > low)
    kind = ~missing & ~column.plain if numeric else none
    out["kind"] = kind | (column.counts > 1) if (column.counts == 1).sum() > 0.99 * n else kind
    return out


def forest_scores(table: Table) -> tuple[Floats, float]:
    """Return the isolation forest's score of each cell (rows, columns), a forest a column, and the usual cut."""
    from sklearn.ensemble import IsolationForest

    scores = np.zeros(table.shape)
    for index, column in enumerate(table.columns):
        lengths = np.array([len(value) for value in column.values], dtype=float)
        kinds = [
            [sum(map(test, value)) for test in (str.isdigit, str.isalpha, str.isupper, str.isspace)]
            for value in column.values
        ]
        runs = np.unique(np.array(column.shapes[1], dtype=object).astype(str), return_inverse=True)[1]
        numbers = np.where(np.isfinite(column.numbers), column.numbers, 0.0)
        plain = np.column_stack(
            [
                np.log(column.counts),
                lengths,
                np.array(kinds, dtype=float),
                np.bincount(runs, column.counts)[runs],
                np.clip(numbers, -1e12, 1e12),
            ]
        )
        if len(column.values) < 2:
            continue
        rows = plain[column.codes]
        forest = IsolationForest(n_estimators=100, random_state=0).fit(rows[:: max(1, len(rows) // 5_000)])
        scores[:, index] = -forest.score_samples(plain)[column.codes]
    return scores, CUT
