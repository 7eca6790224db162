"""What an order allows a build to do: the expectation that the validator of signatures judges it against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

from solders.pubkey import Pubkey

from evenkeel.errors import VenueRefused
from evenkeel.units import HOUR_MS
from venues.asgard.mints import USDC, token
from venues.asgard.models import LiquiditySource, LivePosition, Protocol, Strategy
from venues.asgard.orders import (
    AddCollateral,
    AsgardOrder,
    CloseLong,
    Deleverage,
    IncreaseLeverage,
    OpenLong,
    PartialClose,
    RepayDebt,
)
from venues.solana.rules.common import KAMINO, MARGINFI, SAVE, Expectation, Operation, key
from venues.solana.tokens import to_base_units

PROGRAMS = {int(Protocol.MARGINFI): MARGINFI, int(Protocol.KAMINO): KAMINO, int(Protocol.SOLEND): SAVE}
BORROW_SLACK = Decimal("0.02")
"""Rounding of the leverage and movement of the price between our figures and the builder's."""
DELEVERAGE_COST = Decimal("0.04")
"""Most that selling may cost of what is sold, for the bound of what a deleverage sells."""
STALE_SLACK_HOURLY = Decimal("0.12")
"""By how much an hour of our price's age widens the slack of a deleverage: as a swap's tolerance (docs/rules.md)."""


def source_of(order: AsgardOrder, strategies: Sequence[Strategy]) -> LiquiditySource | None:
    """Return the market of this order: its asset against USDC at its protocol, selected by mints, never by name."""
    mint = token(order.asset).mint
    for strategy in strategies:
        if strategy.token_a_mint != mint or strategy.token_b_mint != USDC.mint:
            continue
        for source in strategy.liquidity_sources:
            if source.lending_protocol == order.protocol:
                return source
    return None


def outlay_usdc(order: AsgardOrder) -> Decimal:
    """Return USDC that must be in the wallet before the order, in whole tokens."""
    if isinstance(order, OpenLong | AddCollateral):
        return order.collateral_usdc
    return order.repay_usdc if isinstance(order, RepayDebt) else Decimal(0)


def _most_borrowed(order: AsgardOrder, before: LivePosition | None, price_usd: Decimal | None) -> Decimal:
    """USDC that the order may add to the debt."""
    if isinstance(order, OpenLong):
        return order.collateral_usdc * (order.leverage - 1) * (1 + BORROW_SLACK)
    if not isinstance(order, IncreaseLeverage) or before is None or price_usd is None:
        return Decimal(0)
    collateral, debt = before.collateral(), before.debt()
    notional = collateral.assets * price_usd if collateral else Decimal(0)
    equity = notional - (debt.liabs if debt else Decimal(0))
    return max(
        Decimal(0), order.target_leverage * equity * (1 + BORROW_SLACK) - notional * (1 - BORROW_SLACK)
    )


def _most_sold(order: AsgardOrder, before: LivePosition | None) -> Decimal:
    """Whole tokens of the asset that the order may sell."""
    collateral = before.collateral() if before else None
    if collateral is None:
        return Decimal(0)
    if isinstance(order, PartialClose):
        return collateral.assets * order.close_percentage / 100
    return collateral.assets if isinstance(order, CloseLong | Deleverage) else Decimal(0)


@dataclass(frozen=True, slots=True)
class WayOut:
    """What a reducing order implies of a position that stands: what may be withdrawn of it at most, what is repaid at least."""

    held: Decimal = Decimal(0)
    owed_usd: Decimal = Decimal(0)
    share: Decimal = Decimal(1)
    least_repaid_usd: Decimal = Decimal(0)


def way_out_of(
    order: AsgardOrder, before: LivePosition | None, price_usd: Decimal | None, price_age_ms: int
) -> WayOut:
    """Return what the order implies. A deleverage to T sells `y = (A - T E) / (1 - T c)` of assets A with equity E at a cost of
    c, and repays `y (1 - c)`: at least `A - T E`. Both have slack for the builder's prices, more of it where ours is old.
    """
    collateral, debt = (before.collateral(), before.debt()) if before is not None else (None, None)
    if collateral is None:
        return WayOut()
    owed = debt.liabs if debt else Decimal(0)
    found = WayOut(collateral.assets, owed)
    if isinstance(order, CloseLong):
        return replace(found, least_repaid_usd=owed)
    if isinstance(order, PartialClose):
        share = Decimal(order.close_percentage) / 100
        return replace(found, share=share, least_repaid_usd=owed * share)
    if not isinstance(order, Deleverage) or price_usd is None:
        return found
    assets, target = collateral.assets * price_usd, order.target_leverage
    wanted = assets - target * (assets - owed)
    slack = min(BORROW_SLACK + STALE_SLACK_HOURLY * price_age_ms / HOUR_MS, Decimal(1)) * assets
    most = wanted / (1 - target * DELEVERAGE_COST) + slack
    return replace(
        found,
        share=min(Decimal(1), max(Decimal(0), most / assets)),
        least_repaid_usd=min(owed, max(Decimal(0), wanted - slack)),
    )


def expectation_of(
    order: AsgardOrder,
    wallet: Pubkey,
    strategies: Sequence[Strategy],
    before: LivePosition | None,
    price_usd: Decimal | None,
    price_age_ms: int = 0,
) -> Expectation:
    """Return what a build of this order may do. Raises `VenueRefused` where no market of the order is known, or an
    opening names other banks than its market has.
    """
    source = source_of(order, strategies)
    if source is None:
        raise VenueRefused(
            "asgard", f"no market of {order.asset} against USDC on protocol {order.protocol} is listed"
        )
    banks = (source.token_a_bank, source.token_b_bank)
    if isinstance(order, OpenLong) and banks != (order.token_a_bank, order.token_b_bank):
        raise VenueRefused(
            "asgard",
            f"the order names banks {order.token_a_bank} and {order.token_b_bank}, the market has {banks}",
        )
    asset = token(order.asset)
    flash = {
        PROGRAMS[one.lending_protocol]: key(one.token_b_bank)
        for strategy in strategies
        if strategy.token_b_mint == USDC.mint
        for one in strategy.liquidity_sources
        if one.lending_protocol in PROGRAMS
    }
    sold = _most_sold(order, before).scaleb(asset.decimals).to_integral_value(ROUND_CEILING)
    out = way_out_of(order, before, price_usd, price_age_ms)
    return Expectation(
        op=Operation(order.op),
        wallet=wallet,
        lender=PROGRAMS[order.protocol],
        market=key(source.market_key) if source.market_key else None,
        asset_mint=key(asset.mint),
        asset_bank=key(banks[0]),
        usdc_bank=key(banks[1]),
        position=None if isinstance(order, OpenLong) else key(order.position_pda),
        asset_decimals=asset.decimals,
        usdc_outlay=to_base_units(outlay_usdc(order), USDC.decimals),
        max_borrow=to_base_units(_most_borrowed(order, before, price_usd), USDC.decimals),
        max_asset_in=int(sold),
        held_asset=int(out.held.scaleb(asset.decimals)),
        owed_usdc=int(out.owed_usd.scaleb(USDC.decimals)),
        withdraw_share=out.share,
        least_repaid=int(out.least_repaid_usd.scaleb(USDC.decimals)),
        slippage_bps=getattr(order, "slippage_bps", 0),
        tip_lamports=order.jito_tip_lamports,
        price_usd=price_usd,
        price_age_ms=price_age_ms,
        emergency=getattr(order, "emergency", False),
        failed_tries=getattr(order, "failed_tries", 0),
        flash_banks=flash,
    )
