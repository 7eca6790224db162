"""The order book's own numbers: 32 bytes, the top four a signed exponent, the others a signed coefficient; value c times 10^e.

They are not canonical (9 and 90e-1 are the same), and they are human units: a token's decimals do not apply. Nothing here
uses the default decimal context, which would round at 28 digits.
"""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

LOWEST_EXPONENT, HIGHEST_EXPONENT = -128, 64
LARGEST = Decimal("1e30")
_MOST = 10**30
EXACT = Context(prec=400, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
"""Sums and products of such numbers, to the last digit: what it could not hold exactly is an error, never rounded."""


class OutOfBounds(ValueError):
    """A number that no real amount has; the text says which."""


def decoded(packed: bytes) -> Decimal:
    """Return the exact value, with the exponent that it was written with. Raises OutOfBounds, before anything is computed,
    for an exponent outside -128 to 64 or a value above 1e30.
    """
    if len(packed) != 32:
        raise OutOfBounds(f"{len(packed)} bytes are no number")
    exponent = int.from_bytes(packed[:4], "big", signed=True)
    if not LOWEST_EXPONENT <= exponent <= HIGHEST_EXPONENT:
        raise OutOfBounds(f"its exponent is {exponent}, outside {LOWEST_EXPONENT} to {HIGHEST_EXPONENT}")
    coefficient = int.from_bytes(packed[4:], "big", signed=True)
    size = abs(coefficient)
    if size * 10**exponent > _MOST if exponent >= 0 else size > _MOST * 10**-exponent:
        raise OutOfBounds(
            f"its value is above {LARGEST}: {len(str(size))} digits and an exponent of {exponent}"
        )
    return Decimal((int(coefficient < 0), tuple(map(int, str(size))), exponent))


def encoded(value: Decimal) -> bytes:
    """Return the 32 bytes of a finite number. Raises OutOfBounds for one that they, or our bounds, cannot hold."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise OutOfBounds(f"{value} is no number")
    coefficient = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    if not LOWEST_EXPONENT <= exponent <= HIGHEST_EXPONENT or not -(2**223) <= coefficient < 2**223:
        raise OutOfBounds(f"{value} does not fit")
    return exponent.to_bytes(4, "big", signed=True) + coefficient.to_bytes(28, "big", signed=True)
