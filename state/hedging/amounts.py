"""Exact sums of amounts: a fill on chain carries more digits than the default decimal context keeps."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

EXACT = Context(prec=900, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
"""What it cannot hold to the last digit is an error, never rounded."""
ROUNDED = Context(prec=28)
ZERO = Decimal(0)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum, to the last digit."""
    found = ZERO
    for one in amounts:
        found = EXACT.add(found, one)
    return found


def plus(first: Decimal, second: Decimal) -> Decimal:
    """Return the sum of two, to the last digit."""
    return EXACT.add(first, second)


def minus(first: Decimal, second: Decimal) -> Decimal:
    """Return the difference, to the last digit."""
    return EXACT.subtract(first, second)


def times(first: Decimal, second: Decimal) -> Decimal:
    """Return the product, to the last digit."""
    return EXACT.multiply(first, second)


def price_of(usd: Decimal, shares: Decimal) -> Decimal:
    """Return USD a share, rounded at 28 digits: it values, and no amount is made of it."""
    return ROUNDED.divide(usd, shares)
