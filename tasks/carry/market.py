"""Read both venues' markets at one moment, and keep what was seen."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

from evenkeel.errors import UNREAD, LedgerUnavailable
from evenkeel.types import Frozen
from evenkeel.units import DAY_MS, HOUR_MS, YEAR_MS
from state.ledger_models import PriceSnapshot, RateSnapshot
from strategy.carry.funding import apr_from_apy
from tasks.carry.desk import CarryDesk
from tasks.carry.expected import mean_of, today_of
from tasks.carry.mark import UNDERLYING
from tasks.step import step
from venues.asgard.mints import LONG_ASSETS, TOKENS, USDC
from venues.asgard.models import LiquiditySource, Strategy
from venues.perp import FundingHour, PerpContext

if TYPE_CHECKING:
    import pandas as pd

RANKED_HOURS = 90 * 24
"""Of funding, against which the volatility of now is ranked: five pages of the venue's list."""
MIN_STAKING_SPAN_MS = 10 * DAY_MS
"""Rewards come once an epoch (a day or two), so a yield measured over less is mostly rounding."""


class Offer(Frozen):
    """One way to hold the long leg: an asset on a lending protocol. Rates are simple APR, as fractions."""

    asset: str
    protocol: int
    active: bool
    token_a_bank: str
    token_b_bank: str
    lend_apr: Decimal
    borrow_apr: Decimal
    staking_apr: Decimal
    borrow_capacity_usd: Decimal
    max_leverage: Decimal


class MarketView(Frozen):
    """Everything that a scan judges, read together. Funding is hourly, positive when the short is paid."""

    at_ms: int
    perp: PerpContext
    funding_now_hourly: Decimal | None
    """Of the hour in progress, by its mean so far."""
    funding_today_hourly: Decimal | None
    """Mean of the last day's settled hours: today's sign."""
    funding_expected_hourly: Decimal | None
    """Mean of the settled hours, by which income is judged."""
    funding_volatility_annual: Decimal | None
    history_hours: int
    offers: tuple[Offer, ...]
    token_prices: dict[str, Decimal]
    redemption_rates: dict[str, Decimal]

    @property
    def asgard_sol_price_usd(self) -> Decimal | None:
        return self.token_prices.get("SOL")

    def offer(self, asset: str, protocol: int) -> Offer | None:
        """The offer of this asset on this protocol, active or not."""
        return next((o for o in self.offers if (o.asset, o.protocol) == (asset, protocol)), None)


@step("read both markets", retries=2, tags=("read",), result_key="market-{flow_run.id}-{task_run.id}.json")
async def read_market(desk: CarryDesk) -> MarketView:
    """Both venues side by side. Raises Retryable or VenueRefused, naming the venue that failed."""
    from analytics.carry.funding import volatility_annual

    settings = desk.settings.strategy
    context, history, strategies, prices = await asyncio.gather(
        desk.short.market.context(UNDERLYING),
        desk.short.market.funding_history(
            UNDERLYING, hours=max(settings.funding_lookback_hours, settings.expected_funding_hours)
        ),
        desk.long.markets(),
        desk.long.token_prices(),
    )
    rates = await redemption_rates(desk)
    volatility = volatility_annual(
        _series(history),
        lookback_hours=settings.funding_lookback_hours,
        min_hours=settings.min_funding_history_hours,
    )
    view = MarketView(
        at_ms=desk.clock.now_ms(),
        perp=context,
        funding_now_hourly=context.funding_hourly,
        funding_today_hourly=today_of(desk, history),
        funding_expected_hourly=mean_of(desk, history),
        funding_volatility_annual=None if volatility is None else Decimal(str(volatility)),
        history_hours=len(history),
        offers=tuple(_offers(desk, strategies)),
        token_prices=prices,
        redemption_rates=rates,
    )
    for asset, rate in rates.items():
        desk.long.note_price(asset, context.oracle_px * rate, context.observed_ms)
    keep_market(desk, view)
    return view


@step("put the volatility in context", retries=1, tags=("read",))
async def volatility_rank(desk: CarryDesk, volatility: Decimal | None) -> Decimal | None:
    """Share of the last months in which the funding was as calm as now, or calmer (docs/deviations.md, row 5); None: it
    is not known.

    For a person to weigh: no decision waits for it, so that a venue that does not answer is none of its concern.
    """
    if volatility is None:
        return None
    from analytics.carry.funding import volatility_quantile

    settings = desk.settings.strategy
    try:
        history = await desk.short.market.funding_history(UNDERLYING, hours=RANKED_HOURS)
    except UNREAD:
        return None
    rank = volatility_quantile(
        _series(history),
        float(volatility),
        lookback_hours=settings.funding_lookback_hours,
        min_hours=settings.min_funding_history_hours,
    )
    return None if rank is None else Decimal(str(rank))


