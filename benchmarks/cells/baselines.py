"""What a careful person does without learning: rules set up from a column's profile, and an isolation forest.

What belongs here: the two baselines of ``quality_cells.py``. Their settings without labels are the best on forty made
tables (``benchmarks/cells/train.py baselines``). What does not: anything of ``ml/cells``'s own evidence.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ml.cells.table import Column, Floats, Table

Rules = tuple[float, float, float, bool]
"""Share from which a form is the column's (regex), share under which a value is out of the set, tail that is out of
range on each side as a multiple of the inner range, and whether nulls are wrong where a column has few."""
DEFAULT: Rules = (0.9, 0.005, 3.0, True)
CUT = 0.62
"""Score of the isolation forest from which a cell is called wrong."""


def rule_sets(table: Table) -> tuple[dict[Rules, np.ndarray], Rules]:
    """Return what each setting of the rules calls wrong, (rows, columns) each, and the default setting."""
    found = {}
    for rules in product((0.7, 0.9, 0.97), (0.0, 0.002, 0.005, 0.02), (1.5, 3.0, 1e9), (True, False)):
        found[rules] = np.stack([_broken(column, rules)[column.codes] for column in table.columns], axis=1)
    return found, DEFAULT


def _broken(column: Column, rules: Rules) -> np.ndarray:
    """Return which distinct values break an expectation: not null, in set, matches a regex, between, unique."""
    form, rare, tail, nulls = rules
    n = column.rows
    missing = column.empty | column.marker
    wrong = np.zeros(len(column.values), dtype=bool)
    if nulls and column.counts[missing].sum() < 0.2 * n:
        wrong |= missing
    present = np.maximum(column.counts[~missing].sum(), 1)
    runs = np.unique(np.array(column.shapes[1], dtype=object).astype(str), return_inverse=True)[1]
    by_form = np.bincount(runs, column.counts * ~missing)
    if by_form.max() >= form * present:
        wrong |= ~missing & (runs != by_form.argmax())
    if len(column.values) < 0.1 * n:
        wrong |= ~missing & (column.counts < rare * n)
    if column.counts[column.plain].sum() > 0.9 * present:
        numbers = np.repeat(column.numbers[column.plain], column.counts[column.plain])
        low, high = np.quantile(numbers, [0.25, 0.75])
        out = (column.numbers < low - tail * (high - low)) | (column.numbers > high + tail * (high - low))
        wrong |= column.plain & out & (high > low)
        wrong |= ~missing & ~column.plain
    if (column.counts == 1).sum() > 0.99 * n:
        wrong |= column.counts > 1
    return wrong


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
