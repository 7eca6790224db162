"""The login: codes that serve once, access tokens of 30 minutes, refresh tokens that end seven days after the login."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from twins.faults import FaultPlan

CODE_MS = 30_000
ACCESS_MS = 30 * 60_000
LOGIN_MS = 7 * 24 * 3_600_000


@dataclass
class Login:
    """One app of one person. All times are the world's, in ms."""

    now_ms: Callable[[], int]
    faults: FaultPlan
    app_key: str = "twin-app"
    app_secret: str = "twin-app-secret"
    redirect_uri: str = "https://127.0.0.1"
    codes: dict[str, int] = field(default_factory=dict)
    """Each with when it was given; one that has served is gone."""
    access: dict[str, int] = field(default_factory=dict)
    """Each with when it ends."""
    refresh: dict[str, int] = field(default_factory=dict)
    """Each with when its login was."""
    issued: list[str] = field(default_factory=list)
    """Every code and token that was ever given."""
    refused: int = 0
    """Calls with a token that did not live."""

    def allow(self, state: str = "") -> str:
        """Return the address to which a browser is sent once the person has allowed access."""
        code = f"C0.{secrets.token_urlsafe(24)}@"
        self.codes[code] = self.now_ms()
        self.issued.append(code)
        session = secrets.token_hex(8)
        more = f"&state={quote(state)}" if state else ""
        return f"{self.redirect_uri}/?code={quote(code, safe='')}&session={session}{more}"

    def lives(self, token: str) -> bool:
        """Whether an access token serves; counts those that do not."""
        alive = self.now_ms() < self.access.get(token, 0)
        self.refused += not alive
        return alive

    async def authorize(self, request: Request) -> Response:
        """The page on which a person allows access; following its link does."""
        asked = request.query_params
        if (asked.get("client_id"), asked.get("redirect_uri")) != (self.app_key, self.redirect_uri):
            return HTMLResponse("<html>We are unable to complete your request.</html>", 400)
        if asked.get("response_type", "code") != "code":
            return HTMLResponse("<html>unsupported response_type</html>", 400)
        if asked.get("allow") == "yes":
            return RedirectResponse(self.allow(asked.get("state", "")), 302)
        link = urlencode({**asked, "allow": "yes"})
        return HTMLResponse(f'<html><a href="/v1/oauth/authorize?{link}">Allow</a></html>')

    async def token(self, request: Request) -> Response:
        if not self._is_app(request.headers.get("authorization", "")):
            return _error(401, "invalid_client", "Unauthorized")
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if self.faults.take("schwab", "denied"):
            return HTMLResponse("<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD></HTML>", 403)
        if fault := self.faults.take("schwab", "invalid_grant"):
            word = str(fault.args.get("error", "invalid_grant"))
            return _error(400, word, "Failed refresh token authentication [tokenDigest=Hk1=]")
        kind = form.get("grant_type")
        if kind == "authorization_code":
            return self._exchange(form)
        if kind == "refresh_token":
            return self._refresh(form)
        return _error(400, "unsupported_grant_type", str(kind))

    def _exchange(self, form: dict[str, str]) -> Response:
        given_ms = self.codes.pop(form.get("code", ""), None)
        if given_ms is None or self.now_ms() - given_ms > CODE_MS:
            return _error(400, "invalid_grant", "the authorization code is invalid or expired")
        if form.get("redirect_uri") != self.redirect_uri:
            return _error(400, "invalid_grant", "redirect_uri does not match")
        self.refresh.clear()  # a new login ends the one before
        token = secrets.token_urlsafe(48)
        self.refresh[token] = self.now_ms()
        self.issued.append(token)
        return self._granted(token)

    def _refresh(self, form: dict[str, str]) -> Response:
        token = form.get("refresh_token", "")
        login_ms = self.refresh.get(token)
        if login_ms is None or self.now_ms() - login_ms >= LOGIN_MS:
            return _error(400, "invalid_grant", "the refresh token is invalid, expired or revoked")
        return self._granted(token)

    def _granted(self, refresh: str) -> Response:
        token = f"I0.{secrets.token_urlsafe(36)}@"
        now_ms = self.now_ms()
        self.access = {one: ends_ms for one, ends_ms in self.access.items() if now_ms < ends_ms}
        self.access[token] = now_ms + ACCESS_MS
        self.issued.append(token)
        body = {
            "expires_in": ACCESS_MS // 1000,
            "token_type": "Bearer",
            "scope": "api",
            "refresh_token": refresh,
            "access_token": token,
            "id_token": "twin",
        }
        return JSONResponse(body)

    def _is_app(self, header: str) -> bool:
        try:
            named = b64decode(header.removeprefix("Basic "), validate=True).decode()
        except ValueError:
            return False
        return header.startswith("Basic ") and named == f"{self.app_key}:{self.app_secret}"


def _error(status: int, error: str, words: str) -> Response:
    body: dict[str, Any] = {"error": error, "error_description": words}
    return JSONResponse(body, status)
