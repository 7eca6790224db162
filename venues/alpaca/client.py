"""Alpaca's HTTP interface: typed reads that are retried, and writes that leave at most once a call.

One client is one key. A Trading account is named by its key; a Broker's key names the account in each path.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from evenkeel.clock import Clock, as_datetime
from evenkeel.errors import NOT_NOW, NotUnderstood, Retryable, VenueRefused
from venues.alpaca import models as m
from venues.alpaca.calendar import calendar_of
from venues.alpaca.pressure import BackPressure
from venues.alpaca.refusals import NOT_FOUND_CODE, in_words
from venues.alpaca.sign_in import ClientCredentials
from venues.broker import BrokerAsset, Calendar, Holding
from venues.ratebudget import Lane, RateBudget, in_lane
from venues.reading import Oddities, Oddity, parse_json
from venues.timing import VenueTime

TRADING, BROKER = "alpaca", "alpaca-broker"
READ_ATTEMPTS = 3
_AGAIN_S = 0.25
TOTAL_S = 10.0
"""Wall seconds that one write may take from its first byte to the answer, whatever readings may take: when an order can no
longer arrive is reckoned from it.
"""


@dataclass(frozen=True)
class Access:
    """A key and its secret, which is never shown. `account_id`: of a Broker's account; None for a Trading key."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    account_id: str | None = None

    @property
    def venue(self) -> str:
        return TRADING if self.account_id is None else BROKER

    @property
    def headers(self) -> dict[str, str]:
        """What every call carries. Never logged."""
        if self.account_id is None:
            return {"APCA-API-KEY-ID": self.key_id, "APCA-API-SECRET-KEY": self.secret}
        pair = base64.b64encode(f"{self.key_id}:{self.secret}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    @property
    def of_account(self) -> str:
        """The beginning of every path about the account."""
        return "/v2" if self.account_id is None else f"/v1/trading/accounts/{quote(self.account_id, safe='')}"

    @property
    def of_all(self) -> str:
        """The beginning of every path that is no account's."""
        return "/v2" if self.account_id is None else "/v1"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that is neither an outage nor a limit. `body` is None where it is no JSON."""

    status: int
    body: Any

    @property
    def is_well(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> int | None:
        found = self.body.get("code") if isinstance(self.body, dict) else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def message(self) -> str:
        found = self.body.get("message") if isinstance(self.body, dict) else None
        return found[:300] if isinstance(found, str) else ""

    @property
    def is_missing(self) -> bool:
        """Whether Alpaca itself says that there is no such thing; a proxy's 404 says nothing."""
        return self.status == 404 and (self.code == NOT_FOUND_CODE or "not found" in self.message.lower())

    @property
    def words(self) -> str:
        return in_words(self.status, self.code, self.message)


class AlpacaClient:
    """One key. Reads raise `Retryable` (transport, 408, 429, 5xx), `VenueRefused` or `NotUnderstood`."""

    def __init__(
        self,
        url: str,
        data_url: str,
        access: Access,
        clock: Clock,
        *,
        budget: RateBudget | None = None,
        timeout_s: float = TOTAL_S,
        transport: httpx.AsyncBaseTransport | None = None,
        oddities: Oddities | None = None,
        sign_in: ClientCredentials | None = None,
    ) -> None:
        self.sign_in = sign_in
        """Of a Broker that signs in by client credentials; None: the key signs each call."""
        self.venue = access.venue
        self.access = access
        self.url, self._data_url = url.rstrip("/"), data_url.rstrip("/")
        self.host = urlsplit(url).hostname or "?"
        self.clock = clock
        self.time = VenueTime(clock)
        self.oddities = oddities or Oddities()
        self.not_understood: dict[str, str] = {}
        """Holdings that the last reading of all of them found and could not make sense of: symbol and why."""
        self.budget = budget or RateBudget(clock, per_minute=180, burst=60)
        """Below the 200 calls a minute that a key has."""
        self.pressure = BackPressure(self.venue, clock)
        self.timeout_s = timeout_s
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False, transport=transport)

    def __repr__(self) -> str:
        return f"AlpacaClient({self.venue} at {self.host})"

    async def close(self) -> None:
        await self._http.aclose()

    # --- one call ------------------------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: str | None = None,
        before_ms: int | None = None,
        url: str | None = None,
    ) -> Said:
        """Make one call, once. Raises Retryable where there is no answer, or one of an outage (408, 5xx) or a limit (429).
        `before_ms`: it does not leave later than that, in ms of our clock; then Retryable too.
        """
        await self.pressure.passed()
        await self.budget.spend()
        asked_ms = self.clock.now_ms()
        if before_ms is not None and asked_ms >= before_ms:
            raise Retryable(f"{self.venue} {method} {_shown(path)}: too late to be sent")
        signed = self.access.headers if self.sign_in is None else await self.sign_in.headers()
        headers = signed | ({"content-type": "application/json"} if content else {})
        limit_s = self.timeout_s if method == "GET" else min(self.timeout_s, TOTAL_S)
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._http.request(
                    method,
                    (url or self.url) + path,
                    params=dict(params or {}) or None,
                    content=content.encode() if content else None,
                    headers=headers,
                )
        except (httpx.HTTPError, httpx.StreamError, OSError, TimeoutError) as error:
            raise Retryable(
                f"{self.venue} {self.host} did not answer {_shown(path)}: {type(error).__name__}"
            ) from None
        await self.time.note_date(asked_ms, answer.headers.get("date"))
        if answer.status_code == 429:
            wait_s = self.pressure.note(answer.headers)
            raise Retryable(f"{self.venue} limits our calls (HTTP 429): again in {wait_s:.1f} s")
        self.pressure.answered()
        if answer.status_code == 401 and self.sign_in is not None:
            self.sign_in.refused(signed)
        if answer.status_code == 408 or answer.status_code >= 500:
            raise Retryable(
                f"{self.venue} {self.host} answered {_shown(path)} with HTTP {answer.status_code}"
            )
        try:
            return Said(answer.status_code, parse_json(answer.content))
        except ValueError:
            return Said(answer.status_code, None)

    async def read(
        self,
        path: str,
        shape: Any,
        source: str,
        *,
        params: Mapping[str, str] | None = None,
        part: str = "",
        url: str | None = None,
    ) -> Any:
        """Return what a GET answers in this shape, what did not fit being noted under `source`; retried a few times. None
        where Alpaca says that there is no such thing.
        """
        source = f"{self.venue} {source}"
        for attempt in itertools.count(1):
            try:
                said = await self.ask("GET", path, params=params, url=url)
                if said.is_missing:
                    return None
                if said.status == 401 and self.sign_in is not None and attempt == 1:
                    continue  # a token that has ended before its time: signed anew, once
                if not said.is_well:
                    raise VenueRefused(self.venue, f"{source}: {said.words}")
                if said.body is None:
                    why = NotUnderstood(self.venue, f"{source} at {self.host}: not JSON")
                    raise self.oddities.not_understood(source, why)
                return self.oddities.read(self.venue, source, shape, said.body, part=part).value
            except NOT_NOW:
                if attempt >= READ_ATTEMPTS or self.pressure.left_s > 0:
                    raise
            await self.clock.sleep(_AGAIN_S * 2**attempt)
        raise AssertionError("unreachable")

    # --- the account ---------------------------------------------------------------------------------------------

    async def cash(self) -> Decimal:
        """Return the dollars of the account, below zero when borrowed. Raises UNREAD."""
        path = f"{self.access.of_account}/account"
        found: m.WireAccount | None = await self.read(path, m.WireAccount, "account")
        if found is None:
            raise VenueRefused(self.venue, "there is no such account")
        if found.currency not in (None, "USD"):
            raise NotUnderstood(self.venue, f"the account is kept in {found.currency!r}, not in USD")
        return found.cash

    async def account_id(self) -> str:
        """Return the broker's name of the account, which stays when its keys are replaced. Raises UNREAD."""
        path = f"{self.access.of_account}/account"
        found: m.WireAccountId | None = await self.read(path, m.WireAccountId, "account")
        if found is None:
            raise VenueRefused(self.venue, "there is no such account")
        return found.id

    async def holdings(self) -> dict[str, Holding]:
        """Return what the account holds, by symbol. A row that cannot be read is named in `not_understood`. Raises UNREAD."""
        source = "positions"
        path = f"{self.access.of_account}/positions"
        rows: list[m.WirePosition] | None = await self.read(
            path, list[m.WirePosition], source, part="position"
        )
        standing = self.oddities.words().get(f"{self.venue} {source}", "")
        found: dict[str, Holding] = {}
        odd: dict[str, str] = {}
        for row in rows or []:
            if (row.side == "short") != (row.qty < 0) and row.side in ("long", "short") and row.qty:
                odd[row.symbol] = f"{row.side} with {row.qty} shares"
            elif row.symbol in found:
                odd[row.symbol] = "listed twice"
            else:
                found[row.symbol] = Holding(symbol=row.symbol, qty=row.qty, free=row.qty_available)
        if odd:
            named = [Oddity(source, f"position {name}", "qty", why, lost=True) for name, why in odd.items()]
            self.oddities.add(f"{self.venue} {source}", named)
        self.not_understood = odd | ({"": standing} if standing else {})
        return {name: one for name, one in found.items() if name not in odd}

    async def asset(self, symbol: str) -> BrokerAsset:
        """Return whether and how a symbol can be ordered. Raises VenueRefused where it is not known, UNREAD."""
        path = f"{self.access.of_all}/assets/{quote(symbol, safe='')}"
        found: m.WireAsset | None = await self.read(path, m.WireAsset, f"asset {symbol}")
        if found is None:
            raise VenueRefused(self.venue, f"it knows no symbol {symbol}")
        if found.symbol != symbol:
            raise NotUnderstood(self.venue, f"asked for {symbol}, it describes {found.symbol}")
        is_active = found.status in (None, "active")
        return BrokerAsset(
            symbol=symbol, tradable=found.tradable and is_active, fractionable=found.fractionable
        )

    async def calendar(self, first: date, last: date) -> Calendar:
        """Return these days, in order. Raises UNREAD."""
        params = {"start": first.isoformat(), "end": last.isoformat()}
        path = f"{self.access.of_all}/calendar"
        rows = await self.read(path, list[m.WireDay | None], "calendar", params=params, part="day")
        if rows is None:
            raise NotUnderstood(self.venue, "it has no calendar")
        source = f"{self.venue} calendar"
        try:
            found, odd = calendar_of(self.venue, source, rows, first, last)
        except NotUnderstood as why:
            raise self.oddities.not_understood(source, why) from None
        self.oddities.add(source, odd)
        return found

    async def market_clock(self) -> m.WireClock:
        """Return the broker's clock, whose stamps have nanoseconds. Raises UNREAD."""
        asked_ms = self.clock.now_ms()
        found: m.WireClock | None = await self.read(f"{self.access.of_all}/clock", m.WireClock, "clock")
        if found is None or (stamp_ms := m.ms_of(found.timestamp)) is None:
            raise NotUnderstood(self.venue, "its clock cannot be read")
        await self.time.note(asked_ms, stamp_ms)
        return found

    async def price(self, symbol: str) -> Decimal | None:
        """Return USD of the latest trade; None where there is none. Raises UNREAD."""
        path = f"/v2/stocks/{quote(symbol, safe='')}/trades/latest"
        source = f"latest trade {symbol}"
        found: m.WireLatestTrade | None = await self.read(path, m.WireLatestTrade, source, url=self._data_url)
        return None if found is None or found.trade is None else found.trade.p

    # --- orders --------------------------------------------------------------------------------------------------

    async def place(self, body: str, before_ms: int | None = None) -> Said:
        """POST an order once. Raises Retryable for whatever leaves open whether it is there."""
        with in_lane(Lane.URGENT):
            path = f"{self.access.of_account}/orders"
            return await self.ask("POST", path, content=body, before_ms=before_ms)

    async def order_by_client_id(self, client_order_id: str) -> m.WireOrder | None:
        """Return the order that we gave this id; None where Alpaca says that it has none. Raises UNREAD."""
        path = f"{self.access.of_account}/orders:by_client_order_id"
        params = {"client_order_id": client_order_id}
        found: m.WireOrder | None = await self.read(path, m.WireOrder, "order", params=params)
        if found is not None and found.client_order_id != client_order_id:
            raise NotUnderstood(self.venue, "asked for one order, it answers with another")
        return found

    async def order(self, order_id: str) -> m.WireOrder | None:
        """Return an order by the broker's own id, None where there is none. Raises UNREAD."""
        path = f"{self.access.of_account}/orders/{quote(order_id, safe='')}"
        found: m.WireOrder | None = await self.read(path, m.WireOrder, "order")
        return found

    async def open_orders(self) -> list[m.WireOrder]:
        """Return the account's orders that are not final, ours or not, at most 500. Raises UNREAD."""
        path = f"{self.access.of_account}/orders"
        params = {"status": "open", "limit": "500", "direction": "asc"}
        rows = await self.read(path, list[m.WireOrder], "open orders", params=params, part="order")
        return list(rows or [])

    async def orders_since(self, since_ms: int) -> list[m.WireOrder]:
        """Return the account's orders that were sent after a time, ours or not, at most the newest 500. Raises UNREAD."""
        path = f"{self.access.of_account}/orders"
        after = as_datetime(since_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        params = {"status": "all", "after": after, "limit": "500", "direction": "desc"}
        rows = await self.read(path, list[m.WireOrder], "orders", params=params, part="order")
        return list(rows or [])

    async def cancel(self, order_id: str) -> str | None:
        """Ask for the end of an order; return why it is too late, None where it was taken. What became of it says `order`.
        Raises Retryable, VenueRefused.
        """
        path = f"{self.access.of_account}/orders/{quote(order_id, safe='')}"
        said = await self.ask("DELETE", path)
        if said.is_well:
            return None
        if said.status == 422 or said.is_missing:
            return said.words
        raise VenueRefused(self.venue, said.words)


def _shown(path: str) -> str:
    """A path without the account that it names."""
    parts = path.split("/")
    if "accounts" in parts and parts.index("accounts") + 1 < len(parts):
        parts[parts.index("accounts") + 1] = "…"
    return "/".join(parts)
