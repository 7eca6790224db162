"""Drawdown, realised funding rate and naked time, against plain loops and worked figures."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.carry.equity import equity_curve, max_drawdown, realised_funding_apr
from analytics.carry.life import LifeSnapshot
from evenkeel.legs import FundingPayment

T0 = 1_760_000_000_000
HOUR_MS = 3_600_000
D = Decimal


def equity(values: list[float | None]) -> list[LifeSnapshot]:
    return [LifeSnapshot(at_ms=T0 + i * 1000, equity_usd=value) for i, value in enumerate(values)]


def test_drawdown_with_peak_trough_and_recovery() -> None:
    found = max_drawdown(equity_curve(equity([100, 110, None, 99, 104, 110, 108])))
    assert found is not None
    assert found.usd == 11
    assert found.fraction == pytest.approx(0.1)
    assert (found.peak_ms, found.trough_ms, found.recovered_ms) == (T0 + 1000, T0 + 3000, T0 + 5000)


def test_drawdown_not_recovered_and_too_few_values() -> None:
    found = max_drawdown(equity_curve(equity([100, 90, 95])))
    assert found is not None and found.recovered_ms is None
    assert max_drawdown(equity_curve(equity([100, None]))) is None


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=60))
def test_drawdown_equals_the_worst_pair(values: list[float]) -> None:
    found = max_drawdown(equity_curve(equity(list(values))))
    assert found is not None
    worst = max(values[i] - values[j] for i in range(len(values)) for j in range(i, len(values)))
    assert found.usd == worst
    assert found.peak_ms <= found.trough_ms


def paid(hour: int, size: str, rate: str, price: str) -> FundingPayment:
    """By the venue's rule: usdc = −szi × oracle price × rate."""
    return FundingPayment(
        venue="hyperliquid",
        account="0x1",
        coin="SOL",
        hour_ms=T0 + hour * HOUR_MS,
        time_ms=T0 + hour * HOUR_MS + 35,
        usdc=-D(size) * D(price) * D(rate),
        position_size=D(size),
        funding_rate_hourly=D(rate),
    )


def test_realised_funding_is_the_base_rate_when_only_the_base_rate_is_paid() -> None:
    rows = [paid(hour, "-20", "0.0000125", str(100 + hour)) for hour in range(48)]
    assert realised_funding_apr(rows) == pytest.approx(0.1095)


def test_realised_funding_is_weighted_by_notional_and_keeps_its_sign() -> None:
    rows = [paid(0, "-10", "0.0001", "100"), paid(1, "-30", "-0.0001", "100"), paid(2, "-20", "0", "100")]
    assert realised_funding_apr(rows) == pytest.approx((0.1 - 0.3) / (1000 + 3000 + 2000) * 8760)
    assert realised_funding_apr([]) is None
    assert realised_funding_apr([paid(0, "-10", "0", "100")]) is None
