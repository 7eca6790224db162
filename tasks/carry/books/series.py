"""Keep the perpetual's own series for back-tests: what was settled each hour, candles of an hour, and of five minutes.

They are the venue's record and final: the first of a time stands, and asking twice adds nothing. What was never asked for
while the venue still listed it stays missing.
"""

from __future__ import annotations

from evenkeel.units import HOUR_MS
from state.ledger_models import PriceSnapshot, RateSnapshot
from state.store import Store
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.step import step
from venues.perp import Bar

VENUE = "hyperliquid"
FUNDING, PREMIUM = "funding", "premium_hour"
"""Kinds of rates, at the hour's end: what was settled for it, and the mean premium that this came from."""
FIVE_MINUTES_MS = 300_000
BARS = {HOUR_MS: "1h", FIVE_MINUTES_MS: "5m"}
PARTS = ("open", "high", "low", "close")
"""Kinds of prices are named `open_1h`, `low_5m`, ...; their time is the candle's beginning."""
REACH_MS = {HOUR_MS: 4_900 * HOUR_MS, FIVE_MINUTES_MS: 72 * HOUR_MS}
"""So far back is asked at most: the venue lists 5,000 candles, and two weeks of five minutes would hold a ledger up."""
OVERLAP_MS = 26 * HOUR_MS
"""Asked for again each time, so that a row that was odd or late is not missed."""


@step("collect the perpetual's series", retries=3, tags=("collect",))
async def collect_series(desk: CarryDesk) -> int:
    """Store what the venue has settled and traded since the last time; the first time as far back as lending rates were
    read, and the hours before that the expected funding is a mean of. Returns how many figures were new.
    """
    now_ms = desk.clock.now_ms()
    first_ms = now_ms // HOUR_MS * HOUR_MS
    settled = desk.store.rate_points(VENUE, UNDERLYING, FUNDING)
    begin_ms = settled[-1][0] - OVERLAP_MS if settled else _wanted_from(desk, first_ms)
    begin_ms = max(begin_ms, now_ms - REACH_MS[HOUR_MS])
    new = await _settled(desk, -(-(now_ms - begin_ms) // HOUR_MS))
    for length_ms, name in BARS.items():
        last = desk.store.last_price(VENUE, UNDERLYING, f"close_{name}")
        since_ms = _wanted_from(desk, first_ms) if last is None else last.at_ms - OVERLAP_MS
        since_ms = max(since_ms, now_ms - REACH_MS[length_ms])
        bars = await desk.short.market.bars(UNDERLYING, length_ms, since_ms, now_ms)
        new += desk.store.record_prices(row for bar in bars for row in rows_of(bar, name))
    return new


async def _settled(desk: CarryDesk, hours: int) -> int:
    history = await desk.short.market.funding_history(UNDERLYING, hours=hours)
    rows = [(FUNDING, row.rate_hourly, row.hour_ms) for row in history]
    rows += [(PREMIUM, row.premium, row.hour_ms) for row in history if row.premium is not None]
    return desk.store.record_rates(
        RateSnapshot(
            venue=VENUE, market=UNDERLYING, kind=kind, value=value, interval_ms=HOUR_MS, at_ms=hour_ms
        )
        for kind, value, hour_ms in rows
    )


def rows_of(bar: Bar, name: str) -> list[PriceSnapshot]:
    """A candle as the ledger keeps it: a price for each of its parts."""
    return [
        PriceSnapshot(
            venue=VENUE,
            asset=bar.coin,
            kind=f"{part}_{name}",
            price_usd=getattr(bar, f"{part}_px"),
            at_ms=bar.open_ms,
        )
        for part in PARTS
    ]


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
