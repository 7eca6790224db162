"""The keeper of the Ostium twin: what a price reaches, by which price it is judged and filled, and why orders are cancelled."""

from __future__ import annotations

import pytest

from tests.evm_rig import MILLION
from tests.ostium_rig import (
    LIMIT,
    MARKET,
    NO_BUILDER,
    NVDA,
    PRICE,
    SOL,
    START_USDC,
    OstiumRig,
    one,
    ostium_rig,
    paid,
)
from twins.ostium.book import Order

BID, ASK = 9_998, 10_002
ONE_PER_MILLION = 10**19
"""An impact by which a million of volume moves the price by one per cent."""


def last(rig: OstiumRig, action: str) -> Order:
    return [each for each in rig.twin.book.orders.values() if each.action == action][-1]


async def triggered(rig: OstiumRig, kind: int) -> str:
    """Start something by hand at the price of now, and return why it came to nothing, "NONE" if it did not."""
    now_s = rig.clock.now_ms() // 1000
    await rig.done("trigger", kind, rig.user, SOL, 0, now_s, sender=rig.venue.keeper, to="prices")
    await rig.settled()
    return rig.reason(max(rig.twin.book.orders))


# --- stops, take profits, liquidations ------------------------------------------------------------------------------


async def test_a_stop_is_judged_by_the_middle_and_filled_at_the_bid() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        await rig.done("updateSl", SOL, 0, 99 * PRICE)
        rig.pin(99.01)  # the bid is 98.99 already: below the stop, and no reason to close
        await rig.advance(10)
        assert rig.held()["leverage"] != 0 and await triggered(rig, 1) == "NOT_HIT"
        rig.pin(99)
        await rig.advance(5)
        order = last(rig, "StopLoss")
        closed = one(rig.settlement(order.id), "LimitCloseExecuted").args
        assert (closed["tradeId"], closed["orderType"]) == (trade, 1)
        assert closed["price"] == 99 * BID * PRICE // 10_000, "not at the stop"
        assert paid(rig.settlement(order.id), rig.user) == closed["usdcSentToTrader"]
        assert rig.held()["leverage"] == 0


async def test_a_stop_of_a_short_that_lies_beyond_entry_takes_the_gain() -> None:
    async with ostium_rig() as rig:
        await rig.opened(buy=False)
        rig.pin(90)
        await rig.done("updateSl", SOL, 0, 92 * PRICE)
        rig.pin(93)
        await rig.advance(5)
        closed = one(rig.settlement(last(rig, "StopLoss").id), "LimitCloseExecuted").args
        assert closed["price"] == 93 * ASK * PRICE // 10_000
        assert closed["usdcSentToTrader"] > 160 * MILLION
        assert rig.usdc(rig.user) == (START_USDC - 100) * MILLION + closed["usdcSentToTrader"]


async def test_a_take_profit_is_judged_and_filled_at_the_price_of_the_trade() -> None:
    async with ostium_rig() as rig:
        await rig.opened(tp=110)
        rig.pin(110.01)  # the bid is below 110
        await rig.advance(5)
        assert rig.held()["leverage"] != 0 and await triggered(rig, 0) == "NOT_HIT"
        rig.pin(110.1)
        await rig.advance(5)
        closed = one(rig.settlement(last(rig, "TakeProfit").id), "LimitCloseExecuted").args
        assert closed["orderType"] == 0 and closed["price"] >= 110 * PRICE


async def test_a_liquidation_pays_nothing_and_happens_where_the_contract_says() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        held = rig.held()
        cap = rig.venue.read("pairs", "pairMaxLeverage", SOL)
        size = (held["openPrice"], True, held["collateral"], held["leverage"], cap)
        price = rig.venue.read("infos", "getTradeLiquidationPrice", rig.user, SOL, 0, *size)
        # 25 per cent of the collateral times 10/50: a margin of 5 per cent.
        assert price == pytest.approx(held["openPrice"] * (1 - 0.095), rel=1e-5)
        rig.pin(price / PRICE + 0.01)
        await rig.advance(5)
        assert rig.held()["leverage"] != 0
        rig.pin(price / PRICE - 0.01)
        await rig.advance(5)
        settlement = rig.settlement(last(rig, "Liquidation").id)
        closed = one(settlement, "LimitCloseExecuted").args
        assert (closed["tradeId"], closed["orderType"], closed["usdcSentToTrader"]) == (trade, 2, 0)
        assert one(settlement, "VaultLiqFeeCharged").args["amount"] > 0
        assert paid(settlement, rig.user) == 0 and rig.usdc(rig.user) == (START_USDC - 100) * MILLION


