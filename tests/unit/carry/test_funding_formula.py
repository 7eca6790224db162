"""The funding formula and its sign, held against every recorded SOL hour and every recorded payment."""

from __future__ import annotations

import csv
import gzip
import json
import os
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.carry.funding import (
    HOURLY_CAP,
    annual,
    apr_from_apy,
    expected_hourly,
    hourly_rate_from_premium,
    today_hourly,
)

D = Decimal
PRINTED = D("1e-10")


def data_path(name: str) -> Path:
    """A recorded file, from EVENKEEL_DATA or ../shared/data beside the repository; skips where there is
    none.
    """
    root = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    path = root / name
    if not path.exists():
        pytest.skip(f"recorded data {path} is absent: set EVENKEEL_DATA", allow_module_level=False)
    return path


def recorded_sol() -> list[tuple[int, Decimal, Decimal]]:
    """(time ms, hourly rate, premium) of every recorded SOL settlement."""
    with gzip.open(data_path("hyperliquid-funding/SOL_hourly.csv.gz"), "rt") as file:
        return [
            (int(row["time_ms"]), D(row["funding_rate"]), D(row["premium"])) for row in csv.DictReader(file)
        ]


def test_every_recorded_sol_hour_follows_from_its_premium() -> None:
    """Rates and premiums are printed with at most 10 decimals.

    P / 8 has up to 13, so the formula's exact value is rounded to the 10 printed ones. Where it falls
    exactly on a half, the venue rounded a premium with digits that were not printed, and either neighbour
    is right; every other row must agree to the last printed digit.
    """
    rows = recorded_sol()
    assert len(rows) == 7636
    halves = 0
    for time_ms, rate, premium in rows:
        exact = hourly_rate_from_premium(premium)
        if abs(exact - rate) == PRINTED / 2:
            halves += 1
            continue
        assert exact.quantize(PRINTED, ROUND_HALF_EVEN) == rate, (time_ms, rate, premium, exact)
    assert halves < len(rows) * 0.07


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        ("-0.0020", "-0.0001875"),
        ("-0.0010", "-0.0000625"),
        ("-0.0006", "-0.0000125"),
        ("-0.0005", "0"),
        ("-0.0004", "0.0000125"),
        ("0.0006", "0.0000125"),
        ("0.0010", "0.0000625"),
        ("0.5", "0.04"),
        ("-0.5", "-0.04"),
    ],
)
def test_published_table_of_premium_and_rate(premium: str, rate: str) -> None:
    assert hourly_rate_from_premium(D(premium)) == D(rate)


def test_the_floor_is_10_95_percent_a_year_not_a_third_of_it_a_day() -> None:
    assert annual(hourly_rate_from_premium(D(0))) == D("0.1095")


@given(st.decimals("-1", "1", places=10), st.decimals("-1", "1", places=10))
def test_rate_grows_with_the_premium_and_never_leaves_the_cap(a: Decimal, b: Decimal) -> None:
    low, high = sorted((a, b))
    assert hourly_rate_from_premium(low) <= hourly_rate_from_premium(high)
    assert -HOURLY_CAP <= hourly_rate_from_premium(a) <= HOURLY_CAP


@given(st.decimals("0.0007", "0.04", places=10))
def test_the_sign_of_the_rate_is_the_sign_of_what_the_short_gets(premium: Decimal) -> None:
    for rate in (hourly_rate_from_premium(premium), hourly_rate_from_premium(-premium)):
        assert (payment_usd(D(-10), D(150), rate) > 0) == (rate > 0)
        assert payment_usd(D(-10), D(150), rate) == -payment_usd(D(10), D(150), rate)


def payment_usd(signed_size: Decimal, oracle_price_usd: Decimal, rate_hourly: Decimal) -> Decimal:
    """Cash flow *to the account* at one settlement, as documented: what the twin and every recorded row must agree with."""
    return -signed_size * oracle_price_usd * rate_hourly


def _recorded_payments() -> list[dict[str, str]]:
    """Every funding row in the recorded `/info` answers, whatever file holds it."""
    rows: list[dict[str, str]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if {"usdc", "szi", "fundingRate"} <= node.keys():
                rows.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for path in sorted(data_path("hyperliquid-api").rglob("*.json")):
        walk(json.loads(path.read_text()))
    return rows


def _assert_sign(size: Decimal, rate: Decimal, usdc: Decimal) -> None:
    assert payment_usd(size, D(1), rate).compare(0) == usdc.compare(0), (size, rate, usdc)
    if size < 0:
        assert (rate > 0) == (usdc > 0)


def test_every_recorded_payment_has_the_sign_of_our_formula() -> None:
    rows = _recorded_payments()
    assert len(rows) >= 18, "13 rows of userFunding from 2023 and 5 from 2026"
    for row in rows:
        _assert_sign(D(row["szi"]), D(row["fundingRate"]), D(row["usdc"]))
    assert any(D(row["szi"]) < 0 and D(row["usdc"]) > 0 for row in rows), "a short that received"


@pytest.mark.parametrize(
    ("size", "rate", "usdc"),
    [
        ("-0.62666667", "-0.00140542", "-0.058194"),
        ("-6.83666667", "-0.00013186", "-0.045798"),
        ("-0.68582", "0.00010081", "5.950454"),
        ("-123824.3", "0.0000125", "0.186634"),
    ],
)
def test_published_payments_to_shorts(size: str, rate: str, usdc: str) -> None:
    """Rows of the venue's own SDK recordings (SOL, AVAX, BTC 2023) and of mainnet (DYDX 2026): two shorts
    pay, two receive.
    """
    _assert_sign(D(size), D(rate), D(usdc))


def test_apr_and_apy() -> None:
    for apr, apy in (("0.05", "0.0513"), ("0.08", "0.0833"), ("0.10", "0.1052")):
        assert (D(apr).exp() - 1).quantize(D("0.0001")) == D(apy)
        assert apr_from_apy(D(apr).exp() - 1).quantize(D("1e-20")) == D(apr)
    with pytest.raises(ValueError, match="loses everything"):
        apr_from_apy(D(-1))


def test_what_is_expected_is_the_mean_of_the_settled_hours_that_are_there() -> None:
    hour = 3_600_000
    settled = [(n * hour + 37, Decimal(n)) for n in (1, 2, 4, 5, 6)]
    now = 6 * hour + 1000
    assert expected_hourly(settled, now, 3, 3) == 5
    assert expected_hourly(settled, now, 5, 4) == Decimal(17) / 4, "hour 3 is missing: it is no zero"
    assert expected_hourly(settled, now, 100, 5) == Decimal(18) / 5
    assert expected_hourly(settled, now, 100, 6) is None, "too little is known"
    assert expected_hourly(settled, now, 1, 24) == 6, (
        "a window that is shorter than what is asked for is enough"
    )
    assert expected_hourly(settled, 5 * hour + 1000, 2, 2) == Decimal(9) / 2, (
        "what is settled later is not known"
    )
    assert expected_hourly([], now, 1, 1) is None


def test_today_is_the_mean_of_the_last_days_hours_of_which_half_must_be_known() -> None:
    hour = 3_600_000
    settled = [(at * hour, Decimal(1 if at % 2 else -2)) for at in range(1, 60)]
    now = 59 * hour + 1
    assert today_hourly(settled, now) == Decimal("-0.5"), "older hours do not count"
    assert today_hourly(settled[-12:], now) == Decimal("-0.5")
    assert today_hourly(settled[-11:], now) is None, "eleven of 24 hours say nothing of the day"