def _series(history: list[FundingHour]) -> pd.Series:
    import pandas as pd

    from analytics.carry.funding import hourly_series

    return hourly_series(
        pd.Series([row.hour_ms for row in history], dtype="int64"),
        pd.Series([float(row.rate_hourly) for row in history], dtype=float),
    )


async def redemption_rates(desk: CarryDesk) -> dict[str, Decimal]:
    """SOL per token of every asset whose rate can be read; what is missing is left out, never guessed."""
    found = await asyncio.gather(*(desk.long.redemption_rate(asset) for asset in LONG_ASSETS))
    return {asset: rate for asset, rate in zip(LONG_ASSETS, found, strict=True) if rate is not None}


def _offers(desk: CarryDesk, strategies: list[Strategy]) -> list[Offer]:
    """Chosen by mints, never by the display name."""
    offers = []
    for asset in LONG_ASSETS:
        for strategy in strategies:
            if (strategy.token_a_mint, strategy.token_b_mint) == (TOKENS[asset].mint, USDC.mint):
                found = [_offer(desk, asset, source) for source in strategy.liquidity_sources]
                offers += [one for one in found if one is not None]
    return offers


def _offer(desk: CarryDesk, asset: str, source: LiquiditySource) -> Offer | None:
    """The offer of one lending protocol; None where a rate of it cannot be read, so that nothing can be said of it."""
    if source.token_a_lending_apy is None or source.token_b_borrowing_apy is None:
        return None
    return Offer(
        asset=asset,
        protocol=source.lending_protocol,
        active=source.is_active,
        token_a_bank=source.token_a_bank,
        token_b_bank=source.token_b_bank,
        lend_apr=apr_from_apy(source.token_a_lending_apy),
        borrow_apr=apr_from_apy(source.token_b_borrowing_apy),
        staking_apr=staking_apr(desk, asset),
        borrow_capacity_usd=source.token_b_max_borrow_capacity,
        max_leverage=source.long_max_leverage,
    )


def staking_apr(desk: CarryDesk, asset: str) -> Decimal:
    """The yearly growth of the redemption rate as collected, or the assumed yield while too little is known."""
    if not TOKENS[asset].is_lst:
        return Decimal(0)
    day = desk.clock.now_ms() // DAY_MS
    if desk.staking_seen.get(asset, (None, None))[0] != day:
        try:
            desk.staking_seen[asset] = (day, _measured_staking_apr(desk, asset))
        except LedgerUnavailable:  # asked again at the next tick
            return desk.settings.staking.assumed_apr(asset)
    measured = desk.staking_seen[asset][1]
    return desk.settings.staking.assumed_apr(asset) if measured is None else measured


def _measured_staking_apr(desk: CarryDesk, asset: str) -> Decimal | None:
    """From the last 30 days of collected redemption rates; None while they span too little."""
    seen = desk.store.prices(asset=asset, kind="redemption", since_ms=desk.clock.now_ms() - 30 * DAY_MS)
    if len(seen) < 2 or seen[0].price_usd <= 0:
        return None
    span_ms = seen[-1].at_ms - seen[0].at_ms
    if span_ms < MIN_STAKING_SPAN_MS:
        return None
    return (seen[-1].price_usd / seen[0].price_usd - 1) * YEAR_MS / span_ms


def keep_market(desk: CarryDesk, view: MarketView) -> None:
    """Store rates and prices as seen; seen twice at one time they are stored once."""
    at_ms = view.at_ms
    rates = [
        ("hyperliquid", UNDERLYING, "funding_now", view.funding_now_hourly, HOUR_MS),
        ("hyperliquid", UNDERLYING, "premium", view.perp.premium, HOUR_MS),
    ]
    for offer in view.offers:
        if offer.active:
            market = f"{offer.asset}/USDC@{offer.protocol}"
            rates += [
                ("asgard", market, "lend_apr", offer.lend_apr, YEAR_MS),
                ("asgard", market, "borrow_apr", offer.borrow_apr, YEAR_MS),
            ]
    desk.store.record_rates(
        RateSnapshot(venue=venue, market=market, kind=kind, value=value, interval_ms=interval, at_ms=at_ms)
        for venue, market, kind, value, interval in rates
        if value is not None
    )
    prices = [
        ("hyperliquid", UNDERLYING, "mark", view.perp.mark_px),
        ("hyperliquid", UNDERLYING, "oracle", view.perp.oracle_px),
    ]
    prices += [
        ("asgard", f"{one.asset}/USDC@{one.protocol}", "borrow_capacity", one.borrow_capacity_usd)
        for one in view.offers
        if one.active
    ]
    prices += [("asgard", asset, "token", price) for asset, price in view.token_prices.items()]
    prices += [("solana", asset, "redemption", rate) for asset, rate in view.redemption_rates.items()]
    desk.store.record_prices(
        PriceSnapshot(venue=venue, asset=asset, kind=kind, price_usd=price, at_ms=at_ms)
        for venue, asset, kind, price in prices
    )
