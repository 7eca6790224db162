"""How figures are written in the reasons that decisions carry."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from evenkeel.units import HOURS_PER_YEAR


def pct(fraction: Decimal, digits: int = 2) -> str:
    """0.0123 → `1.23 %`."""
    return f"{fraction * 100:.{digits}f} %"


def usd(amount: Decimal) -> str:
    """1234.5 → `1,234.50 USD`."""
    return f"{amount:,.2f} USD"


def hourly(rate: Decimal) -> str:
    """An hourly rate with its simple yearly equivalent: 0.0000125 → `0.00125 %/h (10.95 % a year)`."""
    return f"{rate * 100:.5f} %/h ({rate * HOURS_PER_YEAR * 100:.2f} % a year)"


def missing(readings: Mapping[str, object]) -> str:
    """Which of these readings, by what they are called, are None."""
    names = [name for name, value in readings.items() if value is None]
    return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing"
