"""The pages that are only read."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.pages import lists
from app.pages.feed import MOST_STREAMS, Feed
from app.pages.headers import OF_A_PICTURE
from app.pages.position import position_page
from app.pages.site import Known, Site, TheSite
from evenkeel.errors import EvenkeelError

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/health")
async def health(site: TheSite) -> Response:
    """Whether the ledger can be read; nothing of what is in it."""
    try:
        await site.reader.act(lambda ledger: ledger.store.active_pauses())
    except EvenkeelError:
        return PlainTextResponse("the ledger cannot be read\n", 503)
    return PlainTextResponse("ok\n")


def with_room(site: TheSite, session: Known) -> Site:
    """Return the site where one more stream may be open. Raises 503, before anything is answered."""
    if site.listeners >= MOST_STREAMS:
        raise HTTPException(503, f"{MOST_STREAMS} pages are open already")
    return site


def keep_live(path: str, part: str, feed_of: Callable[[Site], Feed]) -> None:
    """Serve a page, and the stream that keeps it up to date: its `part` whenever that has changed, while the session lasts."""

    @router.get(path)
    async def page(request: Request, site: TheSite, session: Known) -> Response:
        shown = await feed_of(site).now()
        return site.page(request, f"{part}.html", session, 200 if shown.found else 503, shown=shown)

    @router.get(f"{path.rstrip('/')}/stream", response_class=EventSourceResponse)
    async def stream(
        request: Request, site: Annotated[Site, Depends(with_room)]
    ) -> AsyncIterable[ServerSentEvent]:
        async for shown in feed_of(site).updates(lambda: site.session(request) is not None):
            yield ServerSentEvent(event=part, raw_data=site.fragment(f"parts/{part}.html", shown=shown))
        yield ServerSentEvent(event="ended", raw_data="log in again")


keep_live("/", "overview", lambda site: site.feed)
keep_live("/hedging", "hedging", lambda site: site.hedging)
keep_live("/accounts", "accounts", lambda site: site.accounts)


@router.get("/positions/{position_id}")
async def position(request: Request, site: TheSite, session: Known, position_id: str) -> Response:
    """One position."""
    found = await site.reader.ask(partial(position_page, results=site.results, position_id=position_id))
    return site.page(request, "position.html", session, **found)


@router.get("/positions/{position_id}/{picture}.svg")
async def picture(site: TheSite, session: Known, position_id: str, picture: str) -> Response:
    """The life of a position, or its result, as a picture."""
    drawings = {"life": site.pictures.life, "result": site.pictures.result}
    if picture not in drawings:
        raise HTTPException(404)
    drawn = await site.reader.draw(partial(drawings[picture], site.reader.ledger, position_id))
    return Response(drawn, media_type="image/svg+xml", headers={"Content-Security-Policy": OF_A_PICTURE})


@router.get("/opportunities")
async def opportunities(request: Request, site: TheSite, session: Known) -> Response:
    """What the last scan found."""
    return site.page(request, "opportunities.html", session, **await site.reader.ask(lists.opportunities))


@router.get("/alerts")
async def alerts(request: Request, site: TheSite, session: Known) -> Response:
    """What is open for a person, and what is paused."""
    return site.page(request, "alerts.html", session, **await site.reader.ask(lists.alerts))


@router.get("/reports")
async def reports(request: Request, site: TheSite, session: Known) -> Response:
    """The daily reports and every position."""
    return site.page(request, "reports.html", session, **await site.reader.ask(lists.reports))
