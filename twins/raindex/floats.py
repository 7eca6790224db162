"""The order book's numbers as it writes them: a signed coefficient of 224 bits and a signed exponent of 32 before it."""

from __future__ import annotations

from decimal import Decimal


def packed(coefficient: int, exponent: int) -> bytes:
    """Return 32 bytes. Raises OverflowError where a part has no room."""
    return exponent.to_bytes(4, "big", signed=True) + coefficient.to_bytes(28, "big", signed=True)


def float_of(number: Decimal | str) -> bytes:
    """Return a decimal as it is written, its trailing noughts included. Raises OverflowError where it has no room."""
    text = str(number).lower()
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    return packed(int(whole + fraction), int(power or 0) - len(fraction))


def units_of(number: Decimal, decimals: int) -> int:
    """Return a token's smallest units, what is below them left out."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    value = int("".join(map(str, digits)))
    shift = exponent + decimals
    units = value * 10**shift if shift >= 0 else value // 10**-shift
    return -units if sign else units
