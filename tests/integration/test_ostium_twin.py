"""A trade's life on the Ostium twin: asked for, settled by the keeper, changed, closed; and what reaches the wallet."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.evm_rig import MILLION
from tests.ostium_rig import (
    LIMIT,
    MARKET,
    NO_BUILDER,
    NVDA,
    PRICE,
    SOL,
    START_USDC,
    STOP,
    one,
    ostium_rig,
    paid,
)
from twins.ostium.deployment import interface

CENT_18 = 10**16


async def test_a_long_is_opened_at_the_ask_and_closed_at_the_bid_for_what_the_price_has_brought() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        held, info = rig.held(), rig.venue.read("storage", "getOpenTradeInfo", rig.user, SOL, 0)
        # 1,000 of notional: 5 bps and the oracle's fee are taken from the collateral.
        assert held["collateral"] == 100 * MILLION - 500_000 - 100_000
        assert held["openPrice"] == 10_002 * CENT_18 and held["buy"] and held["leverage"] == 1_000
        assert info["tradeId"] == trade
        assert info["oiNotional"] == held["collateral"] * 10**12 * 10 * 10**18 // held["openPrice"]
        assert held["tp"] == held["openPrice"] * 190 // 100, "900 per cent at ten times"
        assert rig.usdc(rig.user) == (START_USDC - 100) * MILLION
        rig.pin(110)
        order = await rig.closed(price=110)
        settlement = rig.settlement(order)
        closed = one(settlement, "MarketCloseExecutedV2").args
        fees = one(settlement, "FeesChargedV2").args
        assert closed["price"] == 109_978 * CENT_18 // 10 and closed["tradeId"] == trade
        gain_p = (closed["price"] - held["openPrice"]) * MILLION * 1_000 // held["openPrice"]
        assert closed["percentProfit"] == gain_p
        value = held["collateral"] + held["collateral"] * gain_p // MILLION // 100 - fees["rolloverFees"]
        assert closed["usdcSentToTrader"] == value
        assert paid(settlement, rig.user) == value + 100_000, "a full close gives the oracle's fee back"
        assert rig.usdc(rig.user) == (START_USDC - 100) * MILLION + value
        assert rig.held()["leverage"] == 0 and rig.twin.book.trades[trade].is_open is False


async def test_a_short_loses_when_the_price_rises_and_the_vault_takes_it() -> None:
    async with ostium_rig() as rig:
        before = rig.usdc(rig.venue.at["vault"])
        await rig.opened(buy=False)
        held = rig.held()
        assert held["openPrice"] == 9_998 * CENT_18
        rig.pin(102)
        settlement = rig.settlement(await rig.closed(price=102))
        closed = one(settlement, "MarketCloseExecutedV2").args
        assert closed["percentProfit"] < 0
        assert paid(settlement, rig.user) == closed["usdcSentToTrader"] + 100_000
        taken = rig.usdc(rig.venue.at["vault"]) - before
        assert taken == held["collateral"] - closed["usdcSentToTrader"] > 0


async def test_the_keeper_answers_a_second_or_two_after_the_order_and_not_before() -> None:
    async with ostium_rig() as rig:
        found = await rig.done("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)
        order = one(found, "PriceRequestedV2").args["orderId"]
        assert rig.venue.read("storage", "getPendingOrderIds", rig.user) == (order,)
        assert order in rig.twin.book.waiting
        asked_s = rig.twin.book.orders[order].initiated_s
        await rig.settled()
        assert rig.twin.book.orders[order].executed_s - asked_s in (1, 2)
        assert rig.venue.read("storage", "getPendingOrderIds", rig.user) == ()


async def test_a_part_is_closed_and_the_rest_goes_on_while_the_oracles_fee_stays_away() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        whole = rig.held()
        balance = rig.usdc(rig.user)
        rig.pin(101)
        settlement = rig.settlement(await rig.closed(2_500, price=101))
        closed = one(settlement, "MarketCloseExecutedV2").args
        assert closed["percentageClosed"] == 2_500
        assert not [event for event in settlement if event.name == "OracleFeeRefunded"]
        assert rig.usdc(rig.user) == balance - 100_000 + closed["usdcSentToTrader"]
        rest = rig.held()
        assert rest["collateral"] == whole["collateral"] - whole["collateral"] * 2_500 // 10_000
        assert rest["leverage"] == whole["leverage"]
        assert rig.twin.book.open[trade].collateral == rest["collateral"]
        await rig.closed(0, price=101)
        assert rig.held()["leverage"] == 0, "a percentage of 0 is all of it"


async def test_a_slot_is_used_again_and_the_trades_id_is_the_order_that_opened_it() -> None:
    async with ostium_rig() as rig:
        first, second = await rig.opened(), await rig.opened(buy=False)
        assert (rig.held(0)["buy"], rig.held(1)["buy"]) == (True, False)
        await rig.closed()
        third = await rig.opened(collateral_usdc=50)
        info = rig.venue.read("storage", "getOpenTradeInfo", rig.user, SOL, 0)
        assert info["tradeId"] == third > second > first
        assert rig.venue.read("storage", "openTradesCount", rig.user, SOL) == 2


async def test_a_delegate_acts_for_a_trader_and_payouts_go_to_the_trader() -> None:
    async with ostium_rig() as rig:
        action = bytes.fromhex(
            interface("trading").call("openTrade", rig.trade(), NO_BUILDER, MARKET, 200)[2:]
        )
        assert rig.refusal("delegatedAction", rig.user, action, sender=rig.delegate) == "NotDelegate"
        await rig.done("setDelegate", rig.delegate)
        receipt = await rig.send("delegatedAction", rig.user, action, sender=rig.delegate)
        assert int(receipt["status"], 16) == 1
        await rig.settled()
        assert rig.held()["trader"] == rig.user and rig.usdc(rig.delegate) == 0
        assert rig.usdc(rig.user) == (START_USDC - 100) * MILLION
        for function, *values in (
            ("setDelegate", rig.delegate),
            ("removeDelegate",),
            ("delegatedAction", rig.user, b"1234"),
        ):
            inner = bytes.fromhex(interface("trading").call(function, *values)[2:])
            said = rig.refusal("delegatedAction", rig.user, inner, sender=rig.delegate)
            assert said == "DelegateForbidden"
        assert rig.refusal("delegatedAction", rig.user, b"123", sender=rig.delegate) == "InvalidCallData"
        wrong = bytes.fromhex(interface("trading").call("updateSl", SOL, 5, PRICE)[2:])
        assert rig.refusal("delegatedAction", rig.user, wrong, sender=rig.delegate) == "NoTradeFound"
        # What failed inside left nobody's account behind: the delegate still trades its own.
        assert rig.venue.read("trading", "_msgSender") != rig.user
        await rig.done("removeDelegate")
        assert rig.refusal("delegatedAction", rig.user, action, sender=rig.delegate) == "NotDelegate"


async def test_a_signature_delegates_once_and_dies_with_any_other_change() -> None:
    async with ostium_rig() as rig:
        account = Account.create()
        trading = rig.venue.at["trading"]

        def signed(nonce: int, expiry: int) -> tuple[object, ...]:
            typed = {
                "domain": {
                    "name": "Ostium",
                    "version": "1",
                    "chainId": rig.chain.chain_id,
                    "verifyingContract": trading,
                },
                "primaryType": "Delegation",
                "types": {
                    "EIP712Domain": [
                        {"name": "name", "type": "string"},
                        {"name": "version", "type": "string"},
                        {"name": "chainId", "type": "uint256"},
                        {"name": "verifyingContract", "type": "address"},
                    ],
                    "Delegation": [
                        {"name": "delegator", "type": "address"},
                        {"name": "delegate", "type": "address"},
                        {"name": "nonce", "type": "uint256"},
                        {"name": "expiry", "type": "uint256"},
                    ],
                },
                "message": {
                    "delegator": account.address,
                    "delegate": rig.delegate,
                    "nonce": nonce,
                    "expiry": expiry,
                },
            }
            s = account.sign_message(encode_typed_data(full_message=typed))
            words = (s.v, s.r.to_bytes(32, "big"), s.s.to_bytes(32, "big"))
            return (account.address, rig.delegate, nonce, expiry, *words)

        later = rig.clock.now_ms() // 1000 + 3_600
        assert rig.refusal("setDelegateWithSignature", *signed(0, 5)) == "SignatureExpired"
        assert rig.refusal("setDelegateWithSignature", *signed(1, later)) == "InvalidNonce"
        stolen = list(signed(0, later))
        stolen[1] = rig.users[1]
        assert rig.refusal("setDelegateWithSignature", *stolen) == "InvalidSignature"
        await rig.done("setDelegateWithSignature", *signed(0, later), sender=rig.users[1])
        assert rig.venue.read("trading", "delegations", account.address) == rig.delegate
        assert rig.refusal("setDelegateWithSignature", *signed(0, later)) == "InvalidNonce"
        assert rig.venue.read("trading", "DELEGATION_TYPEHASH").hex().startswith("dfebf82d")


async def test_a_stop_may_be_moved_into_the_gain_and_taken_away_a_take_profit_only_moved() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        found = await rig.done("updateSl", SOL, 0, 98 * PRICE)
        assert one(found, "SlUpdated").args["tradeId"] == trade
        assert rig.held()["sl"] == 98 * PRICE
        rig.pin(105)
        await rig.done("updateSl", SOL, 0, 104 * PRICE)
        await rig.done("updateSl", SOL, 0, 0)
        assert rig.held()["sl"] == 0
        # At most 85 per cent of the collateral may be lost: 8.5 per cent of the price at ten times.
        assert rig.refusal("updateSl", SOL, 0, 91 * PRICE) == "WrongSL"
        await rig.done("updateSl", SOL, 0, 92 * PRICE)
        assert rig.refusal("updateTp", SOL, 0, 0) == "WrongTP"
        assert rig.refusal("updateTp", SOL, 0, 191 * PRICE) == "WrongTP"
        await rig.done("updateTp", SOL, 0, 120 * PRICE)
        assert rig.held()["tp"] == 120 * PRICE and rig.twin.book.open[trade].tp == 120 * PRICE


async def test_collateral_is_added_in_whole_hundredths_of_leverage_and_taken_out_by_a_price() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        before, balance = rig.held(), rig.usdc(rig.user)
        found = await rig.done("topUpCollateral", SOL, 0, 33 * MILLION)
        added = one(found, "TopUpCollateralExecuted").args
        after = rig.held()
        assert added["tradeId"] == trade and after["leverage"] == added["newLeverage"] < 1_000
        assert after["collateral"] - before["collateral"] == added["topUpAmount"] <= 33 * MILLION
        assert rig.usdc(rig.user) == balance - added["topUpAmount"]
        assert after["collateral"] * after["leverage"] // 100 == pytest.approx(
            994 * MILLION, abs=10 * MILLION
        )
        found = await rig.done("removeCollateral", SOL, 0, 20 * MILLION)
        await rig.settled()
        order = one(found, "RemoveCollateralInitiated").args["orderId"]
        removed = one(rig.settlement(order), "RemoveCollateralExecuted").args
        assert rig.held()["collateral"] == after["collateral"] - removed["removeAmount"]
        assert rig.twin.book.open[trade].collateral == rig.held()["collateral"]
        assert rig.usdc(rig.user) == balance - added["topUpAmount"] + removed["removeAmount"] - 100_000


@pytest.mark.parametrize(("kind", "target", "then"), [(LIMIT, 95, 94.9), (STOP, 105, 105.1)])
async def test_a_limit_and_a_stop_order_wait_for_their_price(kind: int, target: float, then: float) -> None:
    async with ostium_rig() as rig:
        found = await rig.done("openTrade", rig.trade(price=target), NO_BUILDER, kind, 0)
        placed = one(found, "OpenLimitPlacedV2").args
        assert not [event for event in found if event.name == "PriceRequestedV2"]
        assert placed["trade"]["openPrice"] == target * PRICE and placed["orderType"] == kind
        assert rig.usdc(rig.user) == (START_USDC - 100) * MILLION
        await rig.advance(60)
        assert rig.held()["leverage"] == 0
        stored = rig.venue.read("storage", "getOpenLimitOrder", rig.user, SOL, 0)
        assert stored["targetPrice"] == target * PRICE
        rig.pin(then)
        await rig.advance(5)
        held = rig.held()
        assert held["leverage"] == 1_000
        assert held["openPrice"] == round(then * 10) * 10_002 * 10**13, "filled at the ask, not at the target"
        assert rig.refusal("cancelOpenLimitOrder", SOL, 0) == "NoLimitFound"


async def test_a_limit_order_is_changed_and_cancelled_for_the_oracles_fee() -> None:
    async with ostium_rig() as rig:
        await rig.done("openTrade", rig.trade(price=90), NO_BUILDER, LIMIT, 0)
        await rig.done("updateOpenLimitOrder", SOL, 0, 91 * PRICE, 120 * PRICE, 85 * PRICE)
        assert rig.refusal("updateOpenLimitOrder", SOL, 0, 91 * PRICE, 90 * PRICE, 0) == "WrongTP"
        found = await rig.done("cancelOpenLimitOrder", SOL, 0)
        assert one(found, "OpenLimitCanceled").args["index"] == 0
        assert rig.usdc(rig.user) == START_USDC * MILLION - 100_000


async def test_rollover_is_received_by_a_short_and_paid_by_a_long_as_the_contract_reckons_it() -> None:
    async with ostium_rig() as rig:
        await rig.opened(buy=True)
        await rig.opened(buy=False, sender=rig.users[1])
        await rig.advance(600)
        fees = {}
        for user, buy in ((rig.user, True), (rig.users[1], False)):
            held = rig.held(user=user)
            size = (buy, held["collateral"], held["leverage"])
            fees[buy] = rig.venue.read("infos", "getTradeRolloverFee", user, SOL, 0, *size)
        blocks = 600 / (365 * 86_400) * 994
        assert fees[True] / MILLION == pytest.approx(0.10 * blocks, rel=0.02)
        assert fees[False] / MILLION == pytest.approx(-0.06 * blocks, rel=0.02)
        settlement = rig.settlement(await rig.closed())
        charged = one(settlement, "FeesChargedV2").args["rolloverFees"]
        assert charged == pytest.approx(fees[True], rel=0.02)


async def test_a_builder_is_paid_at_the_opening_from_the_collateral() -> None:
    async with ostium_rig() as rig:
        builder = "0x" + "b1" * 20
        assert rig.refusal("openTrade", rig.trade(), (builder, 500_001), MARKET, 200) == "WrongParams"
        await rig.done("openTrade", rig.trade(), (builder, 500_000), MARKET, 200)
        await rig.settled()
        assert rig.usdc(builder) == 5 * MILLION
        assert rig.held()["collateral"] == 100 * MILLION - 500_000 - 100_000 - 5 * MILLION


async def test_a_share_is_traded_in_its_hours_above_the_overnight_cap_only_by_day() -> None:
    async with ostium_rig() as rig:
        rig.pin(180, NVDA)
        assert rig.refusal(
            "openTrade", rig.trade(pair=NVDA, leverage=20, price=180), NO_BUILDER, MARKET, 200
        ) == ("WrongLeverage")
        # The rig's time is midnight in London: the market is closed.
        found = await rig.done(
            "openTrade", rig.trade(pair=NVDA, leverage=5, price=180), NO_BUILDER, MARKET, 200
        )
        await rig.settled()
        assert rig.reason(one(found, "PriceRequestedV2").args["orderId"]) == "MARKET_CLOSED"
        assert rig.usdc(rig.user) == START_USDC * MILLION - 100_000
        await rig.advance(39 * 3_600)  # 2 January, 15:00 in London: 10:00 in New York
        day = rig.trade(pair=NVDA, leverage=20, price=180, day=True)
        await rig.done("openTrade", day, NO_BUILDER, MARKET, 200)
        await rig.settled()
        assert rig.held(pair=NVDA)["isDayTrade"]
        await rig.advance(6 * 3_600)
        assert rig.held(pair=NVDA)["leverage"] == 0, "day trades end at 15:45"
        [last] = [each for each in rig.twin.book.orders.values() if each.action == "CloseDayTrade"]
        assert not last.cancel_reason


async def test_a_fee_on_trades_that_are_closed_soon_can_be_switched_on_and_falls_with_their_age() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("callbacks", "setCloseFeeParams", 1_000, 100_000)
        charged = []
        for wait_s in (0, 500, 1_000):
            await rig.opened()
            await rig.advance(wait_s)
            settlement = rig.settlement(await rig.closed())
            fees = [event.args["closeFee"] for event in settlement if event.name == "CloseFeeCharged"]
            sent = one(settlement, "MarketCloseExecutedV2").args["usdcSentToTrader"]
            assert paid(settlement, rig.user) == sent + 100_000
            charged.append(sum(fees))
        # A tenth of a per cent of 994 of notional, and half of it.
        assert charged[0] == pytest.approx(994_000, rel=0.01) and charged[2] == 0
        assert charged[1] == pytest.approx(994_000 / 2, rel=0.02)
