"""A live Asgard position as the leg that strategy judges: exposure, equity, leverage and liquidation
distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from evenkeel.errors import UNREAD, NotUnderstood
from evenkeel.legs import LegSide, LegView
from evenkeel.types import VenueName
from venues.asgard.effects import executed_metadata, read_swap
from venues.asgard.mints import BY_MINT, LONG_ASSETS, TOKENS, USDC, Token
from venues.asgard.models import LivePosition, PositionRecord, Strategy, UnitChanged, check_health_unit

MAX_LEVERAGE_SHOWN = Decimal(1000)
"""What a leg without equity shows: its true leverage is infinite."""
QUANTITY_TOLERANCE = Decimal("0.5")


def asset_of(live: LivePosition) -> Token | None:
    """Return the long asset held, None for an empty position. Raises `NotUnderstood` for one that is not our kind of
    leg.
    """
    live.understood(BY_MINT)
    collateral, debt = live.collateral(), live.debt()
    if collateral is None:
        return None
    held = BY_MINT.get(collateral.mint)
    if held is None or held.symbol not in LONG_ASSETS:
        raise NotUnderstood(
            "asgard", f"position {live.pda} holds mint {collateral.mint}, which is no long asset"
        )
    if debt is not None and debt.mint != USDC.mint:
        raise NotUnderstood("asgard", f"position {live.pda} owes mint {debt.mint}, not USDC")
    return held


def check_quantity_unit(live: LivePosition, record: PositionRecord) -> None:
    """Check that `assetsQt` is in whole tokens, which the vendor does not state, against the database's UI amount.

    Raises `UnitChanged` where they are orders of magnitude apart.
    """
    collateral, recorded = live.collateral(), record.token_a_amount
    if collateral is None or not recorded:
        return
    ratio = collateral.assets / recorded
    if not QUANTITY_TOLERANCE / 1000 <= ratio <= 1000 / QUANTITY_TOLERANCE:
        raise UnitChanged(
            f"assetsQt {collateral.assets} of {live.pda}, but {recorded} tokens in the database: "
            "these are not whole tokens"
        )


def leg_view(
    live: LivePosition,
    protocol: int,
    wallet: str,
    price_usd: Decimal,
    sol_per_token: Decimal,
    max_ltv: Decimal | None,
    record: PositionRecord | None,
    now_ms: int,
) -> LegView | None:
    """Return the leg as the venue shows it, None for an empty position. Prices in USD per token; debt counts 1 USD per
    USDC.

    Liquidation distance is `healthFactor / 100`, the fall of the market that liquidates (volatile assets fall
    together), and its unit is checked against our own loan-to-value. Raises `NotUnderstood`.
    """
    held = asset_of(live)
    collateral = live.collateral()
    if held is None or collateral is None:
        return None
    if live.authority not in (wallet, None):
        raise NotUnderstood(
            "asgard", f"position {live.pda} belongs to {live.authority}, not to our wallet {wallet}"
        )
    if record is not None:
        check_quantity_unit(live, record)
    owed = live.debt()
    debt_usd = owed.liabs if owed else Decimal(0)
    notional = collateral.assets * price_usd
    equity = notional - debt_usd
    if debt_usd > 0 and live.health_pct is not None:
        check_health_unit(live.pda, live.health_pct, debt_usd / notional, max_ltv)
    distance = live.health_pct / 100 if debt_usd > 0 and live.health_pct is not None else None
    return LegView(
        venue=VenueName.ASGARD,
        side=LegSide.LONG,
        ref=live.pda,
        asset=held.symbol,
        qty=collateral.assets,
        exposure_sol=collateral.assets * sol_per_token,
        price_usd=price_usd,
        notional_usd=notional,
        equity_usd=equity,
        leverage=min(notional / equity, MAX_LEVERAGE_SHOWN) if equity > 0 else MAX_LEVERAGE_SHOWN,
        liquidation_price_usd=None if distance is None else price_usd * (1 - distance),
        liquidation_distance=distance,
        debt_usd=debt_usd,
        entry_price_usd=entry_price_usd(record, held) if record else None,
        protocol=protocol,
        observed_ms=now_ms,
        on_chain=live.on_chain,
    )


def entry_price_usd(record: PositionRecord, held: Token) -> Decimal | None:
    """Return the executed price of the opening swap, once its metadata is there and readable; else the builder's
    estimate.
    """
    executed = executed_metadata(record.entry_metadata)
    try:
        swap = read_swap(executed, held, None) if executed else None
    except (*UNREAD, KeyError, TypeError, ArithmeticError):
        swap = None  # a figure for display must not hide the leg itself
    return swap.price_usd if swap else record.token_a_entry_price_usd


def usdc_banks(strategies: Sequence[Strategy]) -> dict[int, str]:
    """By lending protocol, the bank that lends the USDC of our long assets on an open market."""
    longs = {TOKENS[asset].mint for asset in LONG_ASSETS}
    return {
        source.lending_protocol: source.token_b_bank
        for strategy in strategies
        if strategy.token_a_mint in longs and strategy.token_b_mint == USDC.mint
        for source in strategy.liquidity_sources
        if source.is_active
    }


def max_ltv(strategies: Sequence[Strategy], mint: str, protocol: int) -> Decimal | None:
    """The highest loan to value that a market opens with on a protocol; None where it is not listed."""
    for strategy in strategies:
        if strategy.token_a_mint == mint and strategy.token_b_mint == USDC.mint:
            for source in strategy.liquidity_sources:
                if source.lending_protocol == protocol:
                    return source.max_ltv
    return None
