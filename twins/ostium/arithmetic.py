"""The venue's arithmetic on whole numbers, as its contracts do it: USDC and per cents 6 decimals, prices 18, leverage 2."""

from __future__ import annotations

MILLION = 1_000_000
MOST_GAIN_P = 900 * MILLION
LIQUIDATION_P = 25


def divided(value: int, by: int) -> int:
    """Return a quotient rounded towards zero, as the chain rounds."""
    return value // by if (value < 0) == (by < 0) else -(-value // by)


def profit_p(open_price: int, price: int, buy: bool, leverage: int, highest: int) -> int:
    """Return the gain in per cent of the collateral, at most 900 per cent times leverage over the highest leverage."""
    change = price - open_price if buy else open_price - price
    return min(
        divided(change * MILLION * leverage, open_price), MOST_GAIN_P * leverage // max(leverage, highest)
    )


def trade_value(collateral: int, gain_p: int, fees: int) -> int:
    """Return what a trade is worth after rollover and funding, at least 0."""
    return max(0, collateral + divided(divided(collateral * gain_p, MILLION), 100) - fees)


def liquidation_margin(collateral: int, leverage: int, cap: int) -> int:
    """Return the value below which a trade is liquidated."""
    return collateral * (LIQUIDATION_P * leverage * MILLION // cap) // (100 * MILLION)


def liquidation_price(open_price: int, buy: bool, collateral: int, leverage: int, fees: int, cap: int) -> int:
    """Return the price at which the value meets the margin, 0 where none does."""
    left = collateral - liquidation_margin(collateral, leverage, cap) - fees
    distance = divided(divided(open_price * left * 100, collateral), leverage)
    return max(0, open_price - distance if buy else open_price + distance)


def rollover_fee(accrued: int, collateral: int, leverage: int) -> int:
    """Return what is owed (positive) or received, of what has accrued on a unit of notional since the opening."""
    fee = divided(divided(accrued * collateral * leverage, 10**18), 100)
    return 1 if fee == 0 and accrued > 0 else fee


def notional(collateral: int, leverage: int, open_price: int) -> int:
    """Return the size in units of the asset, 18 decimals."""
    return collateral * 10**12 * leverage // 100 * 10**18 // open_price
