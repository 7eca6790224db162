"""The web application: who may see it, its pages, and what it answers when something is wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.accounts.page import AccountsWork
from app.hedging.page import HedgingWork
from app.pages.feed import Feed
from app.pages.figures import FILTERS
from app.pages.headers import Headers
from app.pages.overview import Results
from app.pages.position import Pictures, Unknown
from app.pages.reader import Reader
from app.pages.sessions import Failures, Session, Sessions
from evenkeel.errors import EvenkeelError, OperatorError
from evenkeel.settings.settings import Settings
from tasks import admin

PAGES = (
    ("/", "Overview"),
    ("/opportunities", "Opportunities"),
    ("/alerts", "Alerts and pauses"),
    ("/reports", "Reports"),
)
"""Address and name of what stands at the top of each page, before the businesses that are switched on."""
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")
COOKIE, TLS_COOKIE = "evenkeel_session", "__Host-evenkeel_session"
"""The second, which a browser sends back by TLS alone, behind a proxy."""


@dataclass
class Site:
    """What every page has at hand."""

    settings: Settings
    reader: Reader
    sessions: Sessions
    failures: Failures
    feed: Feed
    hedging: Feed
    accounts: Feed
    results: Results
    pictures: Pictures
    templates: Environment

    def page(
        self, request: Request, name: str, session: Session | None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a whole page."""
        text = self.templates.get_template(name).render(
            path=request.url.path,
            session=session,
            pages=self.pages,
            token=lambda path: self.sessions.token(session, path),
            **values,
        )
        return HTMLResponse(text, status_code=status)

    @property
    def pages(self) -> tuple[tuple[str, str], ...]:
        """Address and name of each page that these settings have."""
        more = [("/hedging", "Hedging")] if self.settings.hedging.enabled else []
        more += [("/accounts", "Accounts")] if self.settings.has_accounts else []
        return (*PAGES, *more)

    @property
    def listeners(self) -> int:
        """How many pages are open that a stream keeps up to date."""
        return sum(one.listeners for one in self.feeds)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Every live page."""
        return self.feed, self.hedging, self.accounts

    def fragment(self, name: str, **values: Any) -> str:
        """Return a part of a page."""
        return self.templates.get_template(name).render(**values)

    def behind_tls(self, request: Request) -> bool:
        """Whether the request came through the proxy with TLS."""
        return request.url.hostname in self.settings.pages.proxy_names

    def cookie(self, request: Request) -> str:
        """The name of the session's cookie on the way that the request has come."""
        return TLS_COOKIE if self.behind_tls(request) else COOKIE

    def session(self, request: Request) -> Session | None:
        """Who is logged in."""
        return self.sessions.read(request.cookies.get(self.cookie(request)))

    def check_form(self, request: Request, given: str, session: Session | None) -> None:
        """Raise 403 for a form that is not ours, or was open for too long."""
        if not _same_origin(request) or not self.sessions.is_token(given, session, request.url.path):
            raise HTTPException(
                403, "This form is too old, or it is not from this page: go back, reload and send it again."
            )


class NotLoggedIn(Exception):
    """The page is for who has logged in."""


def site_of(request: Request) -> Site:
    """What the application keeps for its pages."""
    found: Site = request.app.state.site
    return found


def known(request: Request) -> Session:
    """Who is logged in. Raises NotLoggedIn."""
    session = site_of(request).session(request)
    if session is None:
        raise NotLoggedIn
    return session


TheSite = Annotated[Site, Depends(site_of)]
Known = Annotated[Session, Depends(known)]