async def test_a_market_close_below_the_margin_pays_nothing_though_its_event_names_a_value() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        rig.fault("silent_keeper", "trigger:.*", times=-1)
        vault = rig.usdc(rig.venue.at["vault"])
        collateral = rig.held()["collateral"]
        rig.pin(90.3)
        order = await rig.closed(price=90.3)
        settlement = rig.settlement(order)
        closed, fee = (
            one(settlement, "MarketCloseExecutedV2").args,
            one(settlement, "VaultLiqFeeCharged").args,
        )
        assert closed["usdcSentToTrader"] == fee["amount"] > 0
        assert (fee["orderId"], fee["tradeId"]) == (order, closed["tradeId"])
        assert paid(settlement, rig.user) == 100_000, "nothing but the oracle's fee comes back"
        assert rig.usdc(rig.venue.at["vault"]) == vault + collateral


async def test_a_gain_ends_at_nine_hundred_per_cent() -> None:
    async with ostium_rig() as rig:
        await rig.opened(leverage=50)
        rig.fault("silent_keeper", "trigger:.*", times=-1)
        collateral = rig.held()["collateral"]
        rig.pin(150)
        closed = one(rig.settlement(await rig.closed(price=150)), "MarketCloseExecutedV2").args
        assert closed["percentProfit"] == 900 * MILLION
        assert closed["usdcSentToTrader"] == pytest.approx(10 * collateral, rel=1e-6)


async def test_the_default_take_profit_ends_a_trade_at_nine_hundred_per_cent() -> None:
    async with ostium_rig() as rig:
        await rig.opened(leverage=50)
        rig.pin(119)
        await rig.advance(5)
        assert last(rig, "TakeProfit").profit_p == 900 * MILLION and not rig.twin.book.open


async def test_a_price_that_comes_and_goes_within_an_hour_that_nobody_watched_still_closes() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        await rig.done("updateSl", SOL, 0, 97 * PRICE)
        rig.clock.advance_to(rig.clock.now_ms() + 1_000_000)
        rig.pin(96)
        rig.clock.advance_to(rig.clock.now_ms() + 60_000)
        rig.pin(100)
        rig.clock.advance_to(rig.clock.now_ms() + 2_500_000)
        await rig.chain.catch_up()
        await rig.advance(2)
        closed = last(rig, "StopLoss")
        assert closed.price == 96 * BID * PRICE // 10_000 and not rig.twin.book.open


# --- cancelled, by reason -------------------------------------------------------------------------------------------


async def opening(rig: OstiumRig, **how: object) -> str:
    """Ask for an opening, let it settle, and return why it was cancelled."""
    found = await rig.done("openTrade", rig.trade(**how), NO_BUILDER, MARKET, 200)  # type: ignore[arg-type]
    await rig.settled()
    order = one(found, "PriceRequestedV2").args["orderId"]
    if (reason := rig.reason(order)) != "NONE":
        cancelled = one(rig.settlement(order), "MarketOpenCanceled").args
        assert paid(rig.settlement(order), rig.user) == 100 * MILLION - 100_000
        assert cancelled["trader"] == rig.user
    return reason


async def test_an_opening_is_cancelled_for_each_reason_and_costs_the_oracles_fee() -> None:
    async with ostium_rig() as rig:
        rig.pin(103)
        assert await opening(rig) == "SLIPPAGE"
        assert await opening(rig, buy=False) == "NONE", "a better price is no slippage"
        rig.pin(101.5)
        assert await opening(rig, tp=101) == "TP_REACHED"
        rig.pin(99)
        assert await opening(rig, sl=99.5) == "SL_REACHED"
        rig.pin(100)
        await rig.owner_does("storage", "setMaxOpenInterest", SOL, 900 * MILLION)
        assert await opening(rig) == "EXPOSURE_LIMITS"
        await rig.owner_does("storage", "setMaxOpenInterest", SOL, 9_000_000 * MILLION)
        rig.fault("keeper_price", "answer:market_open", closed=True)
        assert await opening(rig) == "MARKET_CLOSED"
        rig.fault("keeper_price", "answer:market_open", scale=1.05)
        assert await opening(rig) == "SLIPPAGE"
        await rig.owner_does("callbacks", "pause")
        assert await opening(rig) == "PAUSED"
        await rig.owner_does("callbacks", "pause")
        assert await opening(rig) == "NONE"


async def test_slippage_is_found_before_any_other_reason_but_a_pause() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("storage", "setMaxOpenInterest", SOL, 0)
        rig.pin(103)
        assert await opening(rig, tp=102) == "SLIPPAGE"
        await rig.owner_does("callbacks", "pause")
        assert await opening(rig, tp=102) == "PAUSED"


