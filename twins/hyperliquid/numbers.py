"""The venue's numbers: Decimal strings as it prints them, and its tick and lot rules."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

USD_STEP = Decimal("0.000001")
"""The ledger's smallest unit. Price times size never has more decimals (6 - szDecimals plus szDecimals)."""
RATE_STEP = Decimal("0.0000000001")
MAX_PRICE_DECIMALS = 6
ZERO = Decimal(0)


def num(value: Decimal) -> str:
    """Return the number in plain notation, no trailing zeros, at least one decimal: "136.0", "0.0000125", never "1E-5"
    or "-0.0".
    """
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0")
    text = text + "0" if text.endswith(".") else text if "." in text else text + ".0"
    return "0.0" if text == "-0.0" else text


def usd(value: Decimal) -> Decimal:
    """Return the amount rounded to the ledger's micro-dollar."""
    return value.quantize(USD_STEP, ROUND_HALF_EVEN)


def from_float(value: float, step: Decimal = RATE_STEP) -> Decimal:
    """Return a float of the market model as the Decimal that it prints as, to `step`."""
    return Decimal(repr(value)).quantize(step, ROUND_HALF_EVEN)


def tick(px: Decimal, sz_decimals: int, figures: int = 5) -> Decimal:
    """Return the price step at `px`: 5 significant figures, at most 6 - szDecimals decimals, whole dollars always
    allowed.
    """
    exponent = min(0, max(px.adjusted() - figures + 1, sz_decimals - MAX_PRICE_DECIMALS))
    return Decimal(1).scaleb(exponent)


def to_tick(px: Decimal, sz_decimals: int, rounding: str = ROUND_HALF_EVEN, figures: int = 5) -> Decimal:
    step = tick(px, sz_decimals, figures)
    return (px / step).to_integral_value(rounding) * step


def on_tick(px: Decimal, sz_decimals: int) -> bool:
    """Return whether the venue accepts this price (integers always; else 5 significant figures and 6 - szDecimals
    decimals).
    """
    if px == px.to_integral_value():
        return True
    plain = px.normalize().as_tuple()
    decimals = -int(plain.exponent)
    return len(plain.digits) <= 5 and decimals <= MAX_PRICE_DECIMALS - sz_decimals


def on_lot(size: Decimal, sz_decimals: int) -> bool:
    return size == size.quantize(Decimal(1).scaleb(-sz_decimals), ROUND_DOWN)


def to_lot(size: Decimal, sz_decimals: int) -> Decimal:
    return size.quantize(Decimal(1).scaleb(-sz_decimals), ROUND_DOWN)


def lower_address(value: object) -> str | None:
    """Return the address in lower case, or None where it is not one."""
    if not isinstance(value, str) or len(value) != 42 or not value.lower().startswith("0x"):
        return None
    try:
        int(value[2:], 16)
    except ValueError:
        return None
    return value.lower()
