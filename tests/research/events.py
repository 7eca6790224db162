"""Changes of either leg and ticks of a monitor, as small as a test of their prices needs."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from analytics.carry.legs import LongEvent, ShortFill
from evenkeel.legs import LendingChange
from evenkeel.types import Fill, VenueName
from state.carry.models import PositionSnapshot


def tick(
    at_ms: int, oracle: str | None, mark: str, funding: str | None = None, **detail: str
) -> PositionSnapshot:
    return PositionSnapshot(
        position_id="sol-1",
        at_ms=at_ms,
        long_price_usd=None if oracle is None else Decimal(oracle),
        short_price_usd=Decimal(mark),
        detail=detail,
        funding_rate_hourly=None if funding is None else Decimal(funding),
    )


def long_event(at_ms: int, before: str, after: str, price: str) -> LongEvent:
    change = LendingChange(
        tokens_before=Decimal(before),
        tokens_after=Decimal(after),
        debt_before_usd=Decimal(0),
        debt_after_usd=Decimal(0),
        swap_token_qty=Decimal(0),
        swap_usdc_qty=Decimal(0),
        wallet_usdc_delta=Decimal(0),
        protocol_fee_usd=Decimal(0),
        gas_lamports=0,
    )
    usd = Decimal(price)
    return LongEvent(
        ref=str(at_ms), kind="resize", at_ms=at_ms, change=change, sol_price_usd=usd, token_price_usd=usd
    )


def short_fill(
    at_ms: int, side: Literal["buy", "sell"], qty: str, price: str, index: str | None = None
) -> ShortFill:
    fill = Fill(
        fill_id=str(at_ms),
        venue=VenueName.HYPERLIQUID,
        asset="SOL",
        side=side,
        qty=Decimal(qty),
        price_usd=Decimal(price),
        fee_usd=Decimal(0),
        time_ms=at_ms,
    )
    return ShortFill(fill=fill, reference_price_usd=Decimal(price), index_price_usd=Decimal(index or price))
