"""Hyperliquid's funding rate from the premium, and what a rate means over a year.

Sign: a positive rate is paid by the long to the short, so it is *income to our short* (docs/deviations.md, row 1). Never
take `abs()`. Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/funding, and docs/deviations.md, rows 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from evenkeel.units import HOUR_MS, HOURS_PER_YEAR

INTEREST_8H = Decimal("0.0001")
INTEREST_CLAMP = Decimal("0.0005")
HOURLY_CAP = Decimal("0.04")
TODAY_HOURS = 24
LEAST_TODAY_HOURS = 12
"""Of them, that must be known before they say anything."""


def _clamp(value: Decimal, bound: Decimal) -> Decimal:
    return max(-bound, min(bound, value))


def hourly_rate_from_premium(premium: Decimal) -> Decimal:
    """Rate for one hour from that hour's average premium (both fractions): `(P + clamp(0.0001 − P,
    ±0.0005)) / 8`, capped at ±4 %.

    Valid for settlements from 2023-12-11 23:00 UTC; earlier hours followed other rules.
    """
    rate_8h = premium + _clamp(INTEREST_8H - premium, INTEREST_CLAMP)
    return _clamp(rate_8h / 8, HOURLY_CAP)


def annual(rate_hourly: Decimal) -> Decimal:
    """Simple yearly rate of an hourly one: × 8760. The API's `funding` is hourly already, never divide it
    by 8.
    """
    return rate_hourly * HOURS_PER_YEAR


def expected_hourly(
    settled: Iterable[tuple[int, Decimal]], now_ms: int, hours: int, least: int
) -> Decimal | None:
    """Mean of the hourly rates that were settled in (now − hours, now], given as (time in ms, rate); None where fewer than
    `least` hours are there. An hour that is missing is left out, never counted as zero.
    """
    rates = [rate for at_ms, rate in settled if now_ms - hours * HOUR_MS < at_ms <= now_ms]
    if len(rates) < max(1, min(least, hours)):
        return None
    return sum(rates, Decimal(0)) / len(rates)


def today_hourly(settled: Iterable[tuple[int, Decimal]], now_ms: int) -> Decimal | None:
    """Mean of the hourly rates that were settled in the last 24 hours, given as (time in ms, rate); None where fewer than
    half of these hours are there. Its sign says whether the short has been paid today.
    """
    return expected_hourly(settled, now_ms, TODAY_HOURS, LEAST_TODAY_HOURS)


def apr_from_apy(apy: Decimal) -> Decimal:
    """Simple yearly rate that compounds (continuously) to `apy`: `ln(1 + apy)`. 0.0513 → 0.0500.

    Funding is a simple rate, so lending, borrowing and staking quotes are converted before they are
    compared with it. Raises ValueError at or below −100 %.
    """
    if apy <= -1:
        raise ValueError(f"an APY of {apy} loses everything: it has no simple equivalent")
    return (1 + apy).ln()
