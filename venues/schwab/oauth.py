"""Schwab's login: the address that a person opens, the code that comes back, and the tokens that it buys.

A code lives some 30 seconds and serves once. An access token lives 30 minutes; the refresh token ends seven days after the
login, however often it is used. None of these, nor the app's secret, is ever part of a message.

A life that is no whole number of seconds from 1 to `MOST_LIFE_S` counts as the documented one and is named: a code serves once,
so the tokens of a login are not thrown away for it, and one that ends earlier is refused and replaced.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, OperatorError, Retryable
from evenkeel.tls import tls
from venues.reading import Oddities, parse_json, read
from venues.schwab import models as m
from venues.schwab.client import CONNECT_S, TOTAL_S
from venues.schwab.models import VENUE
from venues.token_life import life_s

MOST_LIFE_S = 3600
LIFE_S = 1800
"""How long an access token lives by Schwab's own documents: what counts where an answer says no life that can be."""
SOURCE = f"{VENUE} tokens"


@dataclass(frozen=True)
class App:
    """What Schwab knows our program by. `redirect_uri` as it was registered."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    redirect_uri: str = "https://127.0.0.1"


@dataclass(frozen=True)
class Grant:
    """Tokens as they came. `asked_ms`: when they were asked for, before which nothing of them lived."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    lives_s: int
    asked_ms: int


class LoginEnded(OperatorError):
    """The venue takes the refresh token, or the code, no more: a person must log in."""


class SchwabOauth:
    """The token endpoint of one host."""

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        app: App,
        *,
        http: httpx.AsyncClient | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self._url = base_url.rstrip("/") + "/v1/oauth"
        self._clock = clock
        self._app = app
        self.oddities = oddities or Oddities()
        self._own_http = http is None
        self._http = http or httpx.AsyncClient(
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S), trust_env=False, verify=tls()
        )

    async def aclose(self) -> None:
        """Close the connections that were opened here."""
        if self._own_http:
            await self._http.aclose()

    def authorize_url(self, state: str) -> str:
        """Return the address at which a person allows this program to trade. `state` comes back with the code."""
        asked = {
            "client_id": self._app.key,
            "redirect_uri": self._app.redirect_uri,
            "response_type": "code",
            "state": state,
        }
        return f"{self._url}/authorize?{urlencode(asked)}"

    def code_of(self, pasted: str, state: str) -> str:
        """Return the code in the address to which the browser was sent. Raises OperatorError, which quotes nothing of it."""
        split, wanted = urlsplit(pasted.strip()), urlsplit(self._app.redirect_uri)
        if (split.scheme, split.netloc) != (wanted.scheme, wanted.netloc):
            raise OperatorError(
                f"what was pasted does not begin with {self._app.redirect_uri}: paste the whole address that the "
                "browser shows after you have allowed access"
            )
        given = parse_qs(split.query)
        if given.get("state", [state]) != [state]:
            raise OperatorError(
                "the address that was pasted is of another login: begin again with the new link"
            )
        codes = given.get("code", [])
        if len(codes) != 1:
            raise OperatorError(
                "the address that was pasted has no code: access was not allowed, or it is not whole"
            )
        return codes[0]

    async def exchange(self, code: str) -> Grant:
        """Return the tokens for a code. Raises LoginEnded, Retryable, NotUnderstood."""
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._app.redirect_uri}
        grant = await self._ask(asked)
        if grant.refresh is None:
            raise NotUnderstood(VENUE, "the login was answered without a refresh token")
        return grant

    async def refresh(self, refresh_token: str) -> Grant:
        """Return a new access token. Raises LoginEnded, Retryable, NotUnderstood."""
        return await self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def _ask(self, form: dict[str, str]) -> Grant:
        # Errors are not chained and answers not quoted: either may hold a token.
        basic = b64encode(f"{self._app.key}:{self._app.secret}".encode()).decode()
        asked_ms, what = self._clock.now_ms(), form["grant_type"]
        try:
            async with asyncio.timeout(TOTAL_S):
                answer = await self._http.post(
                    f"{self._url}/token", data=form, headers={"authorization": f"Basic {basic}"}
                )
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Retryable(f"schwab token endpoint: {type(error).__name__}") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Retryable(f"schwab token endpoint: HTTP {answer.status_code}")
        if answer.status_code != 200 and not _is_said_by_oauth(answer):
            raise Retryable(f"schwab token endpoint: HTTP {answer.status_code} and no word of the login")
        if answer.status_code != 200:
            raise LoginEnded(
                f"Schwab refuses the {what} (HTTP {answer.status_code}): log in again, `evenkeel auth schwab`, and see that "
                "the app's key and secret are right"
            )
        try:
            raw = parse_json(answer.content)
        except ValueError:
            raise NotUnderstood(VENUE, "the answer of the token endpoint is not JSON") from None
        try:
            found: m.WireTokens = read(VENUE, "tokens", m.WireTokens, raw).value
        except NotUnderstood:
            raise NotUnderstood(VENUE, "the answer of the token endpoint has no token") from None
        lives_s = life_s(found.expires_in, MOST_LIFE_S, LIFE_S, self.oddities, SOURCE, whole=True)
        return Grant(found.access_token, found.refresh_token, int(lives_s), asked_ms)


def _is_said_by_oauth(answer: httpx.Response) -> bool:
    """Whether the endpoint itself refuses, by an `error` (RFC 6749, 5.2): a proxy's page, or its own trouble, ends no login."""
    try:
        said = parse_json(answer.content)
    except ValueError:
        return False
    word = said.get("error") if isinstance(said, dict) else None
    return isinstance(word, str) and word not in ("server_error", "temporarily_unavailable")
