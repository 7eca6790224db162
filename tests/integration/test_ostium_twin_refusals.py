"""What the Ostium twin refuses, in the venue's own named errors, and in its order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.evm_rig import MILLION
from tests.ostium_rig import LIMIT, MARKET, NO_BUILDER, PRICE, SOL, START_USDC, OstiumRig, one, ostium_rig


def opening(rig: OstiumRig, kind: int = MARKET, slippage: int = 200, **how: Any) -> str:
    return rig.refusal("openTrade", rig.trade(**how), NO_BUILDER, kind, slippage)


async def test_an_opening_is_refused_for_each_limit_by_its_name() -> None:
    async with ostium_rig() as rig:
        assert opening(rig) == ""
        assert opening(rig, pair=7) == "PairNotListed"
        assert opening(rig, price=0) == "WrongParams"
        assert opening(rig, slippage=0) == opening(rig, slippage=10_000) == "WrongParams"
        assert opening(rig, slippage=9_999) == ""
        assert opening(rig, LIMIT, 200) == opening(rig, 3, 0) == "WrongParams"
        assert opening(rig, LIMIT, 0) == ""
        assert opening(rig, leverage=0) == opening(rig, leverage=0.5) == "WrongLeverage"
        assert opening(rig, leverage=50.01) == "WrongLeverage" and opening(rig, leverage=50) == ""
        assert opening(rig, collateral_usdc=1_000_001, leverage=1) == "AboveMaxAllowedCollateral"
        assert opening(rig, tp=100) == "WrongTP" and opening(rig, tp=101) == ""
        assert opening(rig, sl=100) == "WrongSL" and opening(rig, buy=False, sl=99) == "WrongSL"
        assert opening(rig, collateral_usdc=START_USDC + 1) == "ERC20: transfer amount exceeds allowance"
        # The first thing that does not hold is named.
        assert opening(rig, leverage=0, collateral_usdc=0, tp=100) == "WrongLeverage"


async def test_the_smallest_size_is_tested_after_every_fee() -> None:
    async with ostium_rig() as rig:
        # 5 of notional at one time is the least; the oracle's fee of 0.10 and the taker's have to be paid besides.
        assert opening(rig, collateral_usdc=5, leverage=1) == "BelowMinLevPos"
        assert opening(rig, collateral_usdc=5.1, leverage=1) == "BelowMinLevPos"
        assert opening(rig, collateral_usdc=5.11, leverage=1) == ""
        assert opening(rig, collateral_usdc=0.1, leverage=50) == "BelowFees"
        builder = ("0x" + "b1" * 20, 500_000)
        small = rig.trade(collateral_usdc=5.11, leverage=1)
        assert rig.refusal("openTrade", small, builder, MARKET, 200) == "BelowMinLevPos"


async def test_a_pause_stops_openings_and_removals_and_lets_every_way_out_go_on() -> None:
    async with ostium_rig() as rig:
        await rig.opened(leverage=2)
        await rig.done("openTrade", rig.trade(price=90), NO_BUILDER, LIMIT, 0)
        await rig.owner_does("trading", "pause")
        assert rig.venue.read("trading", "isPaused")
        assert opening(rig) == opening(rig, LIMIT, 0) == "IsPaused"
        assert rig.refusal("removeCollateral", SOL, 0, MILLION) == "IsPaused"
        rig.pin(89)
        await rig.advance(5)
        assert len(rig.twin.book.open) == 1, "no limit order is filled"
        rig.pin(100)
        await rig.done("updateSl", SOL, 0, 95 * PRICE)
        await rig.done("updateTp", SOL, 0, 110 * PRICE)
        await rig.done("topUpCollateral", SOL, 0, 10 * MILLION)
        await rig.done("cancelOpenLimitOrder", SOL, 0)
        order = await rig.closed()
        assert rig.reason(order) == "NONE" and rig.held()["leverage"] == 0
        await rig.owner_does("trading", "pause")
        assert opening(rig) == ""


async def test_done_stops_everything() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        await rig.owner_does("trading", "done")
        assert opening(rig) == "IsDone"
        for call in (
            ("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200),
            ("updateSl", SOL, 0, 0),
            ("topUpCollateral", SOL, 0, MILLION),
            ("openTradeMarketTimeout", 1),
            ("closeTradeMarketTimeout", 1, False),
            ("cancelOpenLimitOrder", SOL, 0),
        ):
            assert rig.refusal(*call) == "IsDone", call
        rig.pin(1)
        await rig.advance(10)
        assert len(rig.twin.book.open) == 1, "not even a liquidation"


async def test_a_close_is_refused_for_its_words_its_slot_and_a_rest_that_is_too_small() -> None:
    async with ostium_rig() as rig:
        await rig.opened()

        def close(percent: int = 10_000, price: int = 100 * PRICE, slippage: int = 200, slot: int = 0) -> str:
            return rig.refusal("closeTradeMarket", SOL, slot, percent, price, slippage)

        assert close() == close(0) == close(slippage=10_000) == ""
        assert close(10_001) == close(price=0) == close(slippage=0) == close(slippage=10_001) == "WrongParams"
        assert close(slot=3) == "NoTradeFound"
        assert close(9_960) == "BelowMinLevPos" and close(9_940) == ""


async def test_a_pending_close_blocks_what_would_meet_it_until_it_is_settled_or_the_timeout_has_passed() -> (
    None
):
    async with ostium_rig() as rig:
        await rig.opened()
        rig.fault("silent_keeper", "answer:market_close", times=-1)
        await rig.done("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        for call in (
            ("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200),
            ("updateSl", SOL, 0, 95 * PRICE),
            ("updateTp", SOL, 0, 120 * PRICE),
            ("topUpCollateral", SOL, 0, 10 * MILLION),
            ("removeCollateral", SOL, 0, MILLION),
        ):
            assert rig.refusal(*call) == "TriggerPending", call
        await rig.advance(31)
        assert rig.refusal("updateSl", SOL, 0, 95 * PRICE) == ""


async def test_a_close_needs_the_oracles_fee_in_the_wallet_and_in_the_allowance_a_stop_nothing() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        left = rig.usdc(rig.user)
        await rig.done("transfer", rig.users[1], left, to="usdc")
        refused = rig.refusal("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        assert refused == "ERC20: transfer amount exceeds balance"
        await rig.done("transfer", rig.user, MILLION, sender=rig.users[1], to="usdc")
        await rig.done("approve", rig.venue.at["storage"], 99_999, to="usdc")
        refused = rig.refusal("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        assert refused == "ERC20: transfer amount exceeds allowance"
        # The way out: a stop at the market, which the keeper fills without a fee.
        await rig.done("updateSl", SOL, 0, 101 * PRICE)
        await rig.advance(5)
        assert rig.held()["leverage"] == 0 and rig.usdc(rig.user) > 98 * MILLION


async def test_trades_of_a_pair_and_orders_that_wait_are_counted() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("storage", "setMaxTradesPerPair", 3)
        await rig.opened()
        await rig.done("openTrade", rig.trade(price=90), NO_BUILDER, LIMIT, 0)
        rig.fault("silent_keeper", "answer:.*", times=-1)
        await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        assert opening(rig) == "MaxTradesPerPairReached" and opening(rig, pair=0, price=65_000) == ""
        await rig.owner_does("storage", "setMaxPendingMarketOrders", 1)
        assert opening(rig, pair=0, price=65_000) == "MaxPendingMarketOrdersReached"
        refused = rig.refusal("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        assert refused == "MaxPendingMarketOrdersReached"


async def test_an_opening_that_nobody_answers_is_refunded_once_its_time_is_over() -> None:
    async with ostium_rig() as rig:
        rig.fault("silent_keeper", "answer:.*", times=-1)
        found = await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        assert rig.refusal("openTradeMarketTimeout", order) == "WaitTimeout"
        assert rig.refusal("openTradeMarketTimeout", 77) == "NoTradeToTimeoutFound"
        await rig.advance(30)
        assert rig.refusal("openTradeMarketTimeout", order, sender=rig.users[1]) == "NotYourOrder"
        assert rig.refusal("closeTradeMarketTimeout", order, False) == "NotCloseMarketTimeoutOrder"
        found = await rig.done("openTradeMarketTimeout", order)
        assert one(found, "MarketOpenTimeoutExecutedV2").args["order"]["trade"]["collateral"] == 100 * MILLION
        assert rig.usdc(rig.user) == START_USDC * MILLION, "all of it, the oracle's fee too"
        rig.faults.clear()
        await rig.advance(10)
        assert rig.held()["leverage"] == 0, "a late answer opens nothing"


@pytest.mark.parametrize("retry", [False, True])
async def test_a_close_that_nobody_answers_gives_its_fee_back_and_is_dropped_or_asked_for_again(
    retry: bool,
) -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        balance = rig.usdc(rig.user)
        silent = rig.fault("silent_keeper", "answer:market_close", times=-1)
        found = await rig.done("closeTradeMarket", SOL, 0, 5_000, 100 * PRICE, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        await rig.advance(31)
        assert rig.refusal("openTradeMarketTimeout", order) == "NotOpenMarketTimeoutOrder"
        found = await rig.done("closeTradeMarketTimeout", order, retry)
        refunded = one(found, "OracleFeeRefunded").args
        assert (refunded["tradeId"], refunded["amount"]) == (trade, 100_000)
        assert rig.usdc(rig.user) == balance - (100_000 if retry else 0)
        waiting = rig.venue.read("storage", "getPendingOrderIds", rig.user)
        silent.times = 0
        if not retry:
            assert waiting == () and rig.refusal("updateSl", SOL, 0, 95 * PRICE) == ""
            return
        assert len(waiting) == 1 and waiting[0] > order
        whole = rig.held()["collateral"]
        await rig.settled()
        assert rig.held()["collateral"] == whole - whole // 2


async def test_a_retry_that_fails_says_so_and_still_gives_the_first_fee_back() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        rig.fault("silent_keeper", "answer:market_close", times=-1)
        found = await rig.done("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        balance = rig.usdc(rig.user)
        await rig.done("approve", rig.venue.at["storage"], 0, to="usdc")
        await rig.advance(31)
        found = await rig.done("closeTradeMarketTimeout", order, True)
        assert one(found, "MarketCloseFailed") and one(found, "OracleFeeRefunded")
        assert rig.usdc(rig.user) == balance + 100_000
        assert rig.venue.read("storage", "getPendingOrderIds", rig.user) == ()


async def test_only_the_keeper_answers_and_only_the_venue_moves_what_the_storage_holds() -> None:
    async with ostium_rig() as rig:
        rig.fault("silent_keeper", "answer:.*", times=-1)
        found = await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        answer = (order, 50 * PRICE, 50 * PRICE, 50 * PRICE, False)
        assert rig.refusal("answer", answer, to="prices") == "NotForwarder"
        assert rig.refusal("openTradeMarketCallback", answer, to="callbacks") == "NotPriceUpKeep"
        trigger = (2, rig.user, SOL, 0, 0)
        assert rig.refusal("executeAutomationOrder", *trigger) == "NotTradesUpKeep"
        away = (rig.venue.at["storage"], rig.user, MILLION)
        assert rig.refusal("transferUsdc", *away, to="storage") == "NotTradingOrCallbacks"
        assert rig.refusal("sendAssets", MILLION, rig.user, to="vault") == "NotCallbacks"
        assert rig.refusal("getPrice", SOL, 0, 1, to="prices") == "NotTrading"
        assert rig.refusal("pause") == "NotManager" and rig.refusal("done") == "NotGov"


async def test_a_top_up_is_refused_above_the_caps() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        assert rig.refusal("topUpCollateral", SOL, 0, 0) == "WrongParams"
        await rig.owner_does("trading", "setMaxAllowedCollateral", 150 * MILLION)
        assert rig.refusal("topUpCollateral", SOL, 0, 60 * MILLION) == "AboveMaxAllowedCollateral"
        assert rig.refusal("topUpCollateral", SOL, 0, 1_000 * MILLION) == "AboveMaxAllowedCollateral"
        await rig.owner_does("trading", "setMaxAllowedCollateral", 10_000 * MILLION)
        assert rig.refusal("topUpCollateral", SOL, 0, 1_000 * MILLION) == "WrongLeverage"
        assert rig.refusal("removeCollateral", SOL, 0, 99_400_000) == "WrongParams"
        assert rig.refusal("removeCollateral", SOL, 0, 90 * MILLION) == "WrongLeverage"
