"""What the router delivers: market price, depth-dependent slippage, the exchange's fee and Asgard's own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from twins.asgard.venue import DEX_FEE_BPS, PROTOCOL_FEE_BPS, USDC, Token

BPS = Decimal(10_000)
MIN_SLIPPAGE_BPS = Decimal(1)
DEPTH_SLIPPAGE_BPS = Decimal(2)
DEPTH_USD = Decimal(500_000)


def floor(value: Decimal, token: Token) -> Decimal:
    return value.quantize(token.unit, ROUND_FLOOR)


def ceil(value: Decimal, token: Token) -> Decimal:
    return value.quantize(token.unit, ROUND_CEILING)


@dataclass(frozen=True)
class Swap:
    """One swap. `paid` and `received` in whole tokens; `paid` excludes Asgard's fee, which is in USDC on buys
    only.
    """

    buys_token: bool
    paid: Decimal
    received: Decimal
    protocol_fee_usd: Decimal
    dex_fee_usd: Decimal
    slippage_usd: Decimal

    @property
    def token_qty(self) -> Decimal:
        return self.received if self.buys_token else self.paid

    @property
    def usdc_qty(self) -> Decimal:
        return self.paid if self.buys_token else self.received


def slippage_bps(notional_usd: Decimal) -> Decimal:
    """Return 1 bp for a small swap, rising to 3 bp for one that is large against the pools (DEPTH_USD)."""
    return MIN_SLIPPAGE_BPS + DEPTH_SLIPPAGE_BPS * notional_usd / (notional_usd + DEPTH_USD)


def buy(
    gross_usdc: Decimal, token: Token, price: Decimal, worse_bps: Decimal, fee_bps: int = PROTOCOL_FEE_BPS
) -> Swap:
    """Spend exactly `gross_usdc`, Asgard's fee included, on token A."""
    fee = ceil(gross_usdc * fee_bps / BPS, USDC)
    net = gross_usdc - fee
    dex_fee = net * DEX_FEE_BPS / BPS
    executed = price * (1 + (slippage_bps(net) + worse_bps) / BPS)
    received = floor((net - dex_fee) / executed, token)
    return Swap(
        True, net, received, fee, ceil(dex_fee, USDC), floor((net - dex_fee) * (1 - price / executed), USDC)
    )


def sell(qty: Decimal, token: Token, price: Decimal, worse_bps: Decimal) -> Swap:
    """Sell exactly `qty` of token A for USDC."""
    gross = qty * price
    slipped = gross * (slippage_bps(gross) + worse_bps) / BPS
    dex_fee = (gross - slipped) * DEX_FEE_BPS / BPS
    received = floor(gross - slipped - dex_fee, USDC)
    return Swap(False, qty, received, Decimal(0), ceil(dex_fee, USDC), ceil(slipped, USDC))
