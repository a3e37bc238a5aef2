"""Charts as SVG within a page: bars by day, and ages beside their limits.

What belongs here: drawing numbers. What does not: choosing them (``page``). Every chart has a title for who cannot see
it, and its figures stand in a table beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from math import ceil, log10
from typing import Final

_W, _H, _LEFT, _LOW = 920, 170, 46, 26
COLOURS: Final = {"held": "#2f8f5b", "warned": "#c98a1b", "failed": "#c0392b", "plain": "#3f6fb5"}
_KINDS: Final = ("#3f6fb5", "#8456a8", "#c0762b", "#2f8f8f", "#a8446a")


def _nice(most: float) -> float:
    """Return a round number at or above ``most``."""
    scale = 10.0 ** int(log10(most)) if most >= 1 else 1.0
    return next(step * scale for step in (1, 2, 2.5, 5, 10) if step * scale >= most)


def bars(days: Mapping[date, Mapping[str, float]], series: Sequence[str], title: str) -> str:
    """Return stacked bars by day, every day between the first and the last; empty for no day."""
    if not days:
        return ""
    first, last = min(days), max(days)
    first = min(first, last - timedelta(days=13))
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    top = _nice(max(1.0, *(sum(row.values()) for row in days.values())))
    width = (_W - _LEFT - 8) / len(span)
    colours = {name: COLOURS.get(name, _KINDS[at % len(_KINDS)]) for at, name in enumerate(series)}
    parts = []
    for share in (0, 0.5, 1) if top > 1 else (0, 1):
        y = 10 + (_H - _LOW - 10) * (1 - share)
        parts.append(f'<line x1="{_LEFT}" x2="{_W - 8}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:,.10g}</text>')
    every = ceil(len(span) / 8)
    for at, day in enumerate(span):
        x, y = _LEFT + at * width, float(_H - _LOW)
        for name in series:
            value = days.get(day, {}).get(name, 0)
            if value:
                height = (_H - _LOW - 10) * value / top
                y -= height
                parts.append(
                    f'<rect x="{x + width * 0.12:.1f}" y="{y:.1f}" width="{max(1.0, min(width * 0.76, 40)):.1f}" '
                    f'height="{max(height, 0.8):.1f}" fill="{colours[name]}">'
                    f"<title>{day}: {escape(name)} {value:,.10g}</title></rect>"
                )
        if at % every == 0:
            parts.append(f'<text x="{x:.1f}" y="{_H - 8}">{day:%d %b}</text>')
    legend = "".join(f'<span><i style="background:{colours[name]}"></i>{escape(name)}</span>' for name in series)
    return (
        f'<figure><figcaption>{escape(title)}<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def ages(rows: Sequence[tuple[str, float, float, bool]], title: str) -> str:
    """Return how old the oldest thing of each store is as a share of its limit: (store, age, limit in days, breach)."""
    if not rows:
        return ""
    height, name = 22, 300
    scale = (_W - name - 150) / max(1.1, *(min(2.0, age / limit) for _, age, limit, _ in rows))
    parts = []
    for number, (store, age, limit, breach) in enumerate(rows):
        y = 6 + number * height
        long = scale * min(2.0, age / limit)
        parts.append(
            f'<text x="{name - 8}" y="{y + 13}" text-anchor="end">{escape(store)}</text>'
            f'<rect x="{name}" y="{y + 3}" width="{max(1.0, long):.1f}" height="12" '
            f'fill="{COLOURS["failed" if breach else "plain"]}"/>'
            f'<text x="{name + max(1.0, long, scale) + 8:.1f}" y="{y + 13}">{age:,.0f} of {limit:,.0f} days</text>'
        )
    line = (
        f'<line x1="{name + scale:.1f}" x2="{name + scale:.1f}" y1="2" y2="{10 + len(rows) * height}" class="limit"/>'
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_W} {14 + len(rows) * height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}{line}</svg></figure>"
    )