async def test_an_opening_that_would_lose_too_much_by_its_own_impact_is_cancelled() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("infos", "setMaxNegativePnlOnOpenP", 10)
        # What came before counts, and decays.
        await rig.owner_does("infos", "setPairDynamicSpreadParams", SOL, (0, 10**15, ONE_PER_MILLION))
        assert await opening(rig, leverage=50) == "NONE"
        await rig.opened(collateral_usdc=6_000, leverage=50, sender=rig.users[1])
        assert await opening(rig, leverage=50) == "PRICE_IMPACT"
        await rig.advance(3_600)
        assert await opening(rig, leverage=50) == "NONE"


async def test_a_purchase_is_dearer_the_larger_it_is_once_the_pair_has_impact() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("infos", "setPairDynamicSpreadParams", SOL, (0, 10**18, ONE_PER_MILLION))
        await rig.opened(collateral_usdc=1_000)
        small = rig.held(0)["openPrice"]
        await rig.advance(3_600)
        await rig.opened(collateral_usdc=5_000)
        large = rig.held(1)["openPrice"]
        # Half of what the trade itself moves: 10,000 and 50,000 of notional at one per cent a million.
        assert small == pytest.approx(100 * PRICE * (1 + 0.0002 + 0.0000497), rel=1e-6)
        assert large == pytest.approx(100 * PRICE * (1 + 0.0002 + 0.0002485), rel=1e-6)


async def test_a_leverage_above_a_cap_that_fell_meanwhile_is_cancelled() -> None:
    async with ostium_rig() as rig:
        rig.fault("silent_keeper", "answer:.*", times=6)
        found = await rig.done("openTrade", rig.trade(leverage=40), NO_BUILDER, MARKET, 200)
        pair = rig.venue.read("pairs", "pairs", SOL)
        lower = tuple({**pair, "maxLeverage": 2_000}.values())
        await rig.owner_does("pairs", "setPair", SOL, lower)
        await rig.advance(8)
        assert rig.reason(one(found, "PriceRequestedV2").args["orderId"]) == "MAX_LEVERAGE"


async def test_a_close_is_cancelled_for_slippage_and_keeps_the_oracles_fee() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        balance = rig.usdc(rig.user)
        rig.pin(97)
        order = await rig.closed(price=100)
        assert rig.reason(order) == "SLIPPAGE"
        cancelled = one(rig.settlement(order), "MarketCloseCanceled").args
        assert (cancelled["orderId"], cancelled["index"], cancelled["cancelReason"]) == (order, 0, 3)
        assert rig.usdc(rig.user) == balance - 100_000 and rig.held()["leverage"] != 0
        assert rig.reason(await rig.closed(price=97)) == "NONE"


