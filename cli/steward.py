"""The steward's page: a few telling rows to label, and held rows to release or keep; on loopback, by token.

What belongs here: routes, forms and HTML. What does not: reading, finding and keeping (``assets.quality``).

It works without scripts. The token comes once in the address, then in a cookie that no script reads and no other site
sends. Rows are shown to the person who decides, and kept nowhere.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from assets.quality import cells, landed
from resources.errors import WarehouseError

if TYPE_CHECKING:
    from assets.quality.cells import Assessment
    from resources.warehouse import Warehouse

COOKIE: Final = "isthmus_steward"
ROWS: Final = 20
_MAX_BODY: Final = 100_000
_SHOWN: Final = 300
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Looks:
    """The latest look at each table: labelling asks row after row, and a look takes seconds."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = Lock()
        self._found: dict[str, Assessment] = {}

    def at(self, table: str, *, anew: bool = False) -> Assessment:
        """Return the look at ``table``; raises WarehouseError where there is none to have."""
        with self._lock:
            if anew or table not in self._found:
                self._found[table] = cells.assess(self._warehouse, table)
            return self._found[table]


def application(warehouse: Warehouse, tokens: Mapping[str, str], tables: tuple[str, ...]) -> FastAPI:
    """Return the page for ``tables``; ``tokens`` are those who may decide, name → token."""
    app = FastAPI(title="Isthmus steward", docs_url=None, redoc_url=None, openapi_url=None)
    looks = Looks(warehouse)

    @app.middleware("http")
    async def doors(request: Request, onward: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await _admitted(request, onward, tokens)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(WarehouseError)
    async def refused(_: Request, error: WarehouseError) -> HTMLResponse:
        return _page("Not possible", f"<p class=bad>{escape(str(error))}</p>", status=409)

    @app.exception_handler(landed.JudgedError)
    async def wrong(_: Request, error: landed.JudgedError) -> HTMLResponse:
        return _page("Not possible", f"<p class=bad>{escape(str(error))}</p>", status=400)

    @app.get("/style.css")
    async def style() -> Response:
        return Response(files("cli").joinpath("steward.css").read_bytes(), media_type="text/css")

    @app.get("/")
    def start() -> HTMLResponse:
        waiting = len(landed.held(warehouse, limit=500))
        listed = "".join(f"<li><a href='/cells/{quote(name)}'>{escape(name)}</a></li>" for name in tables)
        return _page(
            "Steward",
            f"<section><h2>Held rows</h2><p><a href='/held'>{_waiting(waiting)} for a decision</a></p></section>"
            f"<section><h2>Cells</h2><p>Say which cells of {ROWS} telling rows are wrong; "
            f"the table is then judged by what you said.</p><ul>{listed}</ul></section>",
        )

    @app.get("/held")
    def held() -> HTMLResponse:
        rows = landed.held(warehouse)
        return _page("Held rows", "".join(_held(row) for row in rows) or "<p>No row waits for a decision.</p>")

    @app.post("/held")
    async def decide(request: Request) -> Response:
        said = await _form(request)
        try:
            place = {name: int(said.get(name, [""])[0]) for name in landed.PLACE[1:]}
        except ValueError as error:
            raise landed.JudgedError("the form names no row") from error
        await run_in_threadpool(
            landed.decide,
            warehouse,
            topic=said.get("topic", [""])[0],
            **place,
            decision=said.get("decision", [""])[0],
            because=said.get("because", [""])[0],
            actor=request.state.actor,
        )
        return RedirectResponse("/held", 303)

    @app.get("/cells/{table}")
    def ask(table: str) -> HTMLResponse:
        found = looks.at(_listed(table, tables))
        asked, wrong = cells.labels(warehouse, found.sample)
        chosen = found.detector.ask(asked, wrong, 1).tolist() if len(asked) < ROWS else []
        if not chosen:
            return _page(table, _findings(looks.at(table, anew=True)))
        return _page(table, _question(found, chosen[0], len(asked)))

    @app.post("/cells/{table}")
    async def answer(table: str, request: Request) -> Response:
        said = await _form(request)
        found = looks.at(_listed(table, tables))
        key = said.get("row", [""])[0]
        if key not in found.sample.keys:
            raise WarehouseError("the row is not in the sample any more: go back and load the page anew")
        row = found.sample.keys.index(key)
        await run_in_threadpool(
            cells.answer, warehouse, found.sample, {row: said.get("wrong", [])}, actor=request.state.actor
        )
        return RedirectResponse(f"/cells/{quote(table)}", 303)

    return app


async def _admitted(
    request: Request, onward: Callable[[Request], Awaitable[Response]], tokens: Mapping[str, str]
) -> Response:
    """Let in who shows a token; a form must come from our own page, and from a name of this machine."""
    host = request.headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in ("127.0.0.1", "localhost", "::1"):
        return _page("Not here", "<p>Use the address that the command printed.</p>", status=421)
    given = request.query_params.get("token", "")
    if given and _who(given, tokens):
        entered = RedirectResponse(request.url.path, 303)
        entered.set_cookie(COOKIE, given, httponly=True, samesite="strict")
        return entered
    actor = _who(request.cookies.get(COOKIE, ""), tokens)
    if not actor:
        return _page("Who are you?", "<p>Open the address that <code>isthmus quality steward</code> printed.</p>", 401)
    if request.method == "POST" and urlsplit(request.headers.get("origin", "")).netloc != host:
        return _page("Not from here", "<p>The form came from another page.</p>", status=403)
    request.state.actor = actor
    return await onward(request)


def _who(token: str, tokens: Mapping[str, str]) -> str:
    """Return whose token it is, empty for nobody's; each is compared, in constant time."""
    found = ""
    for name, known in tokens.items():
        if hmac.compare_digest(token.encode(), known.encode()):
            found = name
    return found


async def _form(request: Request) -> dict[str, list[str]]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise landed.JudgedError("the form is too large")
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def _listed(table: str, tables: tuple[str, ...]) -> str:
    if table not in tables:
        raise WarehouseError(f"{table} is not listed in assets/quality/cells.yml")
    return table


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)} · Isthmus</title><link rel=stylesheet href=/style.css>"
        f"<header><a href='/'>Steward</a></header><main><h1>{escape(title)}</h1>{body}</main></html>",
        status,
    )


