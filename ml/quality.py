"""Quality: what a table is expected to be, and the judgement of what was seen of it.

What belongs here: suites, expectations and the pure judgement in Great Expectations' own result format. What does not:
the SQL that gets the aggregates (``assets.quality.pushdown``), the YAML that suites are written in
(``assets/quality/suites``) and the report's pages (``assets.quality.docs``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ERROR", "WARN"]

#: Expectations that look at each row of a column (or of columns): success is a share of rows, ``mostly``.
ROW_WISE = frozenset(
    {
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_between",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "expect_column_pair_values_a_to_be_greater_than_b",
        "unexpected_rows_expectation",
    }
)
TABLE_WISE = frozenset({"expect_table_row_count_to_be_between"})
SCHEMA_WISE = frozenset({"expect_table_columns_to_match_set", "expect_column_values_to_be_of_type"})
SUPPORTED = ROW_WISE | TABLE_WISE | SCHEMA_WISE


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation by Great Expectations' type name and arguments; ``because`` says it in a person's words."""

    type: str
    kwargs: Mapping[str, Any]
    because: str = ""

    def __post_init__(self) -> None:
        if self.type not in SUPPORTED:
            raise ValueError(f"{self.type} is not an expectation that can be pushed down; known: {sorted(SUPPORTED)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the expectation reads by name."""
        single = [str(self.kwargs[name]) for name in ("column", "column_A", "column_B") if name in self.kwargs]
        return tuple(single + [str(name) for name in self.kwargs.get("column_list", ())])


@dataclass(frozen=True, slots=True)
class Check:
    """Expectations that stand and fall together as one asset check.

    ``severity`` ERROR refuses the decisions that rest on the asset; ``blocking`` also holds back what is downstream in
    the same run.
    """

    name: str
    expectations: tuple[Expectation, ...]
    severity: Severity = "ERROR"
    blocking: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What is expected of one table. ``where`` limits the rows looked at, so that a big table is never read whole.

    ``on_report`` attaches the checks to the report, for an asset that is made so often that checking it each time
    would cost more than making it.
    """

    asset: str
    table: str
    checks: tuple[Check, ...]
    where: str = ""
    final: bool = False
    on_report: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen for one expectation. ``error`` is set where it could not be evaluated, which counts as failed.

    ``elements`` are the rows looked at, ``missing`` those left out for a null, ``unexpected`` those that broke it.
    """

    elements: int = 0
    missing: int = 0
    unexpected: int = 0
    sample: tuple[str, ...] = ()
    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged expectation; ``result`` has Great Expectations' keys."""

    expectation: Expectation
    success: bool
    result: Mapping[str, Any]
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One judged check of one table."""

    suite: Suite
    check: Check
    outcomes: tuple[Outcome, ...] = field(default=())

    @property
    def success(self) -> bool:
        """Return whether every expectation of the check held."""
        return all(outcome.success for outcome in self.outcomes)

    @property
    def message(self) -> str:
        """Return in words what failed, or how much held."""
        failed = [outcome.message for outcome in self.outcomes if not outcome.success]
        return "; ".join(failed) if failed else f"{len(self.outcomes)} of {len(self.outcomes)} expectations hold"


def judge(expectation: Expectation, seen: Observed) -> Outcome:
    """Judge one expectation by what was seen; whatever could not be evaluated has failed."""
    if seen.error:
        return Outcome(expectation, False, {}, seen.error, f"{_what(expectation)}: {seen.error}")
    if expectation.type in ROW_WISE:
        return _judge_rows(expectation, seen)
    if expectation.type in TABLE_WISE:
        low, high = expectation.kwargs.get("min_value"), expectation.kwargs.get("max_value")
        success = (low is None or seen.value >= low) and (high is None or seen.value <= high)
        message = f"{seen.value} rows, expected {_range(low, high)}"
        return Outcome(expectation, success, {"observed_value": seen.value}, message="" if success else message)
    return _judge_schema(expectation, seen)


def judge_check(suite: Suite, check: Check, seen: Mapping[int, Observed]) -> CheckOutcome:
    """Judge a check; ``seen`` is keyed by ``id`` of its expectations, and one that is missing has failed."""
    nothing = Observed(error="was not evaluated")
    return CheckOutcome(
        suite,
        check,
        tuple(judge(expectation, seen.get(id(expectation), nothing)) for expectation in check.expectations),
    )


def _judge_rows(expectation: Expectation, seen: Observed) -> Outcome:
    """Judge by the share of rows that hold, of those that are not null (of all, where nulls are the matter)."""
    nulls = expectation.type == "expect_column_values_to_not_be_null"
    counted = seen.elements if nulls else seen.elements - seen.missing
    mostly = float(expectation.kwargs.get("mostly", 1.0))
    share = seen.unexpected / counted if counted else 0.0
    success = seen.unexpected == 0 or (1.0 - share) >= mostly
    result: dict[str, Any] = {
        "element_count": seen.elements,
        "unexpected_count": seen.unexpected,
        "unexpected_percent": 100.0 * share,
        "partial_unexpected_list": list(seen.sample),
    }
    if not nulls:
        result |= {
            "missing_count": seen.missing,
            "missing_percent": 100.0 * seen.missing / seen.elements if seen.elements else 0.0,
            "unexpected_percent_total": 100.0 * seen.unexpected / seen.elements if seen.elements else 0.0,
            "unexpected_percent_nonmissing": 100.0 * share,
        }
    if expectation.type == "unexpected_rows_expectation":
        result = {"observed_value": seen.unexpected, "details": {"unexpected_rows": list(seen.sample)}}
    allowed = "" if mostly >= 1 else f" (at most {100 * (1 - mostly):g}% may)"
    rows = "row breaks" if seen.unexpected == 1 else "rows break"
    message = f"{seen.unexpected} {rows} it: {_what(expectation)}{allowed}"
    if seen.sample:
        message += f", such as {', '.join(seen.sample[:3])}"
    return Outcome(expectation, success, result, message="" if success else message)


def _judge_schema(expectation: Expectation, seen: Observed) -> Outcome:
    if expectation.type == "expect_column_values_to_be_of_type":
        wanted = expectation.kwargs["type_"]
        success = same_type(str(seen.value), str(wanted))
        message = f"column {expectation.kwargs['column']} is {seen.value}, expected {wanted}"
        return Outcome(expectation, success, {"observed_value": seen.value}, message="" if success else message)
    columns, wanted_set = list(seen.value), set(expectation.kwargs["column_set"])
    missing = sorted(wanted_set - set(columns))
    extra = sorted(set(columns) - wanted_set) if expectation.kwargs.get("exact_match", True) else []
    result = {
        "observed_value": columns,
        "details": {"mismatched": {"missing": missing, "unexpected": extra}} if missing or extra else {},
    }
    parts = [f"{name} {', '.join(which)}" for name, which in (("missing", missing), ("not expected", extra)) if which]
    return Outcome(expectation, not parts, result, message=f"columns: {'; '.join(parts)}" if parts else "")


def same_type(actual: str, wanted: str) -> bool:
    """Return whether a ClickHouse type is the wanted one, an encoding (LowCardinality) apart."""
    return _plain(actual) == _plain(wanted)


def _plain(name: str) -> str:
    name = name.replace(" ", "")
    while name.startswith("LowCardinality(") and name.endswith(")"):
        name = name[len("LowCardinality(") : -1]
    return name


def _what(expectation: Expectation) -> str:
    if expectation.because:
        return expectation.because
    words = expectation.type.removeprefix("expect_").replace("_", " ")
    columns = ", ".join(expectation.columns)
    return f"{columns}: {words}" if columns else words


def _range(low: Any, high: Any) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"{low} to {high}"


def summary(outcomes: Sequence[CheckOutcome]) -> dict[str, int]:
    """Return how many checks and expectations ran, held and failed, failures by severity."""
    expectations = [outcome for check in outcomes for outcome in check.outcomes]
    return {
        "checks": len(outcomes),
        "checks_failed": sum(not outcome.success for outcome in outcomes),
        "checks_failed_error": sum(not outcome.success and outcome.check.severity == "ERROR" for outcome in outcomes),
        "expectations": len(expectations),
        "expectations_failed": sum(not outcome.success for outcome in expectations),
    }
