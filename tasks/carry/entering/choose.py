"""Decide the size, rank what could be entered with it, and turn the choice into plans with every number written down."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.types import Frozen
from strategy.carry.limits import PROTOCOL_NAMES
from strategy.carry.rules.lst_peg import judge_peg
from strategy.carry.scoring import Candidate, Opportunity, rank
from strategy.carry.sizing import OpenExposure, PositionSize, SizeDecision, check_leverage, size_position
from strategy.decisions import Hold
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import LIVE
from tasks.carry.market import MarketView, Offer
from tasks.carry.positions import open_exposure
from tasks.step import step
from venues.asgard import orders as asgard

SCAN_SIZE_USD = Decimal(10_000)
"""Notional of a leg that is scored where the balances carry none and none was asked for."""


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
    def where(self) -> str:
        """Asset and lender, in words."""
        return f"{self.asset} on {PROTOCOL_NAMES[self.protocol]}"

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


class Means(Frozen):
    """What there is to size a position from: free USDC on both sides, and what is open. None: could not be read."""

    solana_usdc: Decimal | None
    hyperliquid_usdc: Decimal | None
    open_positions: tuple[OpenExposure, ...]


async def read_means(desk: CarryDesk) -> Means:
    """Read them. With shared margin they would be read as nothing: the breaker `venue_mode` has been asked before. Raises
    UNREAD.
    """
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    return Means(
        solana_usdc=wallet.usdc,
        hyperliquid_usdc=account.free_margin_usd,
        open_positions=open_exposure(desk.store),
    )


def size_for(desk: CarryDesk, requested: RequestedEntry, means: Means, asset: str) -> SizeDecision:
    """The size of a position in this asset, decided before any offer of it is weighed."""
    return size_position(
        asset,
        means.solana_usdc or Decimal(0),
        means.hyperliquid_usdc or Decimal(0),
        _leverage(desk, requested),
        desk.settings.strategy,
        desk.settings.limits,
        means.open_positions,
        requested.size_usd,
    )


def rank_offers(
    desk: CarryDesk, market: MarketView, requested: RequestedEntry, sizes_usd: Mapping[str, Decimal]
) -> list[Opportunity]:
    """Every offer scored for what would be put into it, best first; each says why it passes or fails. `sizes_usd`: the
    notional of one leg by asset; one that has none is scored for what was asked for, or for 10,000 USD.
    """
    leverage = _leverage(desk, requested)
    candidates = [
        Candidate(
            asset=offer.asset,
            protocol=offer.protocol,
            leverage=leverage,
            position_usd=sizes_usd.get(offer.asset) or requested.size_usd or SCAN_SIZE_USD,
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
        for offer in _asked_for(market, requested)
    ]
    return rank(candidates, desk.settings.strategy)


def _asked_for(market: MarketView, requested: RequestedEntry) -> list[Offer]:
    return [
        offer
        for offer in market.offers
        if requested.asset in (None, offer.asset) and requested.protocol in (None, offer.protocol)
    ]


class Choice(Frozen):
    """What may be entered, best first: the next is tried where the one before has no room."""

    plans: tuple[EntryPlan, ...]


@step("choose what to enter", tags=("decide",))
async def choose(desk: CarryDesk, market: MarketView, requested: RequestedEntry) -> Choice | Declined:
    """The offers that pass, each with the size decided from the free balances, ranked by that size; or every reason why
    there is none.
    """
    means = await read_means(desk)
    assets = {offer.asset for offer in _asked_for(market, requested)}
    sized = {asset: size_for(desk, requested, means, asset) for asset in assets}
    sizes = {asset: one.size for asset, one in sized.items() if one.size is not None}
    ranked = rank_offers(desk, market, requested, {asset: one.position_usd for asset, one in sizes.items()})
    passing = [one for one in ranked if one.passed]
    if not passing:
        return Declined(reasons=_failures(ranked))
    off_peg = {
        asset: why
        for asset in {one.candidate.asset for one in passing}
        if (why := _off_peg(desk, market, asset))
    }
    passing = [one for one in passing if one.candidate.asset not in off_peg]
    if not passing:
        return Declined(reasons=tuple(off_peg.values()))
    fitting = [one for one in passing if one.candidate.asset in sizes]
    if not fitting:
        return Declined(reasons=sized[passing[0].candidate.asset].reasons)
    if live := desk.store.carry.positions(LIVE):
        busy = ", ".join(one.position_id for one in live)
        return Declined(
            reasons=(f"the Hyperliquid account already carries the short of {busy}: one at a time",)
        )
    plans = [_plan(desk, market, one, sizes[one.candidate.asset]) for one in fitting]
    whole = tuple(one for one in plans if isinstance(one, EntryPlan))
    if not whole:
        first = plans[0]
        assert isinstance(first, Declined)
        return first
    return Choice(plans=whole)


def _failures(ranked: list[Opportunity]) -> tuple[str, ...]:
    """Why not even the best of the offers passes."""
    if not ranked:
        return ("no market offers what was asked for",)
    first = ranked[0]
    failed = [check.reason for check in first.checks if not check.ok]
    return tuple(f"{first.candidate.asset} on {first.protocol_name}: {reason}" for reason in failed)


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
    desk: CarryDesk, market: MarketView, chosen: Opportunity, size: PositionSize
) -> EntryPlan | Declined:
    offer = market.offer(chosen.candidate.asset, chosen.candidate.protocol)
    assert offer is not None
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
    return EntryPlan(
        asset=offer.asset,
        protocol=offer.protocol,
        size=size,
        offer=offer,
        expected_apr=chosen.total_apr or Decimal(0),
        carry_usd_per_hour=(chosen.expected_carry_usd or Decimal(0)) / hold,
        asgard_sol_price_usd=market.token_prices["SOL"],
        hyperliquid_mark_usd=market.perp.mark_px,
        token_price_usd=market.token_prices[offer.asset],
        redemption_rate=market.redemption_rates[offer.asset],
        slippage_bps=desk.settings.limits.max_slippage_entry_bps,
        jito_tip_lamports=desk.settings.asgard.jito_tip_lamports,
        market=market,
    )
