"""The arithmetic of the Ostium twin meets the worked cases of the SDK's authors: the contracts', and the keeper's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from tests.ostium_rig import SOL, OstiumRig, ostium_rig
from tests.unit.test_ostium_twin_interface import DATA, recorded
from twins.ostium import arithmetic

pytestmark = recorded
CASES: dict[str, list[dict[str, Any]]] = (
    json.loads((DATA / "formula_cases.json").read_text()) if DATA.is_dir() else {}
)
UNIT = Decimal("0.000001")
"""Of the SDK's arithmetic, which is decimal; the chain cuts each step off."""


@pytest.fixture
async def rig() -> AsyncIterator[OstiumRig]:
    async with ostium_rig() as found:
        yield found


def number(case: dict[str, Any], name: str, scale: int) -> int:
    return int(Decimal(case[name]) * 10**scale)


def close(found: int, scale: int, wanted: str, within: Decimal = 2 * UNIT) -> bool:
    return abs(Decimal(found) / 10**scale - Decimal(wanted)) <= within


@pytest.mark.parametrize("case", CASES.get("current_trade_profit_p", []), ids=lambda one: one["case_name"])
def test_profit(case: dict[str, Any]) -> None:
    leverages = number(case, "leverage", 2), number(case, "highest_leverage", 2)
    prices = number(case, "open_price", 18), number(case, "current_price", 18)
    assert close(arithmetic.profit_p(*prices, case["long"], *leverages), 6, case["expected_profit_p"])


@pytest.mark.parametrize(
    "case",
    [*CASES.get("current_total_profit_raw", []), *CASES.get("current_trade_profit_raw", [])],
    ids=lambda one: one["open_price"],
)
async def test_value_after_fees(case: dict[str, Any], rig: OstiumRig) -> None:
    leverages = number(case, "leverage", 2), number(case, "highest_leverage", 2)
    prices = number(case, "open_price", 18), number(case, "current_price", 18)
    collateral = number(case, "collateral", 6)
    fees = [number({"fee": case.get(name, "0")}, "fee", 6) for name in ("rollover_fee", "funding_fee")]
    gain_p = arithmetic.profit_p(*prices, case["long"], *leverages)
    value = arithmetic.trade_value(collateral, gain_p, sum(fees))
    assert rig.venue.read("infos", "getTradeValuePure", collateral, gain_p, *fees) == value
    profit = Decimal(case.get("expected_total_profit") or case["expected_profit"])
    wanted = max(Decimal(0), Decimal(case["collateral"]) + profit)
    # A per cent of six decimals, of this collateral.
    within = Decimal(case["collateral"]) * UNIT / 100 + 2 * UNIT
    assert close(value, 6, str(wanted), within)


async def test_value_and_margin(rig: OstiumRig) -> None:
    for case in CASES["get_trade_value"]:
        collateral, leverages = (
            number(case, "collateral", 6),
            (number(case, "leverage", 2), number(case, "max_leverage", 2)),
        )
        figures = [number(case, name, 6) for name in ("percent_profit", "rollover_fee", "funding_fee")]
        value = rig.venue.read("infos", "getTradeValuePure", collateral, *figures)
        margin = rig.venue.read("infos", "getTradeLiquidationMargin", collateral, *leverages)
        assert close(value, 6, case["expected_trade_value"])
        assert value == arithmetic.trade_value(collateral, figures[0], figures[1] + figures[2])
        assert margin == arithmetic.liquidation_margin(collateral, *leverages)
        assert close(margin, 6, case["expected_liq_margin_value"])


async def test_liquidation_price(rig: OstiumRig) -> None:
    tried = 0
    for case in CASES["trade_liquidation_price"]:
        if Decimal(case["liq_margin_threshold_p"]) != Decimal("0.25"):
            continue  # the contract has one threshold
        tried += 1
        size = number(case, "collateral", 6), number(case, "leverage", 2)
        fees = number(case, "rollover_fee", 6), number(case, "funding_fee", 6)
        of = (number(case, "openPrice", 18), case["isLong"], *size)
        cap = number(case, "max_leverage", 2)
        price = rig.venue.read("infos", "getTradeLiquidationPricePure", *of, *fees, cap)
        assert price == arithmetic.liquidation_price(*of, sum(fees), cap)
        assert close(price, 18, case["expected_liq_price"]), case
    assert tried == 2


async def test_rollover(rig: OstiumRig) -> None:
    for case in CASES["get_trade_rollover_fee"]:
        begin, end = number(case, "trade_rollover", 18), number(case, "current_rollover", 18)
        size = number(case, "collateral", 6), number(case, "leverage", 2)
        fee = rig.venue.read("infos", "getTradeRolloverFeePure", begin, end, *size)
        assert fee == arithmetic.rollover_fee(end - begin, *size)
        assert close(fee, 6, case["expected_rollover_fee"])


async def test_opening_fee(rig: OstiumRig) -> None:
    for case in CASES["get_opening_fee"]:
        fees = [number(case, name, 6) for name in ("maker_fee_p", "taker_fee_p")]
        most = number(case, "maker_max_leverage", 2)
        await rig.owner_does("infos", "setPairOpeningFees", SOL, (*fees, 0, 0, most, 0))
        size, imbalance = number(case, "trade_size", 6), number(case, "oi_delta", 6)
        fee = rig.venue.read("infos", "getOpeningFee", SOL, size, number(case, "leverage", 2), imbalance)
        assert close(sum(fee), 6, case["expected_fee"], Decimal(0)), (case, fee)


async def test_price_at_bid_and_ask(rig: OstiumRig) -> None:
    for case in CASES["get_price_impact"]:
        mid, bid, ask = (number(case, name, 18) for name in ("midPrice", "bidPrice", "askPrice"))
        if not mid:
            continue  # the contract asks for a price before
        above = case["is_open"] == case["is_long"]
        impact, after = rig.venue.read("infos", "priceAfterImpact", SOL, above, 10**6, mid, bid, ask)
        assert close(impact, 18, case["expected_price_impact_p"])
        assert close(after, 18, case["expected_price_after_impact"])


async def test_the_default_take_profit_is_the_sdks_price_of_nine_hundred_per_cent(rig: OstiumRig) -> None:
    [case] = [one for one in CASES["trade_get_tp_price"] if one["profit_p"] == "900"]
    await rig.owner_does("infos", "setPairDynamicSpreadParams", SOL, (0, 10**15, 0))
    rig.pin(float(case["openPrice"]) / 1_000)
    await rig.opened(leverage=50, price=100)
    held = rig.held()
    distance = Decimal(case["expected_tp_price"]) / Decimal(case["openPrice"]) - 1
    # The case is at 100 times; the twin's pair allows 50, so that the price is twice as far.
    assert held["tp"] == held["openPrice"] + int(held["openPrice"] * distance * 2)


async def test_a_top_up_lowers_the_leverage_as_the_case_says(rig: OstiumRig) -> None:
    [case] = [one for one in CASES["top_up_with_collateral"] if one["expected_leverage"] == "5"]
    await rig.opened(collateral_usdc=1_005.1, leverage=float(case["leverage"]))
    held = rig.held()
    await rig.done("topUpCollateral", SOL, 0, held["collateral"])
    again = rig.held()
    assert again["leverage"] == 500 and again["collateral"] == pytest.approx(2 * held["collateral"], abs=2)
