"""The venue's price list: bid, mid and ask of every market, and whether it trades now. Everybody's, and without a key."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import httpx
from pydantic import BaseModel, Field

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, Retryable
from venues.reading import Number, Oddities, Whole, parse_json

PATH = "/PricePublish/latest-prices"
NAME = "ostium prices"


class _Row(BaseModel):
    base: str = Field(alias="from")
    quote: str = Field(alias="to")
    bid: Number = Field(gt=0)
    mid: Number = Field(gt=0)
    ask: Number = Field(gt=0)
    is_open: bool = Field(alias="isMarketOpen")
    at_s: Whole = Field(alias="timestampSeconds")


class Quote(BaseModel):
    """A market's prices, USD, as of `at_ms`."""

    bid: Decimal
    mid: Decimal
    ask: Decimal
    is_open: bool
    at_ms: int


class Prices:
    """The list, by the markets' numbers that the settings name. A row that is odd spoils itself alone."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        markets: Mapping[int, str],
        *,
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self._url = url.rstrip("/") + PATH
        self._clock = clock
        self._markets = dict(markets)
        self._oddities = oddities or Oddities()
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False, transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def now(self) -> dict[int, Quote]:
        """Return the quote of each market that the list has. Raises Retryable, NotUnderstood."""
        try:
            answer = await self._http.get(self._url)
        except httpx.HTTPError as error:
            raise Retryable(f"{NAME} did not answer: {type(error).__name__}") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Retryable(f"{NAME} answered with HTTP {answer.status_code}")
        try:
            parsed = parse_json(answer.content)
        except ValueError:
            raise NotUnderstood(NAME, f"not JSON (HTTP {answer.status_code})") from None
        rows: list[_Row] = self._oddities.read(NAME, "latest-prices", list[_Row], parsed, part="price").value
        by_name = {f"{row.base}/{row.quote}": row for row in rows}
        found = {}
        for number, name in self._markets.items():
            row = by_name.get(name)
            if row is not None and row.bid <= row.mid <= row.ask:
                found[number] = Quote(
                    bid=row.bid, mid=row.mid, ask=row.ask, is_open=row.is_open, at_ms=row.at_s * 1000
                )
        return found
