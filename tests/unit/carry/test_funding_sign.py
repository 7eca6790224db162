"""Who pays whom: 218 payments of a public account over sixteen days, long and short, at rates of either sign."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from venues.hyperliquid import models as m
from venues.hyperliquid.account import to_payment

RECORDED = Path(__file__).parents[2] / "recorded" / "hyperliquid_funding_payments.txt"
SHARED = Path(os.environ.get("EVENKEEL_DATA", Path(__file__).parents[4] / "shared" / "data"))
LENGTH = 47_096
"""`content-length` of the recorded answer: the figures were taken over to the last digit, or it differs."""
HASH = "0x" + "0" * 64


def rows() -> list[dict[str, Any]]:
    """The payments in the venue's shape; hashes are left out of the record."""
    found: list[dict[str, Any]] = []
    time_ms = samples = 0
    for line in RECORDED.read_text().splitlines():
        match line.split():
            case ["#", *_]:
                continue
            case ["@", time, count]:
                time_ms, samples = int(time), int(count)
            case [coin, rate, szi, usdc]:
                delta = {"coin": coin, "fundingRate": rate, "nSamples": samples, "szi": szi}
                found.append(
                    {"delta": {**delta, "type": "funding", "usdc": usdc}, "hash": HASH, "time": time_ms}
                )
            case other:
                raise AssertionError(other)
    return found


def test_the_record_is_whole() -> None:
    assert len(rows()) == 218
    assert len(json.dumps(rows(), separators=(",", ":"))) == LENGTH


def test_a_short_receives_positive_funding_and_pays_negative_in_all_218_payments() -> None:
    payments = [
        to_payment("0x" + "00" * 20, row)
        for row in TypeAdapter(list[m.WireUserFunding]).validate_python(rows())
    ]
    cases: dict[tuple[bool, bool], int] = defaultdict(int)
    for payment in payments:
        assert payment.usdc * -payment.position_size * payment.funding_rate_hourly > 0, payment
        cases[payment.position_size > 0, payment.funding_rate_hourly > 0] += 1
    # Each of the four cases is there many times over: no sign rule but the true one passes.
    assert sum(cases.values()) == 218 and min(cases.values()) >= 18 and len(cases) == 4, dict(cases)


def test_what_was_paid_gives_the_prices_of_those_days() -> None:
    """usdc = -szi × oracle × rate × samples, solved for the oracle: one price a coin and day, to print precision."""
    prices: dict[str, list[Decimal]] = defaultdict(list)
    for row in rows():
        delta = row["delta"]
        paid, size, rate = (Decimal(delta[key]) for key in ("usdc", "szi", "fundingRate"))
        if abs(paid) >= Decimal("0.1"):  # six decimals of a smaller sum say too little
            prices[delta["coin"]].append(paid / (-size * rate * delta["nSamples"]))
    for coin, low, high in (("BTC", 26_000, 31_000), ("ETH", 1_700, 2_000), ("SOL", 20, 25)):
        found = [float(price) for price in prices[coin]]
        assert low < min(found) and max(found) < high, (coin, found)
        assert statistics.pstdev(found) / statistics.mean(found) < 0.05


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recorded data at {SHARED} (set EVENKEEL_DATA)")
def test_the_shared_recording_of_the_first_day_says_the_same() -> None:
    path = SHARED / "hyperliquid-api" / "info" / "user_funding_history_with_end_time.json"
    answered = next(
        row["response"] for row in json.loads(path.read_text()) if row["request"]["type"] == "userFunding"
    )
    assert [row["delta"] for row in answered] == [row["delta"] for row in rows()[: len(answered)]]
