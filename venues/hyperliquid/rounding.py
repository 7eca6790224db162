"""Prices and sizes as the venue accepts them, rounded so that a bound we set is never crossed.

Source of the rules: Hyperliquid docs, "Tick and lot size": at most 5 significant figures and at most 6 -
szDecimals decimals for perpetuals, integer prices always allowed; sizes are multiples of 10^-szDecimals.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from evenkeel.units import BPS

_SIGNIFICANT_FIGURES = 5
_MAX_PRICE_DECIMALS = 6
_WIRE_DECIMALS = 8


def price_tick(price: Decimal, sz_decimals: int) -> Decimal:
    """Return the step between valid prices near `price` (USD). Never above 1: whole prices are valid at any length."""
    if price <= 0:
        raise ValueError(f"price must be above 0, got {price}")
    by_figures = price.adjusted() - (_SIGNIFICANT_FIGURES - 1)
    by_decimals = -(_MAX_PRICE_DECIMALS - sz_decimals)
    return Decimal(1).scaleb(min(0, max(by_figures, by_decimals)))


def round_price(price: Decimal, sz_decimals: int, *, up: bool) -> Decimal:
    """Return the nearest valid price at or above (`up`) or at or below `price`. ValueError when nothing above 0 is
    left.
    """
    tick = price_tick(price, sz_decimals)
    rounded = (price / tick).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR) * tick
    if rounded <= 0:
        raise ValueError(f"price {price} is below the smallest tick {tick}")
    return rounded


def is_valid_price(price: Decimal, sz_decimals: int) -> bool:
    """Return True when the venue would not refuse the price for its tick."""
    return price > 0 and price % price_tick(price, sz_decimals) == 0


def slippage_limit(reference: Decimal, *, is_buy: bool, slippage_bps: Decimal, sz_decimals: int) -> Decimal:
    """Return the worst valid limit price within `slippage_bps` of `reference`: rounded towards the reference, so that a
    buy never pays more and a sell never takes less than the bound.
    """
    if slippage_bps < 0 or slippage_bps >= BPS:
        raise ValueError(f"slippage must be in [0, 10000) bps, got {slippage_bps}")
    signed = slippage_bps if is_buy else -slippage_bps
    return round_price(reference * (1 + signed / BPS), sz_decimals, up=not is_buy)


def round_size(size: Decimal, sz_decimals: int) -> Decimal:
    """Return the largest valid size at or below `size` (coins). Down always: never more than was asked for."""
    lot = Decimal(1).scaleb(-sz_decimals)
    return (size / lot).to_integral_value(ROUND_FLOOR) * lot


def wire(value: Decimal) -> str:
    """Return the number as signed: plain digits, no exponent, no trailing zeros. ValueError beyond 8 decimals.

    The server hashes the canonical form; a trailing zero would change the signer that it recovers.
    """
    if not value.is_finite():
        raise ValueError(f"not a number that can be sent: {value}")
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if len(text.partition(".")[2]) > _WIRE_DECIMALS:
        raise ValueError(f"{value} has more than {_WIRE_DECIMALS} decimals")
    return "0" if text in ("-0", "") else text
