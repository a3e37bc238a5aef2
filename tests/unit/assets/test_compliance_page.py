"""The report's page: what is said is escaped, tables and charts hold their figures, nothing comes from outside."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from assets.compliance.charts import ages, bars
from assets.compliance.gather import Facts
from assets.compliance.page import page
from assets.compliance.verdict import judge

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
NASTY = "<script>alert(1)</script>"


def facts() -> Facts:
    found = Facts(NOW, NOW - timedelta(days=90))
    found.tables = {
        "checks": [{"asset_key": NASTY, "check_name": NASTY, "held": True, "severity": "ERROR", "at": NOW,
                    "failures": 0, "evaluations": 1}],
        "retention": [{"store": f"table {NASTY}", "personal": True, "limit_days": 400.0, "declared_by": NASTY,
                       "oldest": NOW - timedelta(days=500), "items": 1, "past": 1, "state": "overdue",
                       "action": NASTY, "done": False}],
        "access": [{"principal": NASTY, "store": "warehouse", "table_name": "a.b", "purpose": NASTY, "reads": 1,
                    "rows": 1, "last": NOW.date(), "unusual": [NASTY]}],
        "records": [{}],
    }  # fmt: skip
    found.inventory = [
        {"column": f"a.b.{NASTY}", "entity": "PERSON", "found": 1, "sampled": 2, "confidence": 1.0, "declared": True,
         "undeclared": False, "owner": NASTY, "lawful_basis": NASTY, "retention": "", "action": ""}
    ]  # fmt: skip
    found.refusal_days = [{"day": NOW.date(), "kind": NASTY, "count": 2}]
    found.unread = [NASTY]
    return found


def test_nothing_that_is_told_becomes_markup() -> None:
    text = page(facts(), judge(facts()), run_id=NASTY)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 10


def test_the_verdict_tells_a_breach_a_gap_and_what_should_be_looked_at() -> None:
    verdict = judge(facts())
    assert verdict.word == "failed"
    assert any("retention" in one for one in verdict.against)
    assert verdict.missing == (f"could not be read: {NASTY}",)
    assert any("stood out" in one for one in verdict.look)


def test_bars_show_every_day_and_are_as_high_as_their_figures() -> None:
    days = {date(2026, 5, 1): {"held": 8.0, "failed": 2.0}, date(2026, 5, 4): {"held": 10.0}}
    drawn = bars(days, ("held", "failed"), "Checks")
    assert drawn.count("<rect") == 3
    assert "2026-05-01: failed 2" in drawn
    assert bars({}, ("held",), "Checks") == ""


def test_an_age_past_its_limit_is_marked() -> None:
    drawn = ages([("a", 500, 400, True), ("b", 1, 400, False)], "Ages")
    assert drawn.count("#c0392b") == 1
    assert "500 of 400 days" in drawn
    assert ages([], "Ages") == ""
