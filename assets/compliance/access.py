"""The right of access: everything that the stores hold of a person, in one file that only its owner reads.

What belongs here: collecting and writing. What does not: asking for the person (``cli.privacy``).
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assets.compliance.processing import words_of
from assets.compliance.stores import Store
from ml.privacy.matching import Matcher
from resources.errors import ResourceError

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f4;padding:.5rem}"
    "@media print{pre{background:none}}"
)


def collect(stores: Sequence[Store], matcher: Matcher) -> dict[str, Any]:
    """Return what each store holds, by store; what could not be read stands under ``not_read``, in words."""
    held: dict[str, list[dict[str, Any]]] = {}
    unread: dict[str, str] = {}
    for store in stores:
        if store.absent:
            continue
        try:
            held[store.name] = [
                {"place": one.place, "content": one.content, **({"kept": one.kept} if one.kept else {})}
                for one in store.items(matcher)
                if not one.near
            ]
        except ResourceError as error:
            unread[store.name] = words_of(error)
        if store.foreign and not held.get(store.name):
            unread.setdefault(store.name, store.foreign)
    return {"collected_at": datetime.now(UTC).isoformat(timespec="seconds"), "stores": held, "not_read": unread}


def write(export: dict[str, Any], path: Path) -> None:
    """Write ``export`` to a new file, mode 0600: a page where the name ends in .html, JSON else.

    Raises FileExistsError rather than overwriting what is there.
    """
    text = _page(export) if path.suffix == ".html" else _shown_json(export)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _page(export: dict[str, Any]) -> str:
    parts = [f"<h1>Personal data held</h1><p>Collected at {export['collected_at']} (UTC).</p>"]
    for store, items in export["stores"].items():
        parts.append(f"<h2>{html.escape(store)}</h2><p>{len(items)} entries.</p>")
        for one in items:
            shown = _shown(one["content"])
            kept = f"<p>Kept by law: {html.escape(one['kept'])}</p>" if "kept" in one else ""
            parts.append(f"<h3>{html.escape(one['place'])}</h3>{kept}<pre>{html.escape(shown)}</pre>")
    for store, why in export["not_read"].items():
        parts.append(f"<h2>{html.escape(store)}</h2><p>Not read: {html.escape(why)}</p>")
    head = f'<meta charset="utf-8"><title>Personal data held</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _shown(content: Any) -> str:
    """Return content as a person reads it: text as it stands, and what is JSON within it laid out."""
    if isinstance(content, str):
        try:
            return _shown_json(json.loads(content))
        except ValueError:
            return content
    return _shown_json(content)


def _shown_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
