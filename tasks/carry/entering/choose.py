"""Rank what could be entered now, and turn the choice into a plan with every number written down."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.types import Frozen
from strategy.carry.rules.lst_peg import judge_peg
from strategy.carry.scoring import Candidate, Opportunity, rank
from strategy.carry.sizing import OpenExposure, PositionSize, check_leverage, size_position
from strategy.decisions import Hold
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import LIVE
from tasks.carry.market import MarketView, Offer
from tasks.step import step
from venues.asgard import orders as asgard

SCAN_SIZE_USD = Decimal(10_000)
"""Notional used to score costs where no size can be afforded or was asked for."""


class RequestedEntry(Frozen):
    """What the operator asked for; None leaves the choice to the strategy. `size_usd` is the notional of one leg."""

    asset: str | None = None
    protocol: int | None = None
    leverage: int | None = None
    size_usd: Decimal | None = None


class EntryPlan(Frozen):
    """What will be done, decided before anything is sent. Prices in USD of one SOL unless named otherwise."""

    asset: str
    protocol: int
    size: PositionSize
    offer: Offer
    expected_apr: Decimal
    carry_usd_per_hour: Decimal
    asgard_sol_price_usd: Decimal
    hyperliquid_mark_usd: Decimal
    token_price_usd: Decimal
    redemption_rate: Decimal
    slippage_bps: int
    jito_tip_lamports: int
    market: MarketView

    def long_order(self) -> asgard.OpenLong:
        """The order of the long leg."""
        return asgard.OpenLong(
            asset=self.asset,
            protocol=self.protocol,
            token_a_bank=self.offer.token_a_bank,
            token_b_bank=self.offer.token_b_bank,
            collateral_usdc=self.size.per_leg_usd,
            leverage=Decimal(self.size.leverage),
            slippage_bps=self.slippage_bps,
            jito_tip_lamports=self.jito_tip_lamports,
        )

    @property
    def estimated_short_qty(self) -> Decimal:
        """SOL that the short will be about; the real size follows what the long really got."""
        return self.size.position_usd / self.hyperliquid_mark_usd


class Declined(Frozen):
    """Nothing is entered, and every reason why."""

    reasons: tuple[str, ...]


def check_requested_entry(desk: CarryDesk, requested: RequestedEntry) -> None:
    """Refuse what could never be entered, before any venue is asked. Raises OperatorError in one line."""
    limits = desk.settings.limits
    if requested.asset is not None and requested.asset not in limits.allowed_long_assets:
        raise OperatorError(
            f"asset {requested.asset} is not among limits.allowed_long_assets ({', '.join(limits.allowed_long_assets)})"
        )
    leverage = check_leverage(_leverage(desk, requested), limits)
    if not leverage.ok:
        raise OperatorError(
            f"{leverage.reason}; change leverage, or strategy.leverage where it is left empty"
        )
    if _leverage(desk, requested) == 1:
        raise OperatorError(
            "leverage 1 borrows nothing, and Asgard opens margin positions only: choose 2 or more as leverage, or as "
            "strategy.leverage where it is left empty"
        )
    if requested.size_usd is not None and requested.size_usd < limits.min_position_usd:
        raise OperatorError(
            f"size {requested.size_usd} USD is under the minimum {limits.min_position_usd} USD (notional of one leg); "
            "ask for more or lower limits.min_position_usd"
        )
    if requested.size_usd is not None and requested.size_usd > limits.max_position_usd:
        raise OperatorError(
            f"size {requested.size_usd} USD is above limits.max_position_usd {limits.max_position_usd} USD"
        )


def _leverage(desk: CarryDesk, requested: RequestedEntry) -> int:
    return desk.settings.strategy.leverage if requested.leverage is None else requested.leverage


def rank_offers(desk: CarryDesk, market: MarketView, requested: RequestedEntry) -> list[Opportunity]:
    """Every offer scored, best first; each says why it passes or fails."""
    leverage = _leverage(desk, requested)
    candidates = [
        Candidate(
            asset=offer.asset,
            protocol=offer.protocol,
            leverage=leverage,
            position_usd=requested.size_usd or SCAN_SIZE_USD,
            lend_apr=offer.lend_apr,
            borrow_apr=offer.borrow_apr,
            staking_apr=offer.staking_apr,
            funding_now_hourly=market.funding_now_hourly,
            funding_today_hourly=market.funding_today_hourly,
            funding_expected_hourly=market.funding_expected_hourly,
            funding_volatility_annual=market.funding_volatility_annual,
            borrow_capacity_usd=offer.borrow_capacity_usd,
            market_max_leverage=offer.max_leverage,
            market_active=offer.active,
        )
        for offer in market.offers
        if requested.asset in (None, offer.asset) and requested.protocol in (None, offer.protocol)
    ]
    return rank(candidates, desk.settings.strategy)


@step("choose what to enter", tags=("decide",))
async def choose(desk: CarryDesk, market: MarketView, requested: RequestedEntry) -> EntryPlan | Declined:
    """The best offer that passes, sized from the free balances; or every reason why there is none."""
    ranked = rank_offers(desk, market, requested)
    passing = [one for one in ranked if one.passed]
    if not passing:
        if not ranked:
            return Declined(reasons=("no market offers what was asked for",))
        first = ranked[0]
        failed = [check.reason for check in first.checks if not check.ok]
        label = f"{first.candidate.asset} on {first.protocol_name}"
        return Declined(reasons=tuple(f"{label}: {reason}" for reason in failed))
    off_peg = {
        asset: why
        for asset in {one.candidate.asset for one in passing}
        if (why := _off_peg(desk, market, asset))
    }
    passing = [one for one in passing if one.candidate.asset not in off_peg]
    if not passing:
        return Declined(reasons=tuple(off_peg.values()))
    chosen = passing[0]
    offer = market.offer(chosen.candidate.asset, chosen.candidate.protocol)
    assert offer is not None
    live = desk.store.carry.positions(LIVE)
    await desk.short.account_mode()  # with shared margin the balances below would be read as nothing
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    sized = size_position(
        offer.asset,
        wallet.usdc,
        account.free_margin_usd,
        chosen.candidate.leverage,
        desk.settings.strategy,
        desk.settings.limits,
        [OpenExposure(asset=one.asset, position_usd=one.size_usd or Decimal(0)) for one in live],
        requested.size_usd,
    )
    if sized.size is None:
        return Declined(reasons=sized.reasons)
    if live:
        busy = ", ".join(one.position_id for one in live)
        return Declined(
            reasons=(f"the Hyperliquid account already carries the short of {busy}: one at a time",)
        )
    return _plan(desk, market, offer, sized.size, chosen)


def _off_peg(desk: CarryDesk, market: MarketView, asset: str) -> str | None:
    """Why this token of staked SOL is not to be bought now: what would be alarmed or closed is not entered."""
    peg = judge_peg(
        asset,
        market.token_prices.get(asset),
        market.asgard_sol_price_usd,
        market.redemption_rates.get(asset),
        desk.settings.limits,
    )
    return None if isinstance(peg, Hold) else peg.reason


def _plan(
    desk: CarryDesk, market: MarketView, offer: Offer, size: PositionSize, chosen: Opportunity
) -> EntryPlan | Declined:
    missing = [
        what
        for what, value in (
            ("Asgard's price of SOL", market.asgard_sol_price_usd),
            (f"Asgard's price of {offer.asset}", market.token_prices.get(offer.asset)),
            (f"the redemption rate of {offer.asset}", market.redemption_rates.get(offer.asset)),
        )
        if value is None
    ]
    if missing:
        return Declined(reasons=tuple(f"{what} is missing" for what in missing))
    hold = desk.settings.strategy.expected_hold_hours
    carry_at_scan = (chosen.expected_carry_usd or Decimal(0)) / hold
    return EntryPlan(
        asset=offer.asset,
        protocol=offer.protocol,
        size=size,
        offer=offer,
        expected_apr=chosen.total_apr or Decimal(0),
        carry_usd_per_hour=carry_at_scan * size.position_usd / chosen.candidate.position_usd,
        asgard_sol_price_usd=market.token_prices["SOL"],
        hyperliquid_mark_usd=market.perp.mark_px,
        token_price_usd=market.token_prices[offer.asset],
        redemption_rate=market.redemption_rates[offer.asset],
        slippage_bps=desk.settings.limits.max_slippage_entry_bps,
        jito_tip_lamports=desk.settings.asgard.jito_tip_lamports,
        market=market,
    )
