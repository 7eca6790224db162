"""A Broker's sign-in by client credentials: they are exchanged for a token that lives for minutes and signs every call.

https://docs.alpaca.markets/docs/authentication: the secret stands in the body; a token is good for 15 minutes and is not asked
for anew with each call. The Trading interface does not offer it.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, Retryable, VenueRefused
from evenkeel.tls import tls
from venues.alpaca import models as m
from venues.reading import Oddities, parse_json, read
from venues.token_life import life_s as token_life_s

TOTAL_S = 10.0
LEEWAY_S = 60.0
"""A token is replaced so long before its end: a call that leaves with it must arrive in time."""
MOST_LIFE_S = 86_400
LIFE_S = 900
"""How long a token lives by Alpaca's own documents: what counts where an answer says no life that can be."""
REFUSED_FOR_MS = 30_000
"""What was refused is not asked for again before: credentials do not become right by being tried."""


class ClientCredentials:
    """The token of one client, asked for by whoever needs it first. Neither secret nor token is ever shown."""

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        clock: Clock,
        venue: str,
        oddities: Oddities | None = None,
    ) -> None:
        self.host = urlsplit(url).hostname or "?"
        self._url, self._client_id, self._secret = url, client_id, secret
        self._clock, self._venue = clock, venue
        self.oddities = oddities or Oddities()
        self._token, self._until_ms = "", 0
        self._refused: tuple[int, str] | None = None
        self._asking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"ClientCredentials({self._venue} at {self.host})"

    async def headers(self) -> dict[str, str]:
        """Return what signs a call. Raises Retryable where there is no answer, VenueRefused where the credentials are not
        taken, NotUnderstood.
        """
        async with self._asking:  # who waits finds the token of who asked
            if self._clock.now_ms() >= self._until_ms:
                await self._ask()
            return {"Authorization": f"Bearer {self._token}"}

    def refused(self, headers: dict[str, str]) -> None:
        """A call that was signed so was not let in: the next one is signed anew."""
        if headers.get("Authorization") == f"Bearer {self._token}":
            self._until_ms = 0

    async def _ask(self) -> None:
        asked_ms = self._clock.now_ms()
        if self._refused is not None and 0 <= asked_ms - self._refused[0] < REFUSED_FOR_MS:
            raise VenueRefused(self._venue, self._refused[1])
        # Errors are not chained and answers not quoted: either may hold the secret or a token.
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret,
        }
        try:
            async with asyncio.timeout(TOTAL_S), httpx.AsyncClient(trust_env=False, verify=tls()) as http:
                answer = await http.post(self._url, data=form)
        except (httpx.HTTPError, httpx.StreamError, OSError, TimeoutError) as error:
            raise Retryable(f"{self._venue} token endpoint {self.host}: {type(error).__name__}") from None
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Retryable(f"{self._venue} token endpoint {self.host}: HTTP {answer.status_code}")
        if answer.status_code != 200:
            why = (
                f"its token endpoint refuses the client (HTTP {answer.status_code}): see that EVENKEEL_ALPACA_KEY and "
                "EVENKEEL_ALPACA_SECRET are its id and its secret, and that hedging.alpaca.token_url is of the same environment"
            )
            self._refused = (asked_ms, why)
            raise VenueRefused(self._venue, why)
        try:
            found: m.WireToken = read(self._venue, "token", m.WireToken, parse_json(answer.content)).value
        except (ValueError, NotUnderstood):
            raise NotUnderstood(self._venue, "the answer of its token endpoint has no token") from None
        source = f"{self._venue} token"
        life_s = token_life_s(found.expires_in, MOST_LIFE_S, LIFE_S, self.oddities, source, whole=False)
        self._token, self._refused = found.access_token, None
        self._until_ms = asked_ms + int(max(life_s - LEEWAY_S, life_s / 2) * 1000)
