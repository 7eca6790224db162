"""The web application of managed accounts: its routes, its page, and what it answers when something is wrong."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.accounts.service import api, wallet
from app.accounts.service.answers import Refused, refusal_of
from app.accounts.service.cards import CAN, CANNOT, cards
from app.accounts.service.service import Service, service_of
from app.accounts.service.signing_in import SigningIn
from app.pages.headers import Headers
from evenkeel.errors import Bug, EvenkeelError

log = logging.getLogger("evenkeel.accounts")
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")
TITLE = "evenkeel managed accounts"


def make_app(service: Service) -> FastAPI:
    """Return the application; `outside` makes of it what is served."""
    app = FastAPI(title=TITLE, openapi_url="/openapi.json", docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.signing_in = SigningIn(
        service.store.access, service.settings.service, service.settings.ostium.at.chain_id
    )
    app.state.templates = Environment(
        loader=PackageLoader("app.accounts.service"), autoescape=True, undefined=StrictUndefined
    )
    # A page of somebody else whose name leads to this host by a trick of the name server names itself in `Host`.
    app.add_middleware(
        TrustedHostMiddleware,
        allowed_hosts=[*LOCAL_NAMES, service.settings.service.name],
        www_redirect=False,
    )
    for name, package in (("pages", "app.pages"), ("accounts", "app.accounts.service")):
        app.mount(f"/static/{name}", StaticFiles(packages=[(package, "static")]), name=f"static-{name}")
    app.include_router(api.router)
    app.include_router(wallet.router)
    app.add_api_route("/", page, include_in_schema=False, response_class=HTMLResponse)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    _answer_faults(app)
    return app


def outside(app: FastAPI) -> ASGIApp:
    """Return what is served: every answer has the headers, and a body of more than a form's length is refused."""
    return Headers(app)


async def page(request: Request) -> HTMLResponse:
    """The page for users."""
    service = service_of(request)
    text = request.app.state.templates.get_template("accounts.html").render(
        cards=cards(service),
        can=CAN,
        cannot=CANNOT,
        chain=wallet.CHAINS[service.settings.ostium.at.chain_id][0],
        markets=list(service.settings.ostium.markets.values()),
    )
    return HTMLResponse(text)


def _schema(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(
            title=TITLE,
            version="1",
            description="Trades in users' names, by delegation.",
            routes=app.routes,
        )
        found["servers"] = [{"url": app.state.service.settings.service.address}]
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in found["paths"].items():
            for operation in methods.values():
                operation["security"] = [] if path == "/health" else [{"token": []}]
        app.openapi_schema = found
    return app.openapi_schema


def _refusal(refused: Refused) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
    return JSONResponse({"success": False, "error": refused.text}, refused.status, headers)


def _answer_faults(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, fault: Refused) -> JSONResponse:
        return _refusal(fault)

    @app.exception_handler(EvenkeelError)
    async def ours(request: Request, fault: EvenkeelError) -> JSONResponse:
        if isinstance(fault, Bug):
            log.error("a bug: %s %s: %s", request.method, request.url.path, fault)
        return _refusal(refusal_of(fault))

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, fault: HTTPException) -> JSONResponse:
        return _refusal(Refused(fault.status_code, str(fault.detail)))

    @app.exception_handler(RequestValidationError)
    async def odd(request: Request, fault: RequestValidationError) -> JSONResponse:
        first = fault.errors()[0]  # what was sent is in it too, and is not repeated
        return _refusal(Refused(422, f"{first['loc'][-1]}: {first['msg']}"))

    @app.exception_handler(Exception)
    async def broken(request: Request, fault: Exception) -> JSONResponse:
        log.error("a bug: %s %s: %s", request.method, request.url.path, type(fault).__name__)
        return _refusal(refusal_of(Bug("")))