def _same_origin(request: Request) -> bool:
    """By what the browser says of itself; one that says nothing is judged by the form's token alone. A proxy with TLS changes
    the scheme, so names are compared.
    """
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def templates() -> Environment:
    """Everything is escaped, whatever a template is called, and a name that is not there is an error."""
    found = Environment(
        loader=PackageLoader("app.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= FILTERS
    return found


def make_app(settings: Settings, reader: Reader, sessions: Sessions | None = None) -> FastAPI:
    """Return the application; `outside` makes of it what is served."""
    from app.pages import doing, views

    results = Results(settings)
    site = Site(
        settings=settings,
        reader=reader,
        sessions=sessions or Sessions(settings.pages.session_minutes),
        failures=Failures(),
        feed=Feed(reader, results, settings.pages.refresh_s),
        hedging=Feed(reader, HedgingWork(), settings.pages.refresh_s),
        accounts=Feed(reader, AccountsWork(), settings.pages.refresh_s),
        results=results,
        pictures=Pictures(),
        templates=templates(),
    )

    @asynccontextmanager
    async def lives(_: FastAPI) -> AsyncIterator[None]:
        working = [asyncio.create_task(act()) for one in site.feeds for act in (one.run, one.make_accounts)]
        try:
            yield
        finally:
            for feed in site.feeds:
                feed.close()
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lives)
    app.state.site = site
    # A page of somebody else whose name leads to this host by a trick of the name server names itself in `Host`.
    app.add_middleware(
        TrustedHostMiddleware,
        allowed_hosts=[*LOCAL_NAMES, *settings.pages.proxy_names],
        www_redirect=False,
    )
    app.mount("/static", StaticFiles(packages=[("app.pages", "static")]), name="static")
    app.include_router(login_routes())
    app.include_router(views.router)
    app.include_router(doing.router)
    _answer_faults(app)
    return app


def outside(app: FastAPI) -> ASGIApp:
    """Return what is served: around everything, so that an answer to a bug of ours has the headers too."""
    return Headers(app)


def _answer_faults(app: FastAPI) -> None:
    @app.exception_handler(NotLoggedIn)
    async def not_logged_in(request: Request, _: NotLoggedIn) -> Response:
        if request.url.path.endswith("/stream") or request.method != "GET":
            return Response(status_code=401)
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, fault: HTTPException) -> Response:
        site = site_of(request)
        return site.page(
            request,
            "fault.html",
            site.session(request),
            fault.status_code,
            title="Refused",
            text=str(fault.detail),
        )

    @app.exception_handler(404)
    async def missing(request: Request, _: Exception) -> Response:
        site = site_of(request)
        text = "There is no such page."
        return site.page(request, "fault.html", site.session(request), 404, title="Not found", text=text)

    @app.exception_handler(EvenkeelError)
    async def unreadable(request: Request, fault: EvenkeelError) -> Response:
        site = site_of(request)
        unknown = isinstance(fault, Unknown)
        title = "Not found" if unknown else "The ledger cannot be read"
        status = 404 if unknown else 503
        return site.page(request, "fault.html", site.session(request), status, title=title, text=str(fault))

    @app.exception_handler(Exception)
    async def broken(request: Request, fault: Exception) -> Response:
        text = f"A bug of ours: {type(fault).__name__}. The log of `evenkeel desk` says where."
        return site_of(request).page(request, "fault.html", None, 500, title="This page failed", text=text)


def _target(given: str) -> str:
    """Where a login leads: a page of ours, whatever was asked for."""
    ours = given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    return given if ours else "/"


def login_routes() -> Any:
    """Log in by the admin key, and out."""
    from fastapi import APIRouter

    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/login")
    async def login_page(request: Request, site: TheSite, next: str = "/") -> Response:
        return site.page(request, "login.html", None, next=_target(next), fault="")

    @router.post("/login")
    async def login(request: Request, site: TheSite) -> Response:
        form = await request.form(max_files=0, max_fields=8)
        site.check_form(request, str(form.get("token", "")), None)
        target = _target(str(form.get("next", "/")))

        def again(status: int, fault: str, wait_s: float = 0) -> Response:
            answer = site.page(request, "login.html", None, status, next=target, fault=fault)
            if wait_s:
                answer.headers["Retry-After"] = str(math.ceil(wait_s))
            return answer

        if wait_s := site.failures.wait_s():
            return again(429, f"Too many wrong keys: try again in {math.ceil(wait_s)} s.", wait_s)
        site.failures.add()  # taken back below: keys that are tried side by side count before they are judged
        who = f"somebody at {request.client.host if request.client else 'an unknown address'}"
        try:
            await asyncio.to_thread(
                admin.check_key,
                site.settings,
                site.reader.ledger.store,
                str(form.get("key", "")),
                "log in to `evenkeel desk`",
                who,
            )
        except OperatorError as fault:
            return again(403, f"{fault}.")
        site.failures.take_back()
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            site.cookie(request),
            site.sessions.begin(),
            max_age=site.settings.pages.session_minutes * 60,
            httponly=True,
            samesite="strict",
            secure=site.behind_tls(request),
        )
        return answer

    @router.post("/logout")
    async def logout(request: Request, site: TheSite, session: Known) -> Response:
        form = await request.form(max_files=0, max_fields=8)
        site.check_form(request, str(form.get("token", "")), session)
        site.sessions.end(session)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(
            site.cookie(request), httponly=True, samesite="strict", secure=site.behind_tls(request)
        )
        return answer

    return router