def _waiting(rows: int) -> str:
    return "1 row waits" if rows == 1 else f"{rows} rows wait"


def _held(row: Mapping[str, Any]) -> str:
    place = "".join(f"<input type=hidden name={name} value='{escape(str(row[name]))}'>" for name in landed.PLACE)
    reasons = "".join(f"<li>{escape(str(reason))}</li>" for reason in row["reasons"])
    return (
        f"<article><h2>{escape(row['topic'])} · {row['partition']}/{row['offset']}</h2>"
        f"<p>Came {row['appended_at']:%Y-%m-%d %H:%M:%S}; broke:</p><ul>{reasons}</ul>"
        f"<pre>{escape(_pretty(row['value']))}</pre>"
        f"<form method=post action=/held>{place}<label>Why <input name=because required maxlength=500></label>"
        "<button name=decision value=release>Release</button>"
        "<button name=decision value=keep class=quiet>Keep back</button></form></article>"
    )


def _pretty(value: str) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)[:4_000]
    except ValueError:
        return value[:4_000]


def _question(found: Assessment, row: int, asked: int) -> str:
    sample = found.sample
    lines = "".join(
        f"<tr><td><label><input type=checkbox name=wrong value='{escape(column)}'> wrong</label>"
        f"<th>{escape(column)}<td class=value>{escape(sample.cells[column][row][:_SHOWN]) or '<i>empty</i>'}"
        f"<td>{found.p[row, at]:.0%}</tr>"
        for at, column in enumerate(sample.columns)
    )
    return (
        f"<p>Row {asked + 1} of {ROWS}. Tick each cell that is wrong, none where all are right.</p>"
        f"<form method=post><input type=hidden name=row value='{escape(sample.keys[row])}'>"
        f"<table><thead><tr><th><th>column<th>value<th>suspected<tbody>{lines}</table>"
        "<button>Save and next</button></form>"
    )


def _findings(found: Assessment) -> str:
    said = (found.p >= found.threshold).sum(axis=0)
    lines = "".join(
        f"<tr><th>{escape(column)}<td>{int(said[at]):,}</tr>"
        for at, column in enumerate(found.sample.columns)
        if said[at]
    )
    table = f"<table><thead><tr><th>column<th>probably wrong<tbody>{lines}</table>" if lines else "<p>No cell.</p>"
    return f"<p>{len(found.labelled)} rows are labelled. Of {len(found.p):,} rows, probably wrong:</p>{table}"