async def test_a_close_meets_a_market_that_is_closed_a_trade_that_is_gone_and_another_in_its_slot() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        rig.twin.control("hours", {"pair": SOL, "open": False})
        assert rig.reason(await rig.closed()) == "MARKET_CLOSED"
        rig.twin.control("hours", {"pair": SOL, "open": None})
        # The keeper sleeps over a close for longer than the trigger's timeout; a stop closes the trade meanwhile.
        silent = rig.fault("silent_keeper", "answer:market_close", times=-1)
        found = await rig.done("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        first = one(found, "PriceRequestedV2").args["orderId"]
        await rig.advance(31)
        found = await rig.done("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        second = one(found, "PriceRequestedV2").args["orderId"]
        await rig.advance(31)
        await rig.done("updateSl", SOL, 0, 101 * PRICE)
        await rig.advance(5)
        assert rig.held()["leverage"] == 0
        rig.faults.clear()
        silent = rig.fault("silent_keeper", "answer:market_close", times=1)
        await rig.advance(1)
        assert silent.hits == 1 and rig.reason(second) == "NO_TRADE"
        silent = rig.fault("silent_keeper", "answer:market_close", times=-1)
        await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        await rig.advance(4)
        silent.times = 0
        await rig.advance(4)
        assert rig.reason(first) == "WRONG_TRADE" and rig.held()["leverage"] != 0


async def test_collateral_is_not_taken_out_of_a_trade_that_could_not_bear_it() -> None:
    async with ostium_rig() as rig:
        await rig.opened(leverage=5)
        rig.pin(88)
        for amount, price, wanted in ((80 * MILLION, 88, "UNDER_LIQUIDATION"), (10 * MILLION, 88, "NONE")):
            rig.pin(price)
            found = await rig.done("removeCollateral", SOL, 0, amount)
            await rig.settled()
            assert rig.reason(one(found, "PriceRequestedV2").args["orderId"]) == wanted


async def test_a_limit_order_whose_stop_is_passed_or_whose_market_is_full_stays_where_it_is() -> None:
    async with ostium_rig() as rig:
        await rig.done("openTrade", rig.trade(price=95, sl=94.5), NO_BUILDER, LIMIT, 0)
        rig.pin(94)
        await rig.advance(5)
        order = last(rig, "Open")
        assert rig.reason(order.id) == "SL_REACHED"
        assert one(rig.settlement(order.id), "AutomationOpenOrderCanceled").args["cancelReason"] == 5
        assert rig.venue.read("storage", "hasOpenLimitOrder", rig.user, SOL, 0)


async def test_a_day_trade_is_not_opened_after_its_end() -> None:
    async with ostium_rig() as rig:
        rig.pin(180, NVDA)
        rig.twin.control("hours", {"pair": NVDA, "open": True})  # midnight: day trading is closed
        day = rig.trade(pair=NVDA, leverage=20, price=180, day=True)
        found = await rig.done("openTrade", day, NO_BUILDER, MARKET, 200)
        await rig.settled()
        assert rig.reason(one(found, "PriceRequestedV2").args["orderId"]) == "DAY_TRADE_NOT_ALLOWED"


async def test_a_trigger_that_the_price_does_not_bear_out_is_not_hit() -> None:
    async with ostium_rig() as rig:
        await rig.opened(sl=95, tp=120)
        for kind, reason in (
            (1, "NOT_HIT"),
            (0, "NOT_HIT"),
            (2, "NOT_HIT"),
            (4, "CLOSE_DAY_TRADE_NOT_ALLOWED"),
        ):
            assert await triggered(rig, kind) == reason
        # A stop that was set after the time of the price is left out.
        found = await rig.done("trigger", 1, rig.user, SOL, 0, 1, sender=rig.venue.keeper, to="prices")
        assert one(found, "AutomationPerformed").args["status"] == 8


# --- the keeper and the vault that fail -----------------------------------------------------------------------------


async def test_a_silent_keeper_leaves_orders_where_they_are_and_goes_on_later() -> None:
    async with ostium_rig() as rig:
        fault = rig.fault("silent_keeper", "answer:market_open", times=20)
        found = await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        await rig.advance(15)
        assert fault.hits and order in rig.twin.book.waiting
        await rig.advance(15)
        assert order not in rig.twin.book.waiting and rig.held()["leverage"] == 1_000


async def test_a_drained_vault_cannot_pay_a_gain_and_the_order_waits_until_it_can() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        rig.twin.control("drain", {"left_usdc": 1})
        rig.pin(110)
        found = await rig.done("closeTradeMarket", SOL, 0, 10_000, 110 * PRICE, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        await rig.advance(10)
        assert rig.venue.read("vault", "totalAssets") == MILLION
        assert order in rig.twin.book.waiting and "3786fdd4" in rig.twin.keeper.refused[order]
        await rig.done("transfer", rig.venue.at["vault"], 1_000 * MILLION, sender=rig.venue.owner, to="usdc")
        await rig.advance(10)
        assert rig.reason(order) == "NONE" and rig.held()["leverage"] == 0


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_reorganisation_takes_a_settlement_away_and_the_keeper_settles_again(depth: int) -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        await rig.done("closeTradeMarket", SOL, 0, 10_000, 100 * PRICE, 200)
        while rig.twin.book.waiting:
            await rig.advance(1)
        assert rig.held()["leverage"] == 0
        for _ in range(depth - 1):
            rig.venue.node.rpc("evm_mine")
        rig.venue.node.rpc("anvil_reorg", depth, [])
        assert rig.held()["leverage"] != 0
        await rig.advance(10)
        assert rig.held()["leverage"] == 0 and not rig.twin.book.open and not rig.twin.book.waiting
        assert rig.twin.book.trades[trade].is_open is False


async def test_a_block_has_room_for_everything_that_is_asked_for_at_once_as_on_arbitrum() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("storage", "setMaxTradesPerPair", 200)
        await rig.owner_does("storage", "setMaxPendingMarketOrders", 200)
        for _ in range(140):
            call = rig.trade(collateral_usdc=20, leverage=2)
            rig.venue.send("trading", "openTrade", call, NO_BUILDER, MARKET, 200, sender=rig.user, mine=False)
        await rig.advance(1)
        assert len(rig.twin.book.waiting) == 140
        await rig.settled()
        assert len(rig.twin.book.open) == 140


async def test_an_order_never_gets_a_price_of_before_it_was_sent() -> None:
    async with ostium_rig(later_ms=900) as rig:
        await rig.advance(0.95)
        rig.pin(97)
        found = await rig.done("openTrade", rig.trade(price=97), NO_BUILDER, MARKET, 100)
        await rig.settled()
        assert rig.reason(one(found, "PriceRequestedV2").args["orderId"]) == "NONE"
