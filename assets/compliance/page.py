"""The report's page: everything in one file, for a browser and for paper.

What belongs here: HTML. What does not: which figures there are (``gather``) and what they mean (``verdict``). Every
text goes through :func:`escape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from assets.compliance import charts
from assets.compliance.gather import DAYS, Facts
from assets.compliance.verdict import NOT_COVERED, Verdict
from ml.retention import BREACHES

_BREAKS: Final = re.compile(r"([._/$:](?=\w))")
_WHEN: Final = re.compile(r"\d{4}-\d\d-\d\d")
_STYLE: Final = Path(__file__).with_name("report.css")
_WORDS: Final = {
    "held": "Nothing stands against it",
    "warned": "Nothing stands against it; some things should be looked at",
}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def page(facts: Facts, verdict: Verdict, *, run_id: str) -> str:
    """Return the page. It asks no network for anything."""
    sections = [
        ("summary", "Summary", _summary(facts, verdict)),
        ("quality", "Data quality", _quality(facts)),
        ("inventory", "Personal data", _inventory(facts)),
        ("retention", "Retention", _retention(facts)),
        ("requests", "Requests and proofs", _requests(facts)),
        ("access", "Access", _access(facts)),
        ("record", "Record of processing", _record(facts)),
        ("decisions", "Refused decisions", _decisions(facts)),
        ("limits", "Not covered", _limits(facts)),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    new = {"record"}
    body = "".join(
        f'<section id="{key}"{" class=new" if key in new else ""}><h2>{name}</h2>{text}</section>'
        for key, name, text in sections[1:]
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Compliance report {facts.at:%Y-%m-%d}</title><style>{_STYLE.read_text()}</style></head><body>"
        f'<div class="page"><nav><strong>Isthmus</strong>{links}</nav><main id="summary"><h1>Compliance report</h1>'
        f'<p class="soft">{_time(facts.at)} UTC, the {DAYS} days before. Run {escape(run_id[:8])}. '
        f"No personal data stands in this report.</p>{sections[0][2]}{body}"
        f"<footer>Made by compliance/report from the warehouse's own records: quality.results, quality.pii_inventory, "
        "ops.retention, ops.access_audit, ops.privacy_requests, ops.erasure_proofs, ops.processing_records, "
        "ops.decision_events.</footer></main></div></body></html>"
    )


def _summary(facts: Facts, verdict: Verdict) -> str:
    points = [*verdict.against, *verdict.missing]
    said = _WORDS.get(verdict.word) or f"{len(points)} point{'s' if len(points) > 1 else ''} stand against it"
    said = said.replace("1 point stand ", "1 point stands ")
    listed = "".join(f"<li>{escape(one)}</li>" for one in points)
    look = "".join(f"<li>{escape(one)}</li>" for one in verdict.look)
    checks, retention, requests = facts.rows("checks"), facts.rows("retention"), facts.rows("requests")
    columns = {row["column"] for row in facts.inventory if row["declared"] or row["undeclared"]}
    tiles = (
        ("checks hold", f"{sum(row['held'] for row in checks)} of {len(checks)}"),
        ("columns with personal data", len(columns)),
        ("stores within retention", f"{sum(row['state'] not in BREACHES for row in retention)} of {len(retention)}"),
        ("requests open", sum(row["state"] in ("open", "waiting") for row in requests)),
        ("who read personal data", len({row["principal"] for row in facts.rows("access")})),
        ("decisions refused", sum(row["count"] for row in facts.refusal_days)),
    )
    return (
        f'<div class="verdict {verdict.word}"><b>{said}</b>{f"<ul>{listed}</ul>" if listed else ""}</div>'
        + (f'<div class="verdict warned"><b>To look at</b><ul>{look}</ul></div>' if look else "")
        + '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span class="soft">{name}</span></div>' for name, value in tiles)
        + "</div>"
    )


def _quality(facts: Facts) -> str:
    checks = facts.rows("checks")
    days = {
        row["day"]: {name: int(row[name]) for name in ("held", "warned", "failed")} for row in facts.rows("check_days")
    }
    failing = [row for row in checks if not row["held"]]
    by_asset: dict[str, list[int]] = {}
    for row in checks:
        entry = by_asset.setdefault(row["asset_key"], [0, 0, 0])
        entry[0 if row["held"] else 1 if row["severity"] == "WARN" else 2] += 1
    return (
        charts.bars(days, ("held", "warned", "failed"), "Evaluations of checks by day")
        + _table("Checks by table, newest evaluation", ("asset", "#hold", "#warn", "#fail"),
                 [(asset, *counts) for asset, counts in sorted(by_asset.items())], "No check was evaluated.")
        + _table("Checks that do not hold now", ("asset", "check", "", "evaluated (UTC)", "#failures"),
                 [(row["asset_key"], row["check_name"], _tag(row["severity"], "warned" if row["severity"] == "WARN" else
                   "failed"), _time(row["at"]), row["failures"]) for row in failing], "All hold.")
        + _table("Monitors, by the hour", ("table", "#hours", "#only learned from", "#with an alarm", "newest (UTC)"),
                 [(row["table_name"], row["hours"], row["learning"], row["alarmed"], _time(row["newest"]))
                  for row in facts.rows("monitors")], "No hour was judged yet.")
        + _table("Compared with their sources", ("source", "table", "#rows there", "#rows here", "#differ", "at (UTC)"),
                 [(row["source"], row["warehouse_table"], row["there"], row["here"], row["differ"], _time(row["at"]))
                  for row in facts.rows("reconciliations")], "No source is compared: ISTHMUS_SOURCES names none.")
    )  # fmt: skip


def _inventory(facts: Facts) -> str:
    rows = [row for row in facts.inventory if row["entity"] or row["declared"]]
    scanned = len({row["column"] for row in facts.inventory})
    shown = [
        (
            row["column"],
            row["entity"] or "none found",
            f"{row['found'] / row['sampled']:.1%}" if row["sampled"] else "",
            _tag("undeclared", "failed") if row["undeclared"] else _tag("declared", "held") if row["declared"]
            else _tag("not certain", "plain"),
            row["action"], row["owner"], row["lawful_basis"], row["retention"],
        )
        for row in sorted(rows, key=lambda row: (not row["undeclared"], not row["declared"], row["column"]))
    ]  # fmt: skip
    head = ("column", "holds", "#share", "", "action", "owner", "lawful basis", "retention")
    return f'<p class="soft">{scanned} columns and paths were read.</p>' + _table(
        "Columns that hold, or are declared to hold, personal data", head, shown, "Nothing was found."
    )


def _retention(facts: Facts) -> str:
    rows = facts.rows("retention")
    aged = [
        (row["store"], (facts.at - row["oldest"]).total_seconds() / 86400, float(row["limit_days"]),
         row["state"] in BREACHES)
        for row in rows if row["oldest"] and row["limit_days"]
    ]  # fmt: skip
    aged.sort(key=lambda one: -one[1] / one[2])
    marks = {"kept": "held", "empty": "held", "criterion": "plain", "endless": "plain"}
    shown = [
        (
            row["store"],
            "yes" if row["personal"] else "",
            f"{row['limit_days']:,.0f}" if row["limit_days"] else "",
            row["declared_by"],
            _time(row["oldest"]) if row["oldest"] else "",
            row["items"],
            row["past"],
            _tag(row["state"], marks.get(row["state"], "failed")),
            row["action"] and f"{'done' if row['done'] else 'not done (dry-run)'}: {row['action']}",
        )
        for row in sorted(rows, key=lambda row: (row["state"] not in BREACHES, not row["personal"], row["store"]))
    ]
    head = ("store", "personal", "#days", "declared by", "oldest (UTC)", "#items", "#past", "", "removal")
    return (
        '<p class="soft">Declared beside what is held. Kept: within its period, or the time that the store takes '
        "to remove. Criterion: kept until what stands there has happened. Endless: holds no personal data.</p>"
        + charts.ages(aged[:14], "The oldest that is held, beside its limit (dashed)")
        + _table("Every store", head, shown, "Retention was not looked at.")
    )


def _requests(facts: Facts) -> str:
    marks = {"completed": "held", "withdrawn": "plain"}
    shown = [
        (
            row["request_id"][:18], row["kind"],
            _tag("late" if (late := row["state"] in ("open", "waiting") and row["due_at"] < facts.at) else row["state"],
                 "failed" if late else marks.get(row["state"], "warned")),
            _time(row["filed_at"]), _time(row["due_at"]),
            row["stores"], row["erased"], row["kept"], row["remaining"],
        )
        for row in facts.rows("requests")
    ]  # fmt: skip
    head = ("request", "kind", "", "filed (UTC)", "due (UTC)", "#stores proven", "#erased", "#kept by law", "#remained")
    return _table(
        "Requests of persons, newest first; who they are stands nowhere here", head, shown, "No request was filed."
    )


def _access(facts: Facts) -> str:
    days = {row["day"]: {"reads": int(row["reads"])} for row in facts.rows("access_days")}
    shown = [
        (row["principal"], row["store"], row["table_name"], row["purpose"], row["reads"], row["rows"], str(row["last"]),
         _tag("; ".join(row["unusual"]), "warned") if row["unusual"] else "")
        for row in facts.rows("access")
    ]  # fmt: skip
    head = ("who", "store", "what", "program or action", "#reads", "#rows", "last day", "unusual")
    return charts.bars(days, ("reads",), "Reads of personal data by day") + _table(
        "Who read what, the most rows first", head, shown, "No access is on record."
    )


def _record(facts: Facts) -> str:
    record = facts.record
    if not record:
        return "<p class=gap>No record was made yet.</p>"
    controller = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value) if value else '<span class=gap>not said</span>'}</dd>"
        for name, value in record["controller"].items()
    )
    gaps = "".join(f"<li>{escape(gap)}</li>" for gap in facts.gaps)
    parts = [
        f'<p class="soft">Article 30 (1) GDPR, of {_time(record["made_at"])} UTC; SHA-256 {record["digest"][:9]}…</p>',
        f'<div class="activity"><h3>Controller</h3><dl>{controller}</dl></div>',
        f'<div class="verdict warned"><b>Gaps</b><ul>{gaps}</ul></div>' if gaps else "",
        *(_activity(one) for one in record["activities"]),
        _table("Technical measures (Article 32)", ("measure", "as it is set"),
               [(one["measure"], one["state"]) for one in record["measures"]]),
        _table("Sources", ("name", "kind", "tables"),
               [(one["name"], one["kind"], ", ".join(one["tables"])) for one in record["sources"]], "None is set."),
        _table("Fields with a rule", ("field", "action", "owner", "lawful basis", "retention", "by"),
               [tuple(one[name] for name in ("field", "action", "owner", "lawful_basis", "retention", "because"))
                for one in record["fields"]]),
    ]  # fmt: skip
    return "".join(parts)


def _activity(one: dict[str, Any]) -> str:
    facts = {
        "purpose": one["purpose"], "lawful basis": one["lawful_basis"], "persons": ", ".join(one["subjects"]) or "none",
        "data": ", ".join(one["data"]), "recipients": ", ".join(one["recipients"]) or "none",
        "transfers abroad": ", ".join(one["transfers"]) or "none",
    }  # fmt: skip
    stores = [
        (row["store"], ", ".join(row["personal_columns"]), ", ".join(row["owners"]),
         _kept(row))
        for row in one["stores"]
    ]  # fmt: skip
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f'<div class="activity"><h3>{escape(one["name"])}</h3><dl>{listed}</dl>'
        + _table("", ("store", "personal columns", "owner", "kept"), stores, "No store of it is there yet.")
        + "</div>"
    )


def _kept(store: dict[str, Any]) -> str:
    if store["days"]:
        return f"{store['days']:g} days"
    if store["until"]:
        return f"until {store['until']}"
    return _tag("no period declared", "failed") if store["personal_columns"] else "no period: no personal data found"


def _decisions(facts: Facts) -> str:
    days: dict[Any, dict[str, float]] = {}
    for row in facts.refusal_days:
        days.setdefault(row["day"], {})[row["kind"]] = row["count"]
    kinds = sorted({row["kind"] for row in facts.refusal_days})
    refused = [
        (row["kind"], row["asset"], row["check"] or "-", row["how"], row["count"], _time(row["last"]),
         ", ".join(sorted(row["subjects"])[:6]))
        for row in facts.refusals
    ]  # fmt: skip
    resting = [(", ".join(row["kinds"]), row["asset"], ", ".join(row["checks"])) for row in facts.resting]
    return (
        charts.bars(days, kinds, "Refused decisions by day")
        + _table("Refused because of", ("kind", "asset", "check", "how", "#refused", "last (UTC)", "subjects"), refused,
                 "No decision was refused.")
        + _table("What each kind rests on", ("kind", "made by", "checks"), resting, "No deciding asset is in this job.")
    )  # fmt: skip


def _limits(facts: Facts) -> str:
    unread = "".join(f"<li class=gap>Could not be read: {escape(one)}</li>" for one in facts.unread)
    return "<ul>" + unread + "".join(f"<li>{escape(one)}</li>" for one in NOT_COVERED) + "</ul>"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str = "") -> str:
    """Return a table; a column whose head begins with # holds numbers."""
    found = list(rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    if not found:
        return (
            f"<h3>{escape(caption)}</h3><p class=soft>{escape(nothing)}</p>"
            if caption
            else f"<p class=soft>{nothing}</p>"
        )
    numbers = [name.startswith("#") for name in head]
    heads = "".join(
        f'<th scope="col"{" class=n" if number else ""}>{escape(name.lstrip("#"))}</th>'
        for name, number in zip(head, numbers, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_cell(value, number) for value, number in zip(row, numbers, strict=True)) + "</tr>"
        for row in found
    )
    small = " class=small" if len(found) <= 12 else ""  # kept on one sheet of paper
    return f"<table{small}>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any, number: bool) -> str:
    if isinstance(value, Html):
        return f"<td>{value}</td>"
    whole = isinstance(value, int) and not isinstance(value, bool)
    # Names of tables and columns are long: they may be broken after a dot or a line.
    text = f"{value:,}" if whole else escape(str(value or ""))
    when = _WHEN.match(text) is not None
    kind = " class=n" if number else " class=t" if when else ""
    shown = text if when or whole else _BREAKS.sub(r"\1<wbr>", text)
    return f"<td{kind}>{shown}</td>"


def _tag(word: str, kind: str) -> Html:
    return Html(f'<span class="tag {kind}">{escape(word)}</span>')


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
