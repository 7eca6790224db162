"""Keep the perpetual's own series for back-tests: what was settled each hour, candles of an hour, and of five minutes.

They are the venue's record and final: the first of a time stands, and asking twice adds nothing. What was never asked for
while the venue still listed it stays missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from evenkeel.units import HOUR_MS
from state.ledger_models import PriceSnapshot, RateSnapshot
from state.store import Store
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.step import step

R = TypeVar("R")
VENUE = "hyperliquid"
FUNDING, PREMIUM = "funding", "premium_hour"
"""Kinds of rates, at the hour's end: what was settled for it, and the mean premium that this came from."""
FIVE_MINUTES_MS = 300_000
BARS = {HOUR_MS: "1h", FIVE_MINUTES_MS: "5m"}
PARTS = ("open", "high", "low", "close")
"""Kinds of prices are named `open_1h`, `low_5m`, ...; their time is the candle's beginning."""
LISTED = 4_900
"""So many candles back is asked at most: the venue lists 5,000 (some 200 days of hours, 17 days of five minutes)."""
OVERLAP_MS = 26 * HOUR_MS
"""Asked for again each time, so that a row that was odd or late is not missed."""
PIECE = 500
"""Rows in one transaction: nobody else can write while it runs. They go oldest first, so that what a crash leaves is taken
up where it ended.
"""


@step("collect the perpetual's series", retries=3, tags=("collect",))
async def collect_series(desk: CarryDesk) -> int:
    """Store what the venue has settled and traded since the last time; the first time as far back as lending rates were
    read, and the hours before that the expected funding is a mean of. Returns how many figures were new.
    """
    now_ms = desk.clock.now_ms()
    first_ms = now_ms // HOUR_MS * HOUR_MS
    settled = desk.store.rate_points(VENUE, UNDERLYING, FUNDING)
    begin_ms = settled[-1][0] - OVERLAP_MS if settled else _wanted_from(desk, first_ms)
    begin_ms = max(begin_ms, now_ms - LISTED * HOUR_MS)
    new = await _settled(desk, -(-(now_ms - begin_ms) // HOUR_MS))
    for length_ms, name in BARS.items():
        last = desk.store.last_price(VENUE, UNDERLYING, f"close_{name}")
        since_ms = _wanted_from(desk, first_ms) if last is None else last.at_ms - OVERLAP_MS
        since_ms = max(since_ms, now_ms - LISTED * length_ms)
        new += await _traded(desk, length_ms, since_ms, now_ms)
    return new


async def _settled(desk: CarryDesk, hours: int) -> int:
    history = await desk.short.market.funding_history(UNDERLYING, hours=hours)
    figures: list[tuple[str, Decimal, int]] = []
    for row in history:
        figures.append((FUNDING, row.rate_hourly, row.hour_ms))
        if row.premium is not None:
            figures.append((PREMIUM, row.premium, row.hour_ms))
    if not figures:
        return 0
    known = desk.store.rates_known(VENUE, UNDERLYING, (FUNDING, PREMIUM), history[0].hour_ms)

    def store(piece: list[tuple[str, Decimal, int]]) -> int:
        return desk.store.record_rates(
            RateSnapshot(
                venue=VENUE, market=UNDERLYING, kind=kind, value=value, interval_ms=HOUR_MS, at_ms=at_ms
            )
            for kind, value, at_ms in piece
        )

    return await _in_pieces([one for one in figures if (one[0], one[2]) not in known], store)


async def _traded(desk: CarryDesk, length_ms: int, since_ms: int, now_ms: int) -> int:
    bars = await desk.short.market.bars(UNDERLYING, length_ms, since_ms, now_ms)
    kinds = {part: f"{part}_{BARS[length_ms]}" for part in PARTS}
    figures = [
        (kind, getattr(bar, f"{part}_px"), bar.open_ms) for bar in bars for part, kind in kinds.items()
    ]
    if not figures:
        return 0
    known = desk.store.prices_known(VENUE, UNDERLYING, kinds.values(), bars[0].open_ms)

    def store(piece: list[tuple[str, Decimal, int]]) -> int:
        return desk.store.record_prices(
            PriceSnapshot(venue=VENUE, asset=UNDERLYING, kind=kind, price_usd=price_usd, at_ms=at_ms)
            for kind, price_usd, at_ms in piece
        )

    return await _in_pieces([one for one in figures if (one[0], one[2]) not in known], store)


async def _in_pieces(rows: list[R], store: Callable[[list[R]], int]) -> int:
    """Store them piece by piece, with the loop left to others in between. Returns how many were new."""
    new = 0
    for begin in range(0, len(rows), PIECE):
        new += store(rows[begin : begin + PIECE])
        await asyncio.sleep(0)
    return new


def _wanted_from(desk: CarryDesk, now_ms: int) -> int:
    settings = desk.settings.strategy
    before = max(settings.funding_lookback_hours, settings.expected_funding_hours)
    return min(_first_rate_ms(desk.store, now_ms), now_ms) - before * HOUR_MS


def _first_rate_ms(store: Store, otherwise_ms: int) -> int:
    seen = (
        store.rate_points("asgard", market, "borrow_apr")
        for market in store.rate_markets("asgard", "borrow_apr")
    )
    return min((points[0][0] for points in seen if points), default=otherwise_ms)
