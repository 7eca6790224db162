"""The funding formula of the venue (docs: trading/funding) and its hourly settlement stamps."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from twins.hyperliquid.numbers import RATE_STEP, usd
from twins.world import HOUR_MS

INTEREST_8H = Decimal("0.0001")
CLAMP_8H = Decimal("0.0005")
CAP_HOURLY = Decimal("0.04")


def hourly_rate(premium: Decimal) -> Decimal:
    """Return the rate per hour from the hour's average premium index: clamp((P + clamp(I - P, +-0.0005)) / 8, +-4 %).

    Positive: longs pay shorts. Printed to 10 decimals, as the venue prints it.
    """
    interest = max(-CLAMP_8H, min(CLAMP_8H, INTEREST_8H - premium))
    rate = (premium + interest) / 8
    return max(-CAP_HOURLY, min(CAP_HOURLY, rate)).quantize(RATE_STEP, ROUND_HALF_EVEN)


def payment_usd(szi: Decimal, oracle_px: Decimal, rate_hourly: Decimal) -> Decimal:
    """Return what the account receives for the hour (negative: pays): -szi x oracle price x rate, to the micro-dollar."""
    return usd(-szi * oracle_px * rate_hourly)


def settled_at_ms(hour_ms: int) -> int:
    """Return the settlement stamp of the hour that ends at `hour_ms`: some milliseconds after it, as recorded stamps
    are.
    """
    return hour_ms + 11 + hour_ms // HOUR_MS * 37 % 80


def next_hour_ms(t_ms: int) -> int:
    return (t_ms // HOUR_MS + 1) * HOUR_MS
