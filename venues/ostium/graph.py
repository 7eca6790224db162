"""The venue's subgraph: what it shows as open, up to which block. It is seconds behind, and nothing is booked from it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
from pydantic import BaseModel, Field

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, Retryable
from venues.ostium.contracts import USDC_PLACES, scaled
from venues.reading import Oddities, parse_json

NAME = "ostium subgraph"
PAGE, MOST_ROWS, TRADERS = 1_000, 5_000, 2_000
"""Rows of one list, rows that it lets us skip to, and traders that are asked about at once."""
LIST = (
    "trades(first: 1000, skip: {skip}, where: {{isOpen: true, trader_in: $traders}}) "
    "{{ tradeID trader collateral }}"
)


def query_of(skips: Sequence[int]) -> str:
    """Return the query of several lists, `p0` and on, each of a thousand rows that begins after so many others: as of one
    block, and by one request.
    """
    lists = " ".join(f"p{n}: {LIST.format(skip=skip)}" for n, skip in enumerate(skips))
    return f"query open($traders: [String!]) {{ _meta {{ block {{ number timestamp }} }} {lists} }}"


class _Block(BaseModel):
    number: int
    timestamp: int


class _Trade(BaseModel):
    trade_id: str = Field(alias="tradeID", pattern=r"^[0-9]{1,78}$")
    trader: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    collateral: int = Field(ge=0)


class GraphTrade(NamedTuple):
    """A trade that is open there: its number, whose it is, and what the venue holds for it, USDC."""

    trade_id: str
    trader: str
    collateral_usdc: Decimal


class GraphView(NamedTuple):
    """What it shows, as of a block and its second."""

    block: int
    at_ms: int
    trades: dict[str, GraphTrade]


class Subgraph:
    """One address."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._oddities = oddities or Oddities()
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False, transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def open_trades(self, traders: Sequence[str], expected: int = 0) -> GraphView:
        """Return what is open of these traders, by number, as of the oldest block of the answers. `expected`: how many it will
        be; a thousand more than that are asked for at once. Raises Retryable, NotUnderstood.
        """
        found: dict[str, GraphTrade] = {}
        oldest: _Block | None = None
        for start in range(0, len(traders), TRADERS):
            some, skip = traders[start : start + TRADERS], 0
            ends = min(MOST_ROWS, expected // PAGE * PAGE)
            while skip <= MOST_ROWS:
                block, listed, more = await self._lists(some, range(skip, ends + PAGE, PAGE))
                rows: list[_Trade] = self._oddities.read(
                    NAME, "open trades", list[_Trade], listed, part="trade"
                ).value
                if oldest is None or block.number < oldest.number:
                    oldest = block
                for row in rows:
                    usdc = scaled(row.collateral, USDC_PLACES)
                    found[row.trade_id] = GraphTrade(row.trade_id, row.trader.lower(), usdc)
                if not more:
                    break
                skip = ends = ends + PAGE
        if oldest is None:
            return GraphView(0, self._clock.now_ms(), found)
        return GraphView(oldest.number, oldest.timestamp * 1000, found)

    async def _lists(self, traders: Sequence[str], skips: Sequence[int]) -> tuple[_Block, list[Any], bool]:
        """Return the block, the rows of these lists, and whether the last of them was full."""
        body = {"query": query_of(skips), "variables": {"traders": list(traders)}}
        try:
            answer = await self._http.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise Retryable(f"{NAME} did not answer: {type(error).__name__}") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Retryable(f"{NAME} answered with HTTP {answer.status_code}")
        try:
            parsed: Any = parse_json(answer.content)
            data = parsed["data"]
            block = _Block.model_validate(data["_meta"]["block"])
            lists = [list(data[f"p{n}"]) for n in range(len(skips))]
        except (ValueError, KeyError, TypeError):
            raise NotUnderstood(NAME, f"no data (HTTP {answer.status_code})") from None
        return block, [row for one in lists for row in one], len(lists[-1]) == PAGE
